passages = corpus.passages(subject="geography")
reciprocal_ranks = []
for row in corpus.queries(subject="geography", kind="question").itertuples():
    scores = client.score(row.text, list(passages["text"])).scores
    grades = corpus.judgments().query("query_id == @row.query_id and grade == 3")
    order = passages.assign(score=scores).sort_values("score", ascending=False)["passage_id"]
    first = order.isin(grades["passage_id"]).to_numpy().argmax() + 1
    reciprocal_ranks.append(1 / first)

mean_reciprocal_rank = sum(reciprocal_ranks) / len(reciprocal_ranks)
print(round(mean_reciprocal_rank, 2), "over", len(reciprocal_ranks), "questions")

# A random ranking puts the first full answer near the middle of the passages: about 0.1.
assert 0.5 < mean_reciprocal_rank <= 1
