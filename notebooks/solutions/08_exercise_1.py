def best_paragraph(query, text):
    """Return the paragraph of a text that has the highest score."""
    return client.score(query, text.split("\n\n")).ranked().documents[0]


hits = [row.answer in best_paragraph(row.query, row.text) for row in stories.itertuples()]
print(sum(hits), "of", len(hits))

assert best_paragraph(story.query, story.text) in story.text.split("\n\n")
assert sum(hits) >= len(hits) / 2
