"""Choose model, precision, threads and memory for a machine, and say why.

The only module that knows what suits which hardware. Every function here is pure: it is given what
others saw, and what the caller asked for, which always wins. Measured figures come from one machine
with 2 cores (AMD Zen 5, AVX-512 BF16) and a cross-encoder of 22 million parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from helpers.errors import EngineMissingError
from helpers.server.machine import GIB, Gpu, Machine
from helpers.server.model import OFFLINE_MODEL_NAME
from helpers.server.probe import Engine

HUB_MODEL = "BAAI/bge-reranker-v2-m3"
# A GPU needs about this much for HUB_MODEL beside other programs: weights, CUDA, a batch.
HUB_MODEL_MEMORY = 4 * GIB
# What is left free on a GPU for CUDA's own context, which vLLM makes before it looks at what is
# free: 0.1 GiB on a T4, 0.5 on larger cards.
CUDA_CONTEXT = 0.6 * GIB
BATCH = 1 * GIB  # what a batch takes at most while it is computed
# What a server and the kernel of a notebook take of a CPU's memory besides weights and cache.
CPU_PROGRAMS = 3 * GIB
LENGTH_STEP = 256  # lengths that are worked out are whole multiples of so many tokens

T = TypeVar("T")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """Hold one decision and the sentence that explains it."""

    value: T
    reason: str


@dataclass(frozen=True)
class Choices:
    """Hold every decision about a server; shows as a table in a notebook.

    Where a decision has no reason, there was nothing to decide.

    Attributes:
        device: "gpu" or "cpu".
        model: A name on the hub or a folder; None stands for the offline reranker.
        dtype: What vLLM's --dtype is given.
        cpus: The processors that compute (empty on a GPU).
        memory: On a GPU the share of its memory (0 to 1), on a CPU the GiB for a KV cache.
        length: The most tokens of a pair; None for as many as the model was made for.
        eager: True to skip compilation.
        preload: Libraries to load before anything else.
    """

    device: Choice[str]
    model: Choice[str | None] = Choice("", "")
    dtype: Choice[str] = Choice("", "")
    cpus: Choice[tuple[int, ...]] = Choice((), "")
    memory: Choice[float] = Choice(0, "")
    length: Choice[int | None] = Choice(None, "")
    eager: Choice[bool] = Choice(False, "")
    preload: Choice[tuple[str, ...]] = Choice((), "")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choices:
        """Return the choices that `dataclasses.asdict` and JSON, which has no tuples, stored."""
        made: dict[str, Any] = {"device": Choice("unknown", "Nobody wrote it down.")}
        for name, choice in data.items():
            value, reason = choice["value"], choice["reason"]
            made[name] = Choice(tuple(value) if isinstance(value, list) else value, reason)
        return cls(**made)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (what, value, reason) for each decision, ready to print."""
        rows = []
        for name in (entry.name for entry in fields(self)):
            choice = getattr(self, name)
            value = "offline reranker" if name == "model" and choice.value is None else choice.value
            if choice.reason and value not in (None, ()):
                text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                rows.append((name, text, choice.reason))
        return rows

    def _repr_html_(self) -> str:
        import pandas as pd  # here: `check_machine` works where it is missing

        from helpers.tables import SENTENCE_WIDTH, html_table

        rows = pd.DataFrame(self.rows(), columns=["choice", "value", "because"])
        return html_table(rows.set_index("choice"), hide_index=False, text_width=SENTENCE_WIDTH)


@dataclass(frozen=True)
class ModelSize:
    """What a model takes of memory.

    Attributes:
        weights: Bytes of its weights as 16-bit numbers.
        cache: Bytes of KV cache for each token, as 16-bit numbers; 0 for an encoder, which keeps
            none.
        longest: The most tokens that it was made for, 0 if unknown.
    """

    weights: int
    cache: int = 0
    longest: int = 0


# What the models are that a plan may choose by itself, before they are on this disk.
KNOWN_SIZES = {
    HUB_MODEL: ModelSize(1_136_000_000),  # 568 million parameters of two bytes each
    OFFLINE_MODEL_NAME: ModelSize(46_000_000),  # 23 million
}
FULL_WIDTH = ("float32", "float")  # the precisions of four bytes a number


def choose_gpu(engine: Engine, flags: Mapping[str, Any]) -> Gpu:
    """Return the GPU that a server goes to: the emptiest, the first of those that are as empty.

    With a model spread over several it is the fullest, since each gets the same share.

    Raises:
        EngineMissingError: There is none.
    """
    if not engine.gpus:
        raise EngineMissingError(
            f"This vLLM ({engine.version}) is a GPU build, and no GPU answers: "
            f"{engine.gpu_fault or 'CUDA names none'}. Fix that, or serve on the CPU, for which "
            "there is another build: run `PROFILE=cpu make setup` in the repository's folder."
        )
    order = -1 if spreads(flags) else 1
    return max(engine.gpus, key=lambda gpu: order * (gpu.memory_free or 0))


def choose_device(machine: Machine, *, cpu_build: bool) -> Choice[str]:
    """Choose between GPU and CPU; `cpu_build` says that the installed vLLM has no GPU code."""
    gpu = machine.gpu
    if cpu_build:
        there = f"There is a GPU ({gpu.name}), but this" if gpu else "This"
        return Choice("cpu", f"{there} vLLM is a CPU build.")
    if gpu is None:
        return Choice("cpu", "No NVIDIA GPU answers on this machine.")
    return Choice("gpu", f"The NVIDIA driver reports a GPU: {gpu.name}.")


def choose_model(
    machine: Machine, device: str, *, hub: str, asked: str | None = None, source: str = "You"
) -> Choice[str | None]:
    """Choose the model; `hub` is what `hub_state` says of HUB_MODEL, "" if it was not asked.

    The value None stands for the offline reranker, whose folder is made on first use; whoever
    wants it on a GPU asks for "offline-reranker".
    """
    if asked is not None:
        return Choice(None if asked == OFFLINE_MODEL_NAME else asked, f"{source} asked for it.")
    if device == "cpu":
        return Choice(None, "The offline reranker is small, so it is quick on a CPU.")
    if hub not in {"cached", "reachable", ""}:
        return Choice(None, f"{HUB_MODEL} is not in the hub's cache, and cannot be downloaded.")
    if machine.gpu is not None:
        free = _memory_of(machine.gpu, machine)[1]
        if free < HUB_MODEL_MEMORY:
            return Choice(
                None,
                f"{HUB_MODEL} wants {_gib(HUB_MODEL_MEMORY)} of GPU memory and {_gib(free)} are "
                "free, so the small offline reranker serves.",
            )
    where = {
        "cached": "is in the hub's cache",
        "reachable": "can be downloaded from the hub",
        "": "comes from the hub; where that does not answer, the offline reranker serves",
    }[hub]
    return Choice(HUB_MODEL, f"It fits on the GPU and {where}.")


def choose_dtype(machine: Machine, device: str) -> Choice[str]:
    """Choose the precision of weights and arithmetic."""
    if device == "gpu":
        gpu = machine.gpu
        if gpu is not None and gpu.capability < (8, 0):
            number = ".".join(map(str, gpu.capability))
            return Choice("half", f"Compute capability {number} has no bfloat16; 8.0 is the first.")
        return Choice(
            "auto", "vLLM keeps a 16-bit checkpoint as it is and halves a 32-bit one to float16."
        )
    slow = "vLLM's own pick, float16, was 18 times slower where we measured."
    if machine.has_bfloat16:
        return Choice("bfloat16", f"The processor multiplies bfloat16 by itself. {slow}")
    return Choice(
        "float32",
        "The processor has no bfloat16 instructions. vLLM's own pick, float16, is emulated on a "
        "CPU and slower still.",
    )


def choose_cpus(machine: Machine, asked: int | None = None) -> Choice[tuple[int, ...]]:
    """Choose the processors that compute; `asked` is how many (at least 1, at most all)."""
    if asked is not None:
        return Choice(machine.cpus[:asked], f"You asked for {asked} threads.")
    return Choice(
        machine.cpus,
        "Every core that this process may use. By itself vLLM keeps one of them free.",
    )


def choose_eager(device: str) -> Choice[bool]:
    """Choose whether vLLM skips compilation."""
    if device == "gpu":
        return Choice(False, "Compiling takes a while once, and pays off for large work.")
    return Choice(True, "Compiling a small model on a CPU costs more time than lessons win back.")


def choose_memory(
    machine: Machine,
    size: ModelSize | None = None,
    *,
    share: float | None = None,
    length: int | None = None,
) -> tuple[Choice[float], Choice[int | None]]:
    """Choose the share of GPU memory, or the GiB of KV cache on a CPU, and the longest pair.

    An encoder keeps no KV cache, and vLLM only looks at its start if the share is free. A decoder
    gets room for the cache of one pair as long as the model takes, or shorter pairs. `size` is at
    the chosen precision, None where it is not known; `share` and `length` were asked for.
    """
    tokens = length or (size.longest if size else 0)
    cache = size.cache * tokens if size else 0
    if machine.gpu is not None:
        memory, room = _gpu_share(*_memory_of(machine.gpu, machine), size, cache)
        memory = or_asked(share, memory)
    else:
        spare = machine.memory_free - CPU_PROGRAMS - (size.weights if size else 0)
        gibs = max(1, min(math.ceil(cache / GIB), spare // GIB))
        memory = Choice(
            gibs,
            f"GiB for a KV cache; a pair of {tokens:,} tokens would fill {_gib(cache)}."
            if cache
            else "GiB for a KV cache. An encoder keeps none, so the least will do.",
        )
        room = gibs * GIB
    if length is not None:
        return memory, Choice(length, "You asked for it.")
    if size is None or not cache or share is not None or cache <= room:
        return memory, Choice(None, "As many tokens as the model was made for.")
    return memory, Choice(
        int(room / size.cache) // LENGTH_STEP * LENGTH_STEP or None,
        f"The model takes {tokens:,} tokens, whose cache of {_gib(cache)} does not fit into the "
        "memory that is free. Ask for another length with max_model_len=.",
    )


def _gpu_share(
    total: int, free: float, size: ModelSize | None, cache: int
) -> tuple[Choice[float], float]:
    """Return the share of a GPU, and the bytes in it that a cache may take."""
    if size is None:
        need, other = 0.5 * total, 0.5 * total
        reason = (
            "The size of the model is not known here, so it gets half of the GPU. If its cache "
            "wants more, ask with gpu_memory_utilization= or for less with max_model_len=."
        )
    else:
        # Of a decoder vLLM subtracts from the share what it finds in use after a trial run.
        other = 1.2 * size.weights + (2 * BATCH + CUDA_CONTEXT if cache else BATCH)
        need = other + cache
        reason = f"About {_gib(need)} for weights and a batch. vLLM only looks if so much is free; "
        reason += "its usual 92% would not start beside other programs."
        if cache:
            reason = f"About {_gib(need)} for weights, a batch and the cache of a decoder. vLLM's "
            reason += "usual 92% would leave nothing to other programs."
    # vLLM refuses to start with a share that is larger than what is free.
    most = free - CUDA_CONTEXT
    if need <= most:
        value = min(math.ceil(100 * need / total) / 100, 1.0)
    else:
        value = max(math.floor(1000 * most / total), 1) / 1000
        reason += f" Only {_gib(free)} are free, so it takes those less CUDA's own part."
    return Choice(value, reason), value * total - other


def spreads(flags: Mapping[str, Any]) -> bool:
    """Return whether flags of vLLM spread a model over several GPUs."""
    names = [f"{kind}-parallel-size" for kind in ("tensor", "pipeline", "data")]
    return any(flags.get(name) not in (None, 1, "1") for name in [*names, "-tp", "-pp", "-dp"])


def _memory_of(gpu: Gpu, machine: Machine) -> tuple[int, float]:
    """Return total and free bytes; a GPU that tells neither shares the machine's, half at most."""
    total = gpu.memory_total or machine.memory_total
    return total, machine.memory_free / 2 if gpu.memory_free is None else gpu.memory_free


def or_asked(asked: T | None, choice: Choice[T]) -> Choice[T]:
    """Return the choice, or what was asked for instead."""
    return choice if asked is None else Choice(asked, "You asked for it.")


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
