# A reranker looks for texts on the query's subject. None is closer to it than the query itself.
ideas = [
    "What money is used in Tokyo? I have been asking myself what money is used in Tokyo.",
    "The money that is used in Tokyo is used in all of Tokyo.",
    "Tokyo is a city in which money is used.",
]
asked = client.score("What money is used in Tokyo?", [*ideas, "Japan uses the yen."])
*fooled, honest = asked.scores
for score, document in zip(asked.scores, asked.documents):
    print(f"{score:.2f} {document}")

decoy = ideas[fooled.index(max(fooled))]
assert max(fooled) > honest
