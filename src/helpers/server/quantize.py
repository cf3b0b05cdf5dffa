"""Write an int8 form of a BERT cross-encoder, which vLLM multiplies as it is (W8A8).

Weights become 8-bit whole numbers with one scale for each output row; activations are rounded while
vLLM serves, with one scale and one zero point for each token. Three things keep the scores close:

- What a layer reads is shifted by its mean, which costs nothing: a LayerNorm's bias gives the shift,
  the biases of those who read it take it back (Wei and others, 2023, arXiv:2304.09145). A few
  features of BERT are large and nearly constant, and would waste most of the 256 steps.
- Each column's rounding error is made good by the columns that are not rounded yet (GPTQ: Frantar
  and others, 2022, arXiv:2210.17323).
- The head stays in float32.

Both need to see what the layers read, so some texts of the corpus go through the model once, in
NumPy. The usual tool, `llm-compressor`, wants versions of packages that vLLM's own do not allow.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from helpers import corpus

Array = NDArray[np.float32]

LARGEST = 127  # of a symmetric 8-bit number
TEXTS = 48  # pairs that are looked at, some 6,000 tokens
TOKENS = 128  # of a pair at most
DAMPING = 0.01  # of the mean diagonal, as in the paper
BLOCK = 128  # columns that are rounded before the others hear of it
HEAD = ("classifier", "bert.pooler.dense")


def quantize_folder(source: Path, target: Path) -> None:
    """Write the int8 form of the model in `source`, which is in float32, into an empty folder."""
    tensors = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text("utf-8"))
    means: dict[str, Array] = {}
    moments: dict[str, Array] = {}
    count = 0
    for ids, segments in sample_tokens(source):
        count += len(ids)
        for reader, read in what_is_read(tensors, config, ids, segments):
            means[reader] = means.get(reader, 0) + read.sum(axis=0)
            moments[reader] = moments.get(reader, 0) + read.T @ read
    for reader in means:
        means[reader] /= count
        moments[reader] /= count
    for layer in range(config["num_hidden_layers"]):
        for reader in shift(tensors, layer, means):
            moments[reader] -= np.outer(means[reader], means[reader])
    written = dict(tensors)
    for name, weight in tensors.items():
        reader = re.sub(r"(\.(query|key|value))?\.weight$", "", name)
        if reader in moments:
            written[name], written[f"{name}_scale"] = quantize_rows(weight, moments[reader])
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
        "ignore": list(HEAD),
    }
    (target / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    for path in source.iterdir():
        if not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def quantize_rows(weight: Array, moments: Array) -> tuple[NDArray[np.int8], Array]:
    """Round a weight to int8 so that its products with what it reads change least.

    Args:
        weight: Shape (out, in).
        moments: The mean of `x x^T` over what is read, shape (in, in).

    Returns:
        The whole numbers, shape (out, in), and the scales, shape (out, 1): their product stands
        for the weight.
    """
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12) / LARGEST
    size = len(moments)
    # Features that carry most come first, while many are left to make good their error.
    order = np.argsort(-np.diag(moments))
    damped = moments[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices(size)] += DAMPING * np.diag(damped).mean() + 1e-12
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    rest = weight[:, order].copy()
    numbers = np.empty(weight.shape, np.int8)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((len(weight), stop - start), np.float32)
        for column in range(start, stop):
            value = rest[:, column]
            rounded = np.clip(np.rint(value / scale[:, 0]), -LARGEST, LARGEST)
            numbers[:, order[column]] = rounded
            error = (value - rounded * scale[:, 0]) / factor[column, column]
            rest[:, column:stop] -= np.outer(error, factor[column, column:stop])
            errors[:, column - start] = error
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return numbers, scale.astype(np.float32)


def shift(tensors: dict[str, Array], layer: int, means: Mapping[str, Array]) -> list[str]:
    """Take the means out of what a layer reads, without a change to what the model says.

    Whoever reads less gets the difference as a bias. What is added beside a dense layer (BERT adds
    what it read to what came of it) lacks the mean as well, and gets it from that layer's bias. Of
    what attention reads as values, each token gets shares that add up to 1, so a mean goes through.

    Returns:
        The readers whose means are gone; behind an activation function there is none to take.
    """
    own = f"bert.encoder.layer.{layer}"
    before = f"bert.encoder.layer.{layer - 1}.output" if layer else "bert.embeddings"
    shifts = {
        f"{own}.attention.self": (f"{before}.LayerNorm", f"{own}.attention.output.dense"),
        f"{own}.attention.output.dense": (f"{own}.attention.self.value", ""),
        f"{own}.intermediate.dense": (f"{own}.attention.output.LayerNorm", f"{own}.output.dense"),
    }
    for reader, (source, beside) in shifts.items():
        mean = means[reader]
        tensors[f"{source}.bias"] -= mean
        for part in (".query", ".key", ".value") if reader.endswith(".self") else ("",):
            tensors[f"{reader}{part}.bias"] += tensors[f"{reader}{part}.weight"] @ mean
        if beside:
            tensors[f"{beside}.bias"] += mean
    return list(shifts)


def what_is_read(
    tensors: Mapping[str, Array], config: Mapping[str, Any], ids: Sequence[int], segments: list[int]
) -> Iterator[tuple[str, Array]]:
    """Run BERT on one pair, and yield what each dense layer reads, shape (tokens, features)."""

    def dense(name: str, read: Array) -> Array:
        return read @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name: str, read: Array) -> Array:
        read = read - read.mean(axis=1, keepdims=True)
        read /= np.sqrt(np.square(read).mean(axis=1, keepdims=True) + config["layer_norm_eps"])
        return read * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    table = "bert.embeddings.{}_embeddings.weight"
    state = tensors[table.format("word")][list(ids)]
    state = state + tensors[table.format("position")][: len(ids)]
    state = norm("bert.embeddings.LayerNorm", state + tensors[table.format("token_type")][segments])
    heads = config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        own = f"bert.encoder.layer.{layer}"
        yield f"{own}.attention.self", state
        query, key, value = (
            dense(f"{own}.attention.self.{part}", state).reshape(len(ids), heads, -1)
            for part in ("query", "key", "value")
        )
        weights = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(np.float32(query.shape[2]))
        weights = np.exp(weights - weights.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, value).reshape(state.shape)
        yield f"{own}.attention.output.dense", mixed
        mixed = dense(f"{own}.attention.output.dense", mixed)
        state = norm(f"{own}.attention.output.LayerNorm", mixed + state)
        yield f"{own}.intermediate.dense", state
        wide = dense(f"{own}.intermediate.dense", state)
        # GELU by its usual approximation, which is close enough for statistics.
        wide *= 0.5 + 0.5 * np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
        yield f"{own}.output.dense", wide
        state = norm(f"{own}.output.LayerNorm", dense(f"{own}.output.dense", wide) + state)


def sample_tokens(folder: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Yield token numbers and segments of pairs of the corpus, relevant ones and others.

    Only words that are a token as a whole are taken: texts are good enough for statistics with
    a few words missing, and so no tokenizer is needed.
    """
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]

    def known(text: str) -> list[int]:
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        return [vocabulary[word] for word in words if word in vocabulary]

    queries = list(corpus.queries()["text"])
    passages = list(corpus.passages()["text"])
    for number in range(TEXTS):
        # Steps through both tables that hit every region of them.
        query = known(queries[number * len(queries) // TEXTS])
        passage = known(passages[number * len(passages) // TEXTS])
        first = [vocabulary["[CLS]"], *query, vocabulary["[SEP]"]]
        ids = [*first, *passage[: TOKENS - len(first) - 1], vocabulary["[SEP]"]]
        yield ids, [0] * len(first) + [1] * (len(ids) - len(first))


def _numbers(strategy: str, *, symmetric: bool, dynamic: bool) -> dict[str, Any]:
    return {
        "num_bits": 8,
        "type": "int",
        "strategy": strategy,
        "symmetric": symmetric,
        "dynamic": dynamic,
    }
