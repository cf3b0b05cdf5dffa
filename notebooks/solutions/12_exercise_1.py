budget = 3 * grid.p95.min()
allowed = grid[grid.p95 <= budget]
choice = allowed.loc[allowed.pairs_per_second.idxmax()]
print(f"{choice.batch_size:.0f} pairs a request, {choice.concurrency:.0f} requests in flight:")
print(f"{choice.pairs_per_second:.0f} pairs a second, p95 {choice.p95:.0f} of {budget:.0f} ms")

assert choice.p95 <= budget
assert (grid[grid.pairs_per_second > choice.pairs_per_second].p95 > budget).all()
