free = catalogue[catalogue.licence == "apache-2.0"]
reads_pairs = free.kind.isin(["cross-encoder", "with template"])
anna = free[reads_pairs & (free.languages != "en") & (free.context >= 5000)]
ben = free[(free.kind == "cross-encoder") & (free.context >= 400) & (free.millions < 100)]
chiara = free[free.kind == "late interaction"]
needs = {"Anna": anna, "Ben": ben, "Chiara": chiara}
choice = {name: rows.loc[rows.millions.idxmin(), "model"] for name, rows in needs.items()}
for name, model in choice.items():
    print(f"{name:7} {model}")

assert choice["Anna"] == "Alibaba-NLP/gte-multilingual-reranker-base"
assert choice["Ben"] == "cross-encoder/ms-marco-MiniLM-L6-v2"
assert choice["Chiara"] == "answerdotai/answerai-colbert-small-v1"
