"""Check, before anything is launched, whether this machine can serve scores, and say what to fix.

`look_around` sees, `assess` judges what was seen, `MachineCheck` shows the judgment. What suits
which hardware is not decided here but in `choices`.
"""

from __future__ import annotations

import html
import importlib.metadata
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.client import ScoreClient
from helpers.errors import EngineMissingError, ScoreError
from helpers.server import plan as choices
from helpers.server import records
from helpers.server.command import Engine, find_engine
from helpers.server.engine import can_build_engine, engine_python
from helpers.server.machine import GIB, Machine, hub_state, look_at_machine
from helpers.server.model import OFFLINE_MODEL_NAME
from helpers.server.model_folder import is_local
from helpers.server.server import MODEL_VARIABLE, URL_VARIABLE

OLDEST_PYTHON = (3, 11)
# The versions of vLLM that `command` is written for.
ENGINES = ((0, 26), (0, 32))
# A server on a CPU takes about 2 GB, measured with the offline reranker; the rest is for a kernel
# with pandas and for JupyterLab. A GPU's server passes its weights through memory on their way.
MEMORY_NEEDED = {"CPU": 3 * GIB, "GPU": 6 * GIB}
# Merged weights and logs; on a GPU with a hub also the download, 2.3 GB as 32-bit numbers.
DISK_NEEDED = {"CPU": 1 * GIB, "GPU": 4 * GIB}
# Pairs per second, in orders of magnitude, by dtype. Measured: 594 to 745 in bfloat16 and 274 in
# float32, one request of 1,000 pairs of about 20 tokens to a reranker of 22 million parameters on
# 2 cores (AMD Zen 5). On pairs of 116 tokens it was 182 in bfloat16.
CPU_PAIRS_PER_SECOND = {"bfloat16": 500, "float32": 200}
# Measured there, from launch to ready: 12 to 16 s.
CPU_SECONDS_TO_START = 20
REMOTE_HINT = (
    "Use a server that runs elsewhere: set SCORE_SERVER_URL to its address, then restart the kernel"
)
# The dependencies of this package, as stated in pyproject.toml. Its own metadata would say the
# same, but on a hosted platform it may be on the path without being installed.
PACKAGES = (
    "filelock",
    "ipywidgets",
    "matplotlib",
    "numpy",
    "pandas",
    "platformdirs",
    "prometheus-client",
    "psutil",
    "pyarrow",
    "requests",
    "safetensors",
    "tqdm",
)
HUB_TIMEOUT = 5.0  # seconds, name look-up included
MARKS = {"ok": "✓ ok", "warn": "! note", "fix": "✗ fix"}


@dataclass(frozen=True)
class Seen:
    """What was found on this machine, before any judgment.

    engine, engine_problem: the vLLM that would serve, or the sentence why there is none.
    can_build_engine: whether the first start builds an environment for it beside the kernel's.
    hub: what `hardware.hub_state` says of the model that needs the hub, "" if it was not asked.
    asked_model: what the environment variable SCORE_MODEL names.
    servers: name of the model and address of each score server that runs here.
    remote_url, remote_problem: the server that SCORE_SERVER_URL names, and why it does not answer.
    missing_packages: what the kernel lacks.
    """

    machine: Machine
    python: tuple[int, ...] = tuple(sys.version_info[:3])
    engine: Engine | None = None
    engine_problem: str = ""
    can_build_engine: bool = False
    hub: str = ""
    asked_model: str | None = None
    servers: tuple[tuple[str, str], ...] = ()
    remote_url: str | None = None
    remote_models: tuple[str, ...] = ()
    remote_problem: str = ""
    missing_packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the check.

    state: "ok", "warn" (it works, with a drawback) or "fix" (it does not work like this).
    found: what is there. advice: what to do about it, "" where there is nothing to do.
    """

    name: str
    state: str
    found: str
    advice: str = ""


@dataclass(frozen=True, repr=False)
class MachineCheck:
    """Hold the judgment on a machine; shows as a table in a notebook.

    rows: one for each thing that was checked.
    profile: "GPU", "CPU" or "remote": where scores will be computed.
    model: the name of the model that will be served.
    expectation: one or two sentences on speed and start, with the conditions of each figure.
    machine: what `hardware` saw.
    memory_needed: bytes of free memory that a server and its notebook take.
    """

    rows: tuple[Row, ...]
    profile: str
    model: str
    expectation: str
    machine: Machine
    memory_needed: int

    @property
    def ready(self) -> bool:
        """Tell whether the notebooks will run here as things are."""
        return not self.to_fix

    @property
    def to_fix(self) -> tuple[Row, ...]:
        """Return the rows that stand in the way."""
        return tuple(row for row in self.rows if row.state == "fix")

    @property
    def verdict(self) -> str:
        """Say in one sentence whether this machine is ready, and for what."""
        if not self.ready:
            names = ", ".join(row.name for row in self.to_fix)
            return f"Not ready yet. To fix: {names}."
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

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        body = "".join(
            f"<tr><td {left}>{MARKS[row.state]}</td><th scope='row' {left}>{html.escape(row.name)}"
            f"</th><td {left}>{html.escape(row.found)}</td>"
            f"<td {left}>{html.escape(row.advice)}</td></tr>"
            for row in self.rows
        )
        return (
            f"<p><strong>{html.escape(self.verdict)}</strong><br>"
            f"{html.escape(self.expectation)}</p>"
            f"<table><thead><tr><th></th><th scope='col' {left}>what</th>"
            f"<th scope='col' {left}>found</th><th scope='col' {left}>what to do</th></tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )


def check_machine() -> MachineCheck:
    """Check this machine; takes a few seconds, and starts and changes nothing."""
    return assess(look_around())


def look_around() -> Seen:
    """Look at what the notebooks will need: machine, engine, hub, servers, packages."""
    machine = look_at_machine(records.state_dir())
    asked = os.environ.get(MODEL_VARIABLE) or None
    missing = tuple(missing_packages())
    if url := os.environ.get(URL_VARIABLE):
        models, problem = ask_server(url)
        return Seen(
            machine,
            remote_url=without_password(url),
            remote_models=models,
            remote_problem=problem,
            missing_packages=missing,
        )
    engine, problem = None, ""
    try:
        engine = find_engine(engine_python())
    except EngineMissingError as error:
        problem = str(error)
    wanted = asked or choices.HUB_MODEL
    return Seen(
        machine,
        engine=engine,
        engine_problem=problem,
        can_build_engine=can_build_engine(),
        hub="" if is_local(wanted) else hub_state_within(wanted, HUB_TIMEOUT),
        asked_model=asked,
        servers=tuple(
            (record.model, record.url)
            for record in records.load_all()
            if record.ready and record.is_alive()
        ),
        missing_packages=missing,
    )


def assess(seen: Seen) -> MachineCheck:
    """Judge what was seen; pure."""
    machine = seen.machine
    rows = [python_row(seen), system_row(seen)]
    if seen.remote_url is not None:
        rows += [packages_row(seen), remote_row(seen)]
        return MachineCheck(
            rows=tuple(rows),
            profile="remote",
            model=", ".join(seen.remote_models) or "the remote model",
            expectation="Nothing is started or stopped here. Speed is that of the other machine.",
            machine=machine,
            memory_needed=GIB,
        )
    device = choices.choose_device(machine, cpu_build=bool(seen.engine and seen.engine.cpu_build))
    profile = device.value.upper()
    model = choices.choose_model(
        machine,
        device.value,
        hub=seen.hub,
        asked=seen.asked_model,
        source=f"The environment variable {MODEL_VARIABLE}",
    )
    dtype = choices.choose_dtype(machine, device.value)
    rows += [
        processor_row(seen, profile, dtype.value),
        memory_row(seen, profile),
        disk_row(seen, profile),
        gpu_row(seen, device),
        packages_row(seen),
        engine_row(seen),
        hub_row(seen, profile),
        model_row(seen, model),
        server_row(seen),
    ]
    return MachineCheck(
        rows=tuple(rows),
        profile=profile,
        model=model.value or OFFLINE_MODEL_NAME,
        expectation=expectation(profile, dtype.value, model.value),
        machine=machine,
        memory_needed=MEMORY_NEEDED[profile],
    )


def expectation(profile: str, dtype: str, model: str | None) -> str:
    """Say what speed and start to expect, as far as it was measured."""
    if profile == "GPU":
        first = ", and the first start also downloads the model" if model is not None else ""
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


# A row for each thing that is checked.


def python_row(seen: Seen) -> Row:
    """The version of Python that this kernel runs."""
    version = ".".join(map(str, seen.python))
    if seen.python[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Row("Python", "fix", version, f"Install Python {oldest} or newer, then: make lab")
    return Row("Python", "ok", version)


def system_row(seen: Seen) -> Row:
    """The operating system and the kind of processor."""
    system, kind = seen.machine.system, seen.machine.architecture
    fits = system == "Linux" and kind in {"x86_64", "aarch64"}
    if fits or seen.remote_url is not None:
        return Row("System", "ok", f"{system}, {kind}")
    return Row("System", "fix", f"{system}, {kind}", f"vLLM needs Linux here. {REMOTE_HINT}.")


def processor_row(seen: Seen, profile: str, dtype: str) -> Row:
    """The processor: AVX2 on x86-64, bfloat16, cores."""
    machine = seen.machine
    count = len(machine.cpus)
    bfloat16 = "with" if machine.has_bfloat16 else "without"
    found = f"{machine.cpu_name}, {count} core{'s'[: count != 1]}, {bfloat16} bfloat16"
    if profile == "GPU":
        return Row("Processor", "ok", found)
    if machine.architecture == "x86_64" and "avx2" not in machine.cpu_flags:
        return Row("Processor", "fix", f"{found}, without AVX2", f"{REMOTE_HINT}.")
    if not machine.has_bfloat16:
        return Row("Processor", "warn", found, f"Nothing: {dtype} is used, which is slower.")
    if count == 1:
        return Row("Processor", "warn", found, "Nothing: scoring and the notebook share it.")
    return Row("Processor", "ok", found)


def memory_row(seen: Seen, profile: str) -> Row:
    """Free memory; a server that runs already has taken its part."""
    machine = seen.machine
    found = f"{gib(machine.memory_free)} free of {gib(machine.memory_total)}"
    needed = MEMORY_NEEDED[profile]
    if machine.memory_free >= needed or seen.servers:
        return Row("Memory", "ok", found)
    if machine.memory_free >= needed / 2:
        advice = f"It may be just enough. {gib(needed)} are safe: close what you do not need."
        return Row("Memory", "warn", found, advice)
    return Row("Memory", "fix", found, f"Free {gib(needed)}: close programs or other notebooks.")


def disk_row(seen: Seen, profile: str) -> Row:
    """Free disk space where models and logs are kept."""
    free, needed = seen.machine.disk_free, DISK_NEEDED[profile]
    if free >= needed:
        return Row("Disk", "ok", f"{gib(free)} free")
    advice = f"Free {gib(needed)}, or set SCORE_STATE_DIR to a folder on a larger disk."
    return Row("Disk", "fix", f"{gib(free)} free", advice)


def gpu_row(seen: Seen, device: choices.Choice) -> Row:
    """The GPU, if there is one, and whether it is used."""
    gpu = seen.machine.gpu
    if gpu is None:
        return Row("GPU", "ok", "none that answers; not needed, the CPU serves a small model")
    found = f"{gpu.name}, {gib(gpu.memory_free)} free of {gib(gpu.memory_total)}"
    if device.value == "gpu":
        return Row("GPU", "ok", found)
    advice = "To use it, install the GPU build: PROFILE=gpu make lab"
    return Row("GPU", "warn", f"{found}. {device.reason}", advice)


def packages_row(seen: Seen) -> Row:
    """The packages that the notebooks import."""
    if not seen.missing_packages:
        return Row("Packages", "ok", "all that the notebooks import")
    names = " ".join(seen.missing_packages)
    return Row("Packages", "fix", f"missing: {names}", f"In this kernel: %pip install {names}")


def engine_row(seen: Seen) -> Row:
    """The vLLM that will serve, in whichever interpreter it lives."""
    engine = seen.engine
    if engine is None:
        found = seen.engine_problem.partition(". ")[0]
        if seen.can_build_engine:
            advice = "The first start builds one beside this kernel, in a few minutes."
            return Row("vLLM", "warn", found, advice)
        return Row("vLLM", "fix", found, "Run: make lab")
    found = f"{engine.version}, {'CPU' if engine.cpu_build else 'GPU'} build"
    if not engine.cpu_build and seen.machine.gpu is None:
        advice = "A GPU build needs a GPU. Run: PROFILE=cpu make lab"
        return Row("vLLM", "fix", f"{found}, but no GPU answers", advice)
    version = tuple(int(number) for number in re.findall(r"\d+", engine.version)[:2])
    oldest, newest = ENGINES
    if not oldest <= version <= newest:
        known = " to ".join(".".join(map(str, end)) for end in ENGINES)
        return Row("vLLM", "warn", found, f"Untested: the notebooks are written for {known}.")
    return Row("vLLM", "ok", found)


def hub_row(seen: Seen, profile: str) -> Row:
    """Whether models can be had from the hub; only the large one on a GPU comes from there."""
    if seen.hub == "cached":
        return Row("Model hub", "ok", "not needed: the model is in its cache on this machine")
    if seen.hub in {"reachable", "missing"}:
        return Row("Model hub", "ok", "answers")
    if profile == "GPU" and seen.asked_model is None:
        advice = "Nothing, or connect to the hub and restart the kernel for the larger model."
        return Row("Model hub", "warn", "does not answer, so the offline reranker serves", advice)
    return Row("Model hub", "ok", "does not answer; not needed for the model below")


def model_row(seen: Seen, model: choices.Choice) -> Row:
    """The model that will be served, and where it comes from."""
    if model.value is None:
        return Row("Model", "ok", f"{OFFLINE_MODEL_NAME}, from this repository. {model.reason}")
    found = f"{model.value}. {model.reason}"
    if is_local(model.value):
        if Path(model.value).expanduser().is_dir():
            return Row("Model", "ok", found)
        return Row("Model", "fix", f"{model.value} is no folder here", "Correct SCORE_MODEL.")
    if seen.hub in {"cached", "reachable"}:
        return Row("Model", "ok", found)
    if seen.hub == "missing":
        advice = "Correct SCORE_MODEL, or set HF_TOKEN if the model is private."
        return Row("Model", "fix", f"the hub knows no public model {model.value}", advice)
    advice = "Unset SCORE_MODEL, and the offline reranker is used; or connect to the hub."
    return Row("Model", "fix", f"{model.value} is not here and the hub does not answer", advice)


def server_row(seen: Seen) -> Row:
    """The score servers that run on this machine already."""
    if not seen.servers:
        return Row("Score server", "ok", "none runs yet; notebook 01 launches one")
    running = ", ".join(f"{model} at {url}" for model, url in seen.servers)
    return Row("Score server", "ok", f"{running}; the notebooks will find it")


def remote_row(seen: Seen) -> Row:
    """The server that SCORE_SERVER_URL names."""
    if seen.remote_problem:
        advice = "Correct or unset SCORE_SERVER_URL (and SCORE_API_KEY), then restart the kernel."
        return Row("Score server", "fix", seen.remote_problem, advice)
    return Row("Score server", "ok", f"{', '.join(seen.remote_models)} at {seen.remote_url}")


# How things are found out.


def missing_packages() -> Iterator[str]:
    """Go through the packages that the notebooks need and the kernel lacks."""
    for name in PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name


def ask_server(url: str) -> tuple[tuple[str, ...], str]:
    """Return the models that a server lists and "", or nothing and what went wrong."""
    try:
        with ScoreClient(url, timeout=10, retries=0) as client:
            return tuple(client.models()), ""
    except ScoreError as error:
        return (), str(error)


def hub_state_within(model: str, seconds: float) -> str:
    """Return `hardware.hub_state`, or "offline" if it takes longer.

    A time-out of requests does not cover the look-up of a name, which can hang for a minute behind
    a broken resolver.
    """
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(hub_state(model)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else "offline"


def without_password(url: str) -> str:
    """Return an address without user name and password.

    >>> without_password("https://me:secret@example.org/scores")
    'https://example.org/scores'
    """
    return re.sub(r"//[^/@]*@", "//", url)


def gib(count: int) -> str:
    """Write a number of bytes in GiB."""
    return f"{count / GIB:.1f} GiB"
