def logit(p):
    """Return the number whose sigmoid is p, for p between 0 and 1."""
    return math.log(p / (1 - p))


print("from the server:", round(raw.score, 2), "from the score:", round(logit(result.score), 2))
for digits in (3, 2):
    rounded = round(result.score, digits)
    # 1.00 has no logit at all: the sigmoid never reaches it.
    print(digits, "digits:", round(logit(rounded), 2) if rounded < 1 else "no logit")

assert abs(logit(0.5)) < 1e-12
# All digits of the score together still hold its logit.
assert abs(logit(result.score) - raw.score) < 0.2
