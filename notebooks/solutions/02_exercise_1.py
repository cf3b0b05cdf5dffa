query = "Which river flows through the capital of France?"
answers = "The Seine crosses Paris from east to west."
repeats = "Which capital of which river is France? The river through the capital flows and flows."

for document in (answers, repeats):
    print(round(client.score(query, document).score, 2), document)

assert client.score(query, answers).score > client.score(query, repeats).score
