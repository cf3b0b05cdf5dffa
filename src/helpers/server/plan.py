"""Choose model, precision, threads and memory for a machine, and say why.

The only module that knows what suits which hardware. Every function here is pure: it is given what
`hardware` saw, and what the caller asked for, which always wins. Measured figures come from one
machine with 2 cores (AMD Zen 5, AVX-512 BF16) and a cross-encoder of 22 million parameters.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, fields
from typing import Any

from helpers.server.machine import GIB, Gpu, Machine
from helpers.server.model import OFFLINE_MODEL_NAME

HUB_MODEL = "BAAI/bge-reranker-v2-m3"
HUB_MODEL_WEIGHTS = 1_136_000_000  # bytes: 568 million parameters of two bytes each
# A GPU needs about this much for HUB_MODEL beside other programs: weights, CUDA, a batch.
HUB_MODEL_MEMORY = 4 * GIB
OFFLINE_MODEL_WEIGHTS = 46_000_000  # bytes: 23 million parameters of two bytes each
# What a process on a GPU takes besides the weights: CUDA's context, one batch of activations, and
# the cache that decoder-based rerankers need (an encoder keeps none).
GPU_OVERHEAD = 3 * GIB
SMALL_MODEL = 4 * GIB  # bytes of weights up to which a GPU share is worked out from them


@dataclass(frozen=True)
class Choice:
    """Hold one decision and the sentence that explains it."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Choices:
    """Hold every decision about a server; shows as a table in a notebook.

    device: "gpu" or "cpu".
    model: a name on the hub or a folder; None stands for the offline reranker.
    dtype: what vLLM's --dtype is given.
    cpus: the processors that compute (empty on a GPU).
    memory: on a GPU the share of its memory (0 to 1), on a CPU the GiB set aside for a KV cache.
    eager: True to skip compilation.
    preload: libraries to load before anything else.
    """

    device: Choice
    model: Choice
    dtype: Choice
    cpus: Choice
    memory: Choice
    eager: Choice
    preload: Choice

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (what, value, reason) for each decision, ready to print."""
        return [
            (field.name, _shown(choice.value), choice.reason)
            for field in fields(self)
            if (choice := getattr(self, field.name)).value not in ((), "")
        ]

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td>"
            f"<td style='text-align:left'>{html.escape(reason)}</td></tr>"
            for name, value, reason in self.rows()
        )
        return (
            "<table><thead><tr><th>choice</th><th>value</th><th>because</th></tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )


def choose_device(machine: Machine, *, cpu_build: bool) -> Choice:
    """Choose between GPU and CPU; `cpu_build` says that the installed vLLM has no GPU code."""
    if machine.gpu is None:
        return Choice("cpu", "No NVIDIA GPU answers on this machine.")
    if cpu_build:
        return Choice("cpu", f"There is a GPU ({machine.gpu.name}), but this vLLM is a CPU build.")
    return Choice("gpu", f"The NVIDIA driver reports a GPU: {machine.gpu.name}.")


def choose_model(
    machine: Machine, device: str, *, hub: str, asked: str | None = None, source: str = "You"
) -> Choice:
    """Choose the model; `hub` is what `hardware.hub_state` says of HUB_MODEL.

    The value None stands for the offline reranker, whose folder is made on first use; whoever
    wants it on a GPU asks for "offline-reranker".
    """
    if asked is not None:
        return Choice(None if asked == OFFLINE_MODEL_NAME else asked, f"{source} asked for it.")
    if device == "cpu":
        return Choice(None, "The offline reranker is small, so it is quick on a CPU.")
    if hub not in {"cached", "reachable"}:
        return Choice(None, f"{HUB_MODEL} is neither in the cache nor can the hub be reached.")
    gpu = machine.gpu
    if gpu is not None and gpu.memory_free < HUB_MODEL_MEMORY:
        return Choice(
            None,
            f"{HUB_MODEL} wants {_gib(HUB_MODEL_MEMORY)} of GPU memory and "
            f"{_gib(gpu.memory_free)} are free, so the small offline reranker serves.",
        )
    where = "is in the hub's cache" if hub == "cached" else "can be downloaded from the hub"
    return Choice(HUB_MODEL, f"It fits on the GPU and {where}.")


def choose_dtype(machine: Machine, device: str, asked: str | None = None) -> Choice:
    """Choose the precision of weights and arithmetic."""
    if asked is not None:
        return Choice(asked, "You asked for it.")
    if device == "gpu":
        gpu = machine.gpu
        if gpu is not None and gpu.capability < (8, 0):
            number = ".".join(map(str, gpu.capability))
            return Choice("half", f"Compute capability {number} has no bfloat16; 8.0 is the first.")
        return Choice(
            "auto", "vLLM keeps a 16-bit checkpoint as it is and halves a 32-bit one to float16."
        )
    if machine.has_bfloat16:
        return Choice(
            "bfloat16",
            "The processor multiplies bfloat16 by itself. vLLM's own pick, float16, was 18 times "
            "slower where we measured.",
        )
    return Choice(
        "float32",
        "The processor has no bfloat16 instructions. vLLM's own pick, float16, is emulated on a "
        "CPU and slower still.",
    )


def choose_cpus(machine: Machine, device: str, asked: int | None = None) -> Choice:
    """Choose the processors that compute; `asked` is how many (at least 1, at most all)."""
    if device == "gpu":
        return Choice((), "The GPU computes.")
    if asked is not None:
        return Choice(machine.cpus[:asked], f"You asked for {asked} threads.")
    return Choice(
        machine.cpus,
        "Every core that this process may use. By itself vLLM keeps one of them free.",
    )


def choose_memory(
    machine: Machine,
    device: str,
    *,
    weights: int | None = None,
    asked: float | None = None,
) -> Choice:
    """Choose the share of GPU memory, or the GiB of KV cache on a CPU.

    weights: bytes of the model's weights as served, None where that is not known.
    """
    gpu = machine.gpu
    if asked is not None:
        return Choice(asked, "You asked for it.")
    if device == "cpu" or gpu is None:
        return Choice(1, "GiB for a KV cache. An encoder keeps none, so the least will do.")
    # Ask for whole hundredths: vLLM refuses a share that is larger than what is free.
    most = math.floor(95 * gpu.memory_free / gpu.memory_total) / 100
    share, reason = _gpu_share(gpu, weights)
    if share > most:
        return Choice(
            max(most, 0.01),
            f"{reason} Only {_gib(gpu.memory_free)} are free, so it takes 95% of those.",
        )
    return Choice(share, reason)


def _gpu_share(gpu: Gpu, weights: int | None) -> tuple[float, str]:
    if weights is None:
        return 0.5, "The size of the model is not known here, so it gets half of the GPU."
    if weights > SMALL_MODEL:
        return 0.9, f"The weights alone take {_gib(weights)}, so it gets vLLM's usual share."
    wanted = 1.2 * weights + GPU_OVERHEAD
    return (
        math.ceil(100 * wanted / gpu.memory_total) / 100,
        f"About {_gib(wanted)} for weights, CUDA and a batch. vLLM's usual 90% would lock out "
        "everything else.",
    )


def choose_eager(device: str, asked: bool | None = None) -> Choice:
    """Choose whether vLLM skips compilation."""
    if asked is not None:
        return Choice(asked, "You asked for it.")
    if device == "gpu":
        return Choice(False, "Compiling takes a while once, and pays off for large work.")
    return Choice(True, "Compiling a small model on a CPU costs more time than lessons win back.")


def choose_preload(device: str, libraries: tuple[str, ...]) -> Choice:
    """Choose what to put in LD_PRELOAD among the libraries that are present."""
    if device == "gpu" or not libraries:
        return Choice((), "Nothing to preload.")
    return Choice(libraries, "Present on this machine, and vLLM recommends them on a CPU.")


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _shown(value: Any) -> str:
    if value is None:
        return "offline reranker"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)
