"""Write a trained adapter as it is shipped: float16, and nothing that tells where it was trained.

python training/export_adapter.py WORK/adapter src/helpers/offline_reranker
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

BASE = "sentence-transformers/all-MiniLM-L6-v2"
# What PEFT needs to load the adapter; it fills in its own defaults for the rest.
KEPT = ("bias", "lora_alpha", "lora_dropout", "peft_type", "r", "task_type", "target_modules")


def export(trained: Path, target: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into `target`.

    float16 keeps 11 bits of each number: the merged weights differ from the trained ones by less
    than bfloat16, in which the model is served, rounds them anyway.
    """
    config = json.loads((trained / "adapter_config.json").read_text("utf-8"))
    shipped = {name: config[name] for name in KEPT}
    shipped |= {
        "base_model_name_or_path": BASE,
        "inference_mode": True,
        "modules_to_save": ["classifier"],
        "target_modules": sorted(config["target_modules"]),
    }
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(shipped, indent=2, sort_keys=True)
    (target / "adapter_config.json").write_text(text + "\n", "utf-8")
    weights = load_file(trained / "adapter_model.safetensors")
    halved = {name: tensor.astype(np.float16) for name, tensor in weights.items()}
    file = target / "adapter_model.safetensors"
    save_file(halved, file, metadata={"format": "pt"})
    file.chmod(0o644)


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trained", type=Path, help="folder that the training wrote")
    parser.add_argument("target", type=Path, help="folder to ship it in")
    options = parser.parse_args()
    export(options.trained, options.target)


if __name__ == "__main__":
    main()
