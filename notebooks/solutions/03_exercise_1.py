currencies = corpus.passages(subject="geography", kind="currency")
money = client.score("What money do I need in Switzerland?", list(currencies["text"]))
best = money.ranked().documents[0]
bar_chart(money)
print(best)

assert "Swi" in best
