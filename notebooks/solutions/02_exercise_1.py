query = "Which river flows through the capital of France?"
answers = "From its bridges in Paris one sees boats on the Seine."
repeats = "Which capital of which river is France? The river through the capital flows and flows."

for document in (answers, repeats):
    print(round(client.score(query, document).score, 2), document)

# If the second one wins, shared words have fooled the model. If a ranking matters to you, test it
# with such texts, because somebody will write them.
shared = set(query.lower().strip("?").split()) & set(answers.lower().strip(".").split())
assert shared <= {"the", "of", "in"}
assert all(0 <= client.score(query, document).score <= 1 for document in (answers, repeats))
