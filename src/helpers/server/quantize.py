"""Write an int8 form of a BERT cross-encoder, which vLLM multiplies as it is (W8A8).

Weights become 8-bit whole numbers with one scale for each output row; activations are rounded while
vLLM serves, with one scale and one zero point for each token. No data is needed for it, and no
other package: the usual tool, `llm-compressor`, wants versions that vLLM's own do not allow.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float32]

LARGEST = 127  # of a symmetric 8-bit number
CLIPS = np.linspace(1, 0.8, 11)  # shares of a row's largest weight at which it is cut off
HEAD = ("classifier", "bert.pooler.dense")  # stays in float32


def quantize_folder(source: Path, target: Path, kept: Collection[str] = ()) -> None:
    """Write the int8 form of a model.

    Args:
        source: The model's folder, in float32.
        target: An empty folder.
        kept: Names of the encoder's dense layers that stay as they are, such as
            "bert.encoder.layer.0.output.dense". vLLM keeps query, key and value only together.
    """
    tensors = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text("utf-8"))
    for layer in range(config["num_hidden_layers"]):
        shift(tensors, layer)
    written: dict[str, NDArray[Any]] = dict(tensors)
    for name, tensor in tensors.items():
        if ".encoder." in name and tensor.ndim == 2 and name.removesuffix(".weight") not in kept:
            written[name], written[f"{name}_scale"] = quantize_rows(tensor)
    save_file(written, target / "model.safetensors", metadata={"format": "pt"})
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": _numbers("channel", symmetric=True, dynamic=False),
                "input_activations": _numbers("token", symmetric=False, dynamic=True),
            }
        },
        "ignore": [*HEAD, *kept],
    }
    (target / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    for path in source.iterdir():
        if not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def quantize_rows(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Round a weight to int8, each row with the scale that moves its values least.

    To cut off a row's few largest values leaves finer steps for all others. Which cut is best is
    tried: that with the smallest sum of squared differences.

    Args:
        weight: Shape (out, in).

    Returns:
        The whole numbers, shape (out, in), and the scales, shape (out, 1): their product stands
        for the weight.
    """
    largest = np.maximum(np.abs(weight).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scale, least = largest / LARGEST, np.full_like(largest, np.inf)
    for clip in CLIPS:
        tried = largest * np.float32(clip / LARGEST)
        rounded = np.clip(np.rint(weight / tried), -LARGEST, LARGEST) * tried
        error = np.square(rounded - weight).sum(axis=1, keepdims=True)
        scale, least = np.where(error < least, tried, scale), np.minimum(error, least)
    return np.clip(np.rint(weight / scale), -LARGEST, LARGEST).astype(np.int8), scale


def shift(tensors: dict[str, Array], layer: int) -> None:
    """Center what a layer of BERT reads, without a change to what the model says.

    A few features of BERT are large and nearly constant, and would waste most of the 256 steps of
    an activation. The constant is the bias with which a feature is made. So that bias moves on,
    into the biases of the dense layers that read the feature (channel-wise shifting: Wei and
    others, 2023, arXiv:2304.09145). Where BERT adds what a dense layer has read to what comes of
    it, the bias is missing too, and the last dense layer before gets it. A value's bias goes
    through attention unchanged, because a token's shares of all others add up to 1.
    """
    own = f"bert.encoder.layer.{layer}"
    before = f"bert.encoder.layer.{layer - 1}.output" if layer else "bert.embeddings"
    attention, output = f"{own}.attention.self", f"{own}.attention.output"
    for maker, readers, beside in (
        (
            f"{before}.LayerNorm",
            [f"{attention}.{part}" for part in ("query", "key", "value")],
            True,
        ),
        (f"{attention}.value", [f"{output}.dense"], False),
        (f"{output}.LayerNorm", [f"{own}.intermediate.dense"], True),
    ):
        constant = tensors[f"{maker}.bias"].copy()
        tensors[f"{maker}.bias"] -= constant
        for reader in readers:
            tensors[f"{reader}.bias"] += tensors[f"{reader}.weight"] @ constant
        if beside:
            last = f"{own}.output" if maker.startswith(output) else output
            tensors[f"{last}.dense.bias"] += constant


def _numbers(strategy: str, *, symmetric: bool, dynamic: bool) -> dict[str, Any]:
    return {
        "num_bits": 8,
        "type": "int",
        "strategy": strategy,
        "symmetric": symmetric,
        "dynamic": dynamic,
    }
