from math import ceil

seconds = 8 * 3600
machines = ceil(50_000_000 / (two.pairs_per_second * seconds))
print(machines, "machines")

assert (machines - 1) * two.pairs_per_second * seconds < 50_000_000
assert machines * two.pairs_per_second * seconds >= 50_000_000
