missed = scored[(scored["grade"] == 3) & (scored["score"] < 0.5)]
fooled = scored[(scored["grade"] == 0) & (scored["score"] > 0.5)]

# Missed are mostly paraphrases and misspellings: the words of query and passage differ.
# Fooling are passages that look like an answer to a neighbouring question.
print(len(missed), "missed,", len(fooled), "fooled, of", len(scored))

assert (missed["grade"] == 3).all() and (fooled["grade"] == 0).all()
assert len(missed) + len(fooled) < len(scored) / 2
