from math import ceil

needed = 20 * 40
usable = speeds.loc["paragraphs", "pairs a second"] / 2
machines = ceil(needed / usable)
print(f"{needed} pairs a second, {usable:.0f} on each machine: {machines} machines")

assert (machines - 1) * usable < needed <= machines * usable
