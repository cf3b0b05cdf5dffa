def best_parts(query, text, count):
    """Return up to `count` chunks of a text, best first, none of which shares tokens."""
    result = client.score_long(query, text)
    chosen = []
    for _, chunk in sorted(zip(result.scores, result.chunks), key=lambda pair: -pair[0]):
        if all(set(chunk.tokens).isdisjoint(other.tokens) for other in chosen):
            chosen.append(chunk)
    return chosen[:count]


parts_to_read = best_parts(story.query, story.text, 3)
for chunk in parts_to_read:
    print(chunk.tokens, chunk.text[:60].replace("\n", " "))

places = [set(chunk.tokens) for chunk in parts_to_read]
assert parts_to_read[0] == client.score_long(story.query, story.text).best
assert 1 <= len(places) <= 3 and len(set().union(*places)) == sum(map(len, places))
