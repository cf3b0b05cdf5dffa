"""Time Sentence-Transformers' CrossEncoder; run as a program, in the environment that has it.

    python in_process.py TASK.json RESULT.json

TASK holds model, dtype, batch_sizes, workloads (name -> pairs) and effort. The dtype "int8" stands
for ONNX Runtime with weights and activations of 8 bits, as Sentence-Transformers makes it. RESULT
gets rates, single and versions, as `measurement.Measurement` has them. Loading is not part of any
figure.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

import timing
from timing import Effort, Pair


def plain_model(folder: str, dtype: str) -> CrossEncoder:
    """Load a model into PyTorch."""
    return CrossEncoder(folder, model_kwargs={"dtype": getattr(torch, dtype)})


def int8_model(folder: str) -> CrossEncoder:
    """Export a model to ONNX, quantise it for this processor, and load what came of it."""
    from sentence_transformers import export_dynamic_quantized_onnx_model

    kind = "avx512_vnni" if torch.cpu._is_vnni_supported() else "avx2"
    with tempfile.TemporaryDirectory() as made:
        exported = CrossEncoder(folder, backend="onnx", model_kwargs={"export": True})
        exported.save_pretrained(made)
        export_dynamic_quantized_onnx_model(exported, kind, made)
        (quantised,) = Path(made).glob("onnx/*_q*.onnx")
        file = str(quantised.relative_to(made))
        return CrossEncoder(made, backend="onnx", model_kwargs={"file_name": file})


def main(task_path: Path, result_path: Path) -> None:
    """Carry out a task."""
    task = json.loads(task_path.read_text("utf-8"))
    effort = Effort(**task["effort"])
    in_int8 = task["dtype"] == "int8"
    model = int8_model(task["model"]) if in_int8 else plain_model(task["model"], task["dtype"])

    def score(batch_size: int, pairs: Sequence[Pair]) -> None:
        # It sorts the pairs by length by itself, so that little is padded.
        model.predict(pairs, batch_size=batch_size, show_progress_bar=False)

    scorers = {f"batch of {size}": partial(score, size) for size in task["batch_sizes"]}
    workloads = {name: [tuple(pair) for pair in pairs] for name, pairs in task["workloads"].items()}
    result = {
        "rates": {name: timing.rates(scorers, pairs, effort) for name, pairs in workloads.items()},
        "single": timing.singles(partial(score, 1), next(iter(workloads.values())), effort),
        "versions": {
            name: version(name)
            for name in (
                "sentence-transformers",
                "transformers",
                "onnxruntime" if in_int8 else "torch",
            )
        },
    }
    result_path.write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
