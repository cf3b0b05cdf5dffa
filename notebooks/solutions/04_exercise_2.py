missed = scored[(scored["grade"] == 3) & (scored["score"] < 0.5)]
fooled = scored[(scored["grade"] == 0) & (scored["score"] > 0.5)]

# The missed ones are mostly paraphrases and misspellings: query and passage use other words.
# Those that fool the model look like an answer to a similar question.
print(len(missed), "missed,", len(fooled), "fooled, of", len(scored))

assert (missed["grade"] == 3).all() and (fooled["grade"] == 0).all()
assert len(missed) + len(fooled) < len(scored) / 2
