drawn = pd.Series(list(data.queries)).sample(25, random_state=0)
few = compare(scores[scores.query_id.isin(drawn)], "BM25", "BM25 + reranker")
every = compare(scores, "BM25", "BM25 + reranker")

for found in (few, every):
    print(f"{found.queries} queries: {found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]")

# A quarter of the width takes sixteen times the queries: it falls with the square root.
assert few.queries == 25
assert few.high - few.low > 1.5 * (every.high - every.low)
