"""See whether a folder holds a whole model, before minutes are spent on launching it."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from helpers.errors import ModelUnavailableError

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "sentencepiece.bpe.model")


def is_local(model: str) -> bool:
    """Tell a folder (one that exists, or a path by its looks) from a name on the hub."""
    return Path(model).is_dir() or model.startswith(("/", "./", "../", "~")) or "\\" in model


def check_model_folder(folder: Path) -> None:
    """Raise unless the folder has a configuration, whole weights and a tokenizer.

    Raises:
        ModelUnavailableError: says which file is missing or cut short.
    """
    if not folder.is_dir():
        raise ModelUnavailableError(
            f"There is no model folder at {folder}. Correct the path, or give a name on the hub."
        )
    _json(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(_json(index).get("weight_map", {}).values()))
        weights = [folder / shard for shard in shards]
    else:
        weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights:
        raise _broken(folder, "it holds no weights (model.safetensors or pytorch_model.bin)")
    for path in weights:
        _check_weights(path)
    tokenizers = [folder / name for name in _TOKENIZERS if (folder / name).is_file()]
    if not tokenizers:
        raise _broken(folder, f"it holds no tokenizer (one of {', '.join(_TOKENIZERS)})")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            _json(folder / name)


def weights_bytes(folder: Path) -> int:
    """Return the size of the weights in a model folder as 16-bit numbers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        header, _ = _safetensors_header(path)
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                total += (end - begin) // (2 if tensor["dtype"] == "F32" else 1)
    return total or sum(path.stat().st_size for path in folder.glob("*.bin"))


def _check_weights(path: Path) -> None:
    if not path.is_file():
        raise _broken(path.parent, f"{path.name} is missing")
    if path.suffix == ".safetensors":
        header, start = _safetensors_header(path)
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        expected, size = start + max(ends, default=0), path.stat().st_size
        if size != expected:
            raise _broken(path.parent, f"{path.name} has {size} bytes where {expected} belong")
        return
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    # A zip archive has its table of contents at the very end, so a cut one is not an archive.
    if is_zip and not zipfile.is_zipfile(path):
        raise _broken(path.parent, f"{path.name} is cut short")


def _safetensors_header(path: Path) -> tuple[dict, int]:
    """Return the header (name to dtype, shape, offsets) and where the data begins.

    Format: 8 bytes with the header's length, little-endian, then the header as JSON.
    """
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            return json.loads(file.read(length)), 8 + length
        except (struct.error, ValueError) as error:
            raise _broken(path.parent, f"{path.name} has no whole header ({error})") from None


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise _broken(path.parent, f"{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise _broken(path.parent, f"{path.name} can not be read ({error})") from None


def _broken(folder: Path, what: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"The model in {folder} is not whole: {what}. "
        "Delete the folder and make or download the model again."
    )
