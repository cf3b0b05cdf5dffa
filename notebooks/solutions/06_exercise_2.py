from helpers.client import ScoreResult


def words(text):
    """Return the words of a text in lower case, without marks at their ends."""
    return {word.strip(".,?!").casefold() for word in text.split()}


def overlap(query, documents):
    """Score each document by the share of the query's words that it contains."""
    wanted = words(query)
    scores = tuple(len(wanted & words(document)) / len(wanted) for document in documents)
    return ScoreResult((query,) * len(documents), tuple(documents), scores, "overlap", 0)


counted = Playground(overlap, "What money is used in Tokyo?", documents)
display(counted)

# The yen shares no word with the query; "Tokyo" and the little word "in" win a point elsewhere.
assert counted.result.scores[documents.index("Japan uses the yen.")] == 0
assert counted.result.ranked().documents[0] != "Japan uses the yen."
