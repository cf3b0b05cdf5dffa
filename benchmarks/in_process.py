"""Time Sentence-Transformers' CrossEncoder; run as a program, in the environment that has it.

    python in_process.py TASK.json RESULT.json

TASK holds model, dtype, batch_sizes, workloads (name -> pairs) and effort. RESULT gets rates,
single and versions, as `measurement.Measurement` has them. Loading is not part of any figure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

import timing
from timing import Effort, Pair


def main(task_path: Path, result_path: Path) -> None:
    """Carry out a task."""
    task = json.loads(task_path.read_text("utf-8"))
    effort = Effort(**task["effort"])
    model = CrossEncoder(task["model"], model_kwargs={"dtype": getattr(torch, task["dtype"])})

    def score(batch_size: int, pairs: Sequence[Pair]) -> None:
        # It sorts the pairs by length by itself, so that little is padded.
        model.predict(pairs, batch_size=batch_size, show_progress_bar=False)

    scorers = {f"batch of {size}": partial(score, size) for size in task["batch_sizes"]}
    workloads = {name: [tuple(pair) for pair in pairs] for name, pairs in task["workloads"].items()}
    result = {
        "rates": {name: timing.rates(scorers, pairs, effort) for name, pairs in workloads.items()},
        "single": timing.singles(partial(score, 1), next(iter(workloads.values())), effort),
        "versions": {
            name: version(name) for name in ("sentence-transformers", "transformers", "torch")
        },
    }
    result_path.write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
