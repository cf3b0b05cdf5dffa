def retries_for(seconds):
    """Return how many retries wait for at least so many seconds, in the worst case."""
    retries, waited, pause = 0, 0, 0.25
    while waited < seconds:
        waited += pause / 2
        pause = min(2 * pause, 8)
        retries += 1
    return retries


print(retries_for(15), "for 15 seconds,", retries_for(120), "for two minutes")

assert retries_for(0) == 0 and retries_for(0.1) == 1
assert (retries_for(15), retries_for(120)) == (8, 35)
