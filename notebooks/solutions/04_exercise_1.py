def score_grid(queries, documents):
    """Return a DataFrame of scores, one row a query and one column a document."""
    left, right = zip(*itertools.product(queries, documents), strict=True)
    scores = client.score(left, right).scores
    width = len(documents)
    rows = [scores[start : start + width] for start in range(0, len(scores), width)]
    return pd.DataFrame(rows, index=queries, columns=documents)


solution = score_grid(asked, texts)
print(solution.round(2))

assert solution.shape == (2, 3)
assert list(solution.idxmax(axis="columns")) == texts[:2]
