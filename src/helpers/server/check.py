"""Check, before anything is launched, whether this machine can serve scores, and say what to fix.

`look` sees, `assess` judges what was seen, `MachineCheck` shows the judgment. What suits which
hardware is decided in `choices`.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from helpers.server import choices
from helpers.server.look import MODEL_VARIABLE, Seen, look_around, numbers
from helpers.server.machine import GIB, Machine
from helpers.server.model import OFFLINE_MODEL_NAME, is_local

OLDEST_PYTHON = (3, 11)
# The versions of vLLM that `command` is written for.
ENGINES = ((0, 26), (0, 32))
# A server on a CPU takes about 2 GB, measured with the offline reranker; the rest is for a kernel
# with pandas and for JupyterLab. A GPU's server passes its weights through memory on their way.
MEMORY_NEEDED = {"CPU": 3 * GIB, "GPU": 6 * GIB}
STATE_DISK = 1 * GIB  # the offline reranker's folders, and logs
HUB_DISK = 3 * GIB  # the download of the large model: 2.3 GB as 32-bit numbers
# Pairs per second, in orders of magnitude, by dtype. Measured: 594 to 745 in bfloat16 and 274 in
# float32, one request of 1,000 pairs of about 20 tokens to a reranker of 22 million parameters on
# 2 cores (AMD Zen 5). On pairs of 116 tokens it was 182 in bfloat16.
CPU_PAIRS_PER_SECOND = {"bfloat16": 500, "float32": 200}
# Measured there, from launch to ready: 6 to 7 s.
CPU_SECONDS_TO_START = 10
REMOTE_HINT = (
    "Use a server that runs elsewhere: set SCORE_SERVER_URL to its address, then restart the kernel"
)
LARGER_DISK = {
    "hub": "set HF_HOME to a folder on a larger disk",
    "state": "set SCORE_STATE_DIR to a folder on a larger disk",
}
MARKS = {"ok": "✓ ok", "warn": "! note", "fix": "✗ fix"}


class Row(NamedTuple):
    """One line of the check.

    Attributes:
        name: What was looked at.
        state: "ok", "warn" (it works, with a drawback) or "fix" (it does not work like this).
        found: What is there.
        advice: What to do about it, "" where there is nothing to do.
    """

    name: str
    state: str
    found: str
    advice: str = ""


@dataclass(frozen=True, repr=False)
class MachineCheck:
    """Hold the judgment on a machine; shows as a table in a notebook.

    Attributes:
        rows: One for each thing that was checked.
        profile: "GPU", "CPU" or "remote": where scores will be computed.
        model: The name of the model that will be served.
        expectation: A sentence or two on speed and start, with the conditions of each figure.
        machine: Processor, memory and GPUs.
        memory_needed: Bytes of free memory that a server and its notebook take.
    """

    rows: tuple[Row, ...]
    profile: str
    model: str
    expectation: str
    machine: Machine
    memory_needed: int

    @property
    def ready(self) -> bool:
        """Whether the notebooks will run here as things are."""
        return not self.to_fix

    @property
    def to_fix(self) -> tuple[Row, ...]:
        """The rows that stand in the way."""
        return tuple(row for row in self.rows if row.state == "fix")

    @property
    def verdict(self) -> str:
        """One sentence on whether this machine is ready, and for what."""
        if not self.ready:
            return f"Not ready yet. To fix: {', '.join(row.name for row in self.to_fix)}."
        where = {
            "GPU": "on the GPU of this machine",
            "CPU": "on the CPU of this machine",
            "remote": "on the server that SCORE_SERVER_URL names",
        }[self.profile]
        return f"Ready: {self.model} will score {where}."

    def __repr__(self) -> str:
        """Show a table for a terminal."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.verdict, self.expectation, ""]
        for row in self.rows:
            lines.append(f"{MARKS[row.state]:<6}  {row.name:<{width}}  {row.found}")
            if row.advice:
                lines.append(f"{'':<6}  {'':<{width}}  → {row.advice}")
        return "\n".join(lines)

    def _repr_html_(self) -> str | None:
        try:
            import pandas as pd

            from helpers.tables import SENTENCE_WIDTH, html_table

            rows = [(MARKS[row.state], row.name, row.found, row.advice) for row in self.rows]
            frame = pd.DataFrame(rows, columns=["", "what", "found", "what to do"])
            filled = frame.loc[:, (frame != "").any()]  # no column of advice where there is none
            table = html_table(filled, text_width=SENTENCE_WIDTH)
        except ImportError:
            return None  # what is missing stands in the text, which is then shown
        verdict, expectation = html.escape(self.verdict), html.escape(self.expectation)
        return f"<p><strong>{verdict}</strong><br>{expectation}</p>{table}"


def check_machine() -> MachineCheck:
    """Check this machine; takes a few seconds, and starts and changes nothing."""
    return assess(look_around())


def assess(seen: Seen) -> MachineCheck:
    """Judge what was seen; pure."""
    if seen.remote_url is not None:
        return MachineCheck(
            rows=tuple(_remote_rows(seen)),
            profile="remote",
            model=", ".join(seen.remote_models) or "the remote model",
            expectation="Nothing is started or stopped here. Speed is that of the other machine.",
            machine=seen.machine,
            memory_needed=GIB,
        )
    engine, gpus = seen.engine, seen.driver.gpus
    if engine is not None and not engine.cpu_build:
        gpus = engine.gpus
    elif engine is None and (seen.set_up.obstacles or seen.set_up.refused.get("GPU")):
        gpus = ()  # the set-up then builds for the CPU
    machine = dataclasses.replace(seen.machine, gpus=gpus)
    device = choices.choose_device(machine, cpu_build=bool(engine and engine.cpu_build))
    profile = device.value.upper()
    model = choices.choose_model(
        machine,
        device.value,
        hub=seen.hub,
        asked=seen.asked_model,
        source=f"The environment variable {MODEL_VARIABLE}",
    )
    dtype = choices.choose_dtype(machine, device.value).value
    return MachineCheck(
        rows=tuple(_rows(seen, machine, profile, dtype, model)),
        profile=profile,
        model=model.value or OFFLINE_MODEL_NAME,
        expectation=_expectation(profile, dtype, model.value),
        machine=machine,
        memory_needed=MEMORY_NEEDED[profile],
    )


def _rows(
    seen: Seen, machine: Machine, profile: str, dtype: str, model: choices.Choice[str | None]
) -> Iterator[Row]:
    """Judge one thing after the other; of the cases of a row, the first that holds counts."""
    yield from _kernel_rows(seen)

    cores = f"{len(machine.cpus)} core{'s'[: len(machine.cpus) != 1]}"
    bfloat16 = "with" if machine.has_bfloat16 else "without"
    old = machine.architecture == "x86_64" and "avx2" not in machine.cpu_flags
    yield _row(
        "Processor",
        f"{machine.cpu_name}, {cores}, {bfloat16} bfloat16{', without AVX2' * old}",
        (profile == "GPU", "ok", ""),
        (old, "fix", f"{REMOTE_HINT}."),
        (not machine.has_bfloat16, "warn", f"Nothing: {dtype} is used, which is slower."),
        (len(machine.cpus) == 1, "warn", "Nothing: scoring and the notebook share it."),
    )
    free, needed = machine.memory_free, MEMORY_NEEDED[profile]
    safe = f"It may be just enough. {gib(needed)} are safe: close what you do not need."
    yield _row(
        "Memory",
        f"{gib(free)} free of {gib(machine.memory_total)}",
        (free >= needed or bool(seen.servers), "ok", ""),  # a server has taken its part already
        (free >= needed / 2, "warn", safe),
        (True, "fix", f"Free {gib(needed)}: close programs or other notebooks."),
    )
    yield _disk_row(seen, downloads=model.value is not None)
    if seen.state_problem:
        yield Row("State folder", "fix", *seen.state_problem.split(". ", 1))
    yield _gpu_row(seen)
    if seen.set_up.lacking and not old and seen.engine is not None and seen.engine.cpu_build:
        found, _, advice = seen.set_up.lacking.partition("\n")
        yield Row("System libraries", "fix", found, advice)
    yield _packages_row(seen)
    yield _engine_row(seen, profile)
    yield from _model_rows(seen, profile, model)
    running = ", ".join(f"{name} at {url}" for name, url in seen.servers)
    none = "none runs yet; notebook 01 launches one"
    yield Row("Score server", "ok", f"{running}; the notebooks will find it" if running else none)


def _kernel_rows(seen: Seen) -> Iterator[Row]:
    oldest = dotted(OLDEST_PYTHON)
    yield _row(
        "Python",
        dotted(seen.python),
        (seen.python < OLDEST_PYTHON, "fix", f"Install Python {oldest} or newer, then: make lab"),
    )
    machine = seen.machine
    fits = machine.system == "Linux" and machine.architecture in {"x86_64", "aarch64"}
    yield _row(
        "System",
        f"{machine.system}, {machine.architecture}",
        (not fits and seen.remote_url is None, "fix", f"vLLM needs Linux here. {REMOTE_HINT}."),
    )


def _remote_rows(seen: Seen) -> Iterator[Row]:
    yield from _kernel_rows(seen)
    yield _packages_row(seen)
    advice = "Correct or unset SCORE_SERVER_URL (and SCORE_API_KEY), then restart the kernel."
    found = seen.remote_problem or f"{', '.join(seen.remote_models)} at {seen.remote_url}"
    yield _row("Score server", found, (bool(seen.remote_problem), "fix", advice))


def _disk_row(seen: Seen, *, downloads: bool) -> Row:
    needs = {"hub": HUB_DISK if downloads and seen.hub != "cached" else 0, "state": STATE_DISK}
    found, full = [], []
    for device in dict.fromkeys(room.device for room in seen.rooms if needs[room.use]):
        rooms = [room for room in seen.rooms if room.device == device]
        free, needed = min(room.free for room in rooms), sum(needs[room.use] for room in rooms)
        found.append(f"{gib(free)} free")
        if free < needed:
            largest = max(rooms, key=lambda room: needs[room.use])
            full.append(f"Free {gib(needed)}, or {LARGER_DISK[largest.use]}.")
    return _row("Disk", " and ".join(found), (bool(full), "fix", " ".join(full)))


def _gpu_row(seen: Seen) -> Row:
    driver, engine = seen.driver, seen.engine
    gpus = engine.gpus if engine is not None and not engine.cpu_build else driver.gpus
    if not gpus:
        why = driver.fault or (engine.gpu_fault if engine else "")
        found = f"none that answers: {why}" if why else "none that answers; not needed, the CPU "
        found += "" if why else "serves a small model"
        advice = "Until that is fixed, the CPU serves. After an update of the driver: restart."
        return _row("GPU", found, (bool(why), "warn", advice))
    memory = "memory shared with the processor"
    if gpus[0].memory_total is not None and gpus[0].memory_free is not None:
        memory = f"{gib(gpus[0].memory_free)} free of {gib(gpus[0].memory_total)}"
    found = f"{gpus[0].name}, {memory}{f' and {len(gpus) - 1} more' * (len(gpus) > 1)}"
    obstacles = " ".join(text for text, _ in seen.set_up.obstacles)
    certain = any(certain for _, certain in seen.set_up.obstacles)
    if engine is not None and not engine.cpu_build:
        state = "fix" if certain else "warn"
        return _row("GPU", found, (bool(obstacles), state, f"vLLM may not start: {obstacles}"))
    idle = f"{found}, but this vLLM is a CPU build" if engine else found
    return _row(
        "GPU",
        f"{found}, not used" if obstacles else idle,
        (bool(obstacles), "warn", f"vLLM's GPU build will not do here: {obstacles}"),
        (engine is not None, "warn", "To use it, install the GPU build: PROFILE=gpu make lab"),
    )


def _packages_row(seen: Seen) -> Row:
    names = " ".join(f'"{requirement}"' for requirement, _ in seen.packages)
    found = ", ".join(f"{name.partition('>')[0]} {there}" for name, there in seen.packages)
    advice = f"In this kernel: %pip install {names} and then restart it."
    return _row("Packages", found or "all that the notebooks import", (bool(found), "fix", advice))


def _engine_row(seen: Seen, profile: str) -> Row:
    engine = seen.engine
    if engine is None:
        refused = seen.set_up.refused.get(profile, "").replace("\n", " ")
        later = f"The first start builds one beside this kernel, for the {profile}, in minutes."
        return _row(
            "vLLM",
            seen.engine_problem.partition(". ")[0],
            (bool(refused), "fix", refused),
            (seen.can_build_engine, "warn", later),
            (True, "fix", "Run: make lab"),
        )
    no_gpu = not engine.cpu_build and not engine.gpus
    why = f", but no GPU answers: {engine.gpu_fault or 'CUDA names none'}" * no_gpu
    mend = " ".join(["Fix that", *(text for text, _ in seen.set_up.obstacles)])
    known = " to ".join(map(dotted, ENGINES))
    return _row(
        "vLLM",
        f"{engine.version}, {'CPU' if engine.cpu_build else 'GPU'} build{why}",
        (no_gpu, "fix", f"{mend.rstrip('.')}, or serve on the CPU: PROFILE=cpu make lab"),
        (
            not ENGINES[0] <= numbers(engine.version)[:2] <= ENGINES[1],
            "warn",
            f"Untested: the notebooks are written for {known}.",
        ),
    )


def _model_rows(seen: Seen, profile: str, model: choices.Choice[str | None]) -> Iterator[Row]:
    found = {
        "cached": "not needed: the model is in its cache on this machine",
        **dict.fromkeys(("reachable", "missing", "gated"), "answers"),
        "": "not needed for the model below",
    }.get(seen.hub, "does not answer; not needed for the model below")
    lost = profile == "GPU" and seen.asked_model is None and seen.hub in {"offline", "unknown"}
    advice = "Nothing, or connect to the hub and restart the kernel for the larger model."
    instead = "does not answer, so the offline reranker serves"
    yield _row("Model hub", instead if lost else found, (lost, "warn", advice))

    name = model.value
    if name is None:
        yield Row("Model", "ok", f"{OFFLINE_MODEL_NAME}, from this repository. {model.reason}")
    elif is_local(name):
        there = Path(name).expanduser().is_dir()
        found = f"{name}. {model.reason}" if there else f"{name} is no folder here"
        yield _row("Model", found, (not there, "fix", "Correct SCORE_MODEL."))
    elif seen.hub in {"missing", "gated"}:
        advice = "Correct SCORE_MODEL. For a private or gated model: hf auth login, or set HF_TOKEN"
        yield Row("Model", "fix", f"the hub does not give {name} to this machine", advice)
    elif seen.hub in {"cached", "reachable"} or seen.asked_model is None:
        yield Row("Model", "ok", f"{name}. {model.reason}")
    else:
        advice = "Unset SCORE_MODEL, and the offline reranker is used; or connect to the hub."
        yield Row("Model", "fix", f"{name} is not here and the hub does not answer", advice)


def _row(name: str, found: str, *cases: tuple[bool, str, str]) -> Row:
    """Return the row of the first case (whether it holds, its state, its advice), or an "ok"."""
    for holds, state, advice in cases:
        if holds:
            return Row(name, state, found, advice)
    return Row(name, "ok", found)


def _expectation(profile: str, dtype: str, model: str | None) -> str:
    """Say what speed and start to expect, as far as it was measured."""
    if profile == "GPU":
        first = ", and the first start also downloads the model" * (model is not None)
        return (
            "A GPU takes a minute or more to start, because vLLM compiles the model for it"
            f"{first}. It then scores much faster than a CPU."
        )
    if model is not None:
        return "How fast a CPU scores with this model was not measured: larger models are slower."
    return (
        f"It starts in about {CPU_SECONDS_TO_START} s and scores on the order of "
        f"{CPU_PAIRS_PER_SECOND[dtype]} pairs of 20 tokens a second in {dtype}, as measured on 2 "
        "cores of a recent AMD processor. Longer texts take longer, and so do busy machines."
    )


def dotted(version: tuple[int, ...]) -> str:
    """Write a version as text."""
    return ".".join(map(str, version))


def gib(count: float) -> str:
    """Write a number of bytes in GiB."""
    return f"{count / GIB:.1f} GiB"
