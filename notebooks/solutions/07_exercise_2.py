def repaired(shown):
    """Undo one sigmoid of two: its inverse gives back the probability."""
    return np.log(shown / (1 - shown))


shown = sigmoid(pairs["probability"])
print("with all digits: off by", f"{np.abs(repaired(shown) - pairs['probability']).max():.0e}")
# The second sigmoid squeezed the scores into a quarter of their range, so each digit tells less.
rough = np.abs(repaired(shown.round(3)) - pairs["probability"]).max()
print("with three digits: off by", f"{rough:.0e}")

assert np.allclose(repaired(shown), pairs["probability"])
assert 0.001 < rough < 0.003
