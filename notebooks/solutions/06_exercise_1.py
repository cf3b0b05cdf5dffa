# A reranker looks for what the query is about. Nothing is more about it than the query itself.
decoy = "What money is used in Tokyo? I have been asking myself what money is used in Tokyo."
fooled = client.score("What money is used in Tokyo?", [decoy, "Japan uses the yen."])
print([round(score, 2) for score in fooled])

assert fooled.scores[0] > fooled.scores[1]
