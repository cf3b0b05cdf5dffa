# A reranker looks for what the query is about. Nothing is more about it than the query itself.
decoy = "How do I pay in Tokyo? I have been asking myself how to pay in Tokyo."
fooled = client.score("How do I pay in Tokyo?", [decoy, "Japan uses the yen."])
print([round(score, 2) for score in fooled])

assert fooled.scores[0] > fooled.scores[1]
