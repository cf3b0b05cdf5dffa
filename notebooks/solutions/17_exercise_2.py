filler_text = " ".join(filler)
scores = plain.score_long(query, [filler_text, long_text, documents[0]])
best = scores.index(max(scores))
assert best == 1
