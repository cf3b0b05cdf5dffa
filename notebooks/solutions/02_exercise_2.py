def logit(p):
    """Return the number whose sigmoid is p, for p between 0 and 1."""
    return math.log(p / (1 - p))


print(round(logit(result.score), 1), round(raw.score, 1))

assert abs(logit(0.5)) < 1e-12
# Where the curve is flat, a small step of the score is a large step of the logit.
assert abs(logit(result.score) - raw.score) < 1
