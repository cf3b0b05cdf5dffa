agreed = {q for q in data.queries if runs["BM25"][q][:1] == runs["bi-encoder"][q][:1]}
selective = {
    q: runs["bi-encoder" if q in agreed else "bi-encoder + reranker"][q] for q in data.queries
}

measured = measure({**runs, "selective": selective}, data)
cost = compare(measured, "bi-encoder + reranker", "selective")
print(f"{len(agreed) / len(data.queries):.0%} of the queries need no reranker")
print(f"nDCG@10 {cost.difference:+.3f} [{cost.low:+.3f}, {cost.high:+.3f}]")

assert 0.2 < len(agreed) / len(data.queries) < 0.8
assert abs(cost.difference) < 0.05
