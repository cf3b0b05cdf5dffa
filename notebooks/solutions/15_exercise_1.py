learned, asked = list(train.queries.values()), list(held_out.queries.values())
vectors = [encoder.encode(texts, normalize_embeddings=True) for texts in (learned, asked)]
cosines = vectors[0] @ vectors[1].T
row, column = divmod(int(cosines.argmax()), cosines.shape[1])
closest = (learned[row], asked[column], float(cosines.max()))
print(closest)

# About one thing, but not one question: their answers are two documents, so it is no leak. Two
# wordings of one question would have one answer, and `check_training_data` finds that.
assert closest[2] > 0.7
assert learned[row] != asked[column]
