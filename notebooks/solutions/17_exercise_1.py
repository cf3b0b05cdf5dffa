def from_tei(answer):
    """Return the positions of TEI's answer, best first."""
    best_first = sorted(answer, key=lambda entry: -entry["score"])
    return [entry["index"] for entry in best_first]


shuffled = [{"index": 0, "score": 0.1}, {"index": 2, "score": 0.9}, {"index": 1, "score": 0.5}]
assert from_tei(shuffled) == [2, 1, 0]
