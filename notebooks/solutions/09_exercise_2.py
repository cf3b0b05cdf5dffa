agreed = [q for q in data.queries if runs["BM25"][q][:1] == runs["bi-encoder"][q][:1]]
grades = [data.judgments[q].get(runs["bi-encoder"][q][0], 0) for q in agreed]
agreement = (len(agreed) / len(data.queries), np.mean([grade >= 2 for grade in grades]))
print(f"{agreement[0]:.0%} of the queries, {agreement[1]:.0%} of their first documents relevant")

assert 0.2 < agreement[0] < 0.8
assert agreement[1] > 0.8
