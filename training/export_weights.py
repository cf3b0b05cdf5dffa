"""Write a trained reranker as it is shipped: float16, without what the packaged encoder has.

    python training/export_weights.py WORK/model src/helpers/offline_reranker

The training leaves the tables of words and places as they are, so they stay out. So do matrices of
zeros, which `helpers.server.model.merge` puts back. What is written to `TARGET/weights.safetensors`
has the names that transformers gives to the weights of a BertForSequenceClassification with one
output; they replace those of the encoder, or are added.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

TABLES = ("bert.embeddings.word_embeddings.", "bert.embeddings.position_")


def export(trained: Path, target: Path) -> None:
    """Write `weights.safetensors` into `target`.

    float16 keeps 11 bits of each number: that is less of a change than bfloat16, in which the model
    is served, makes anyway.
    """
    weights = {
        name: value.astype(np.float16)
        for name, value in load_file(trained / "model.safetensors").items()
        if not name.startswith(TABLES) and (value.ndim == 1 or value.any())
    }
    target.mkdir(parents=True, exist_ok=True)
    file = target / "weights.safetensors"
    save_file(weights, file, metadata={"format": "pt"})
    file.chmod(0o644)


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trained", type=Path, help="model folder that the training wrote")
    parser.add_argument("target", type=Path, help="folder to ship the weights in")
    options = parser.parse_args()
    export(options.trained, options.target)


if __name__ == "__main__":
    main()
