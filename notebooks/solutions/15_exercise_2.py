import sys

sys.path.append("../training")
from average_models import average

average(offline_model_path(), work / "my-reranker", work / "mean", share=0.5)
mean_model = CrossEncoder(str(work / "mean"))
runs["mean"] = reranked(mean_model, found, pairs)
other_runs["mean"] = reranked(mean_model, other_found, other_pairs)
mean_changes = [
    compare(measure(runs, held_out), "general", "mean").difference,
    compare(measure(other_runs, other), "general", "mean").difference,
]
print("Northlight {:+.3f}, tutorial corpus {:+.3f}".format(*mean_changes))

assert mean_changes[0] > 0
assert mean_changes[1] > lost.difference - 0.02
