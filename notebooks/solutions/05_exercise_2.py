def rank_all(query, documents):
    """Return all positions, best first; each different text is scored once."""
    different = list(dict.fromkeys(documents))
    ranked = client.rerank(query, different)
    copies = {text: [] for text in different}
    for position, text in enumerate(documents):
        copies[text].append(position)
    return [position for text in ranked.documents for position in copies[text]]


print(rank_all(query, twice))

assert rank_all(query, twice) == [0, 2, 1, 3]
