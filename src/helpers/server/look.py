"""Look at a machine: what a score server will need, and what of it is there.

Nothing is judged here; `check` does. Nothing is started or changed. Packages are imported where
they are used: it works where some of them are missing, and names them. What the set-up demands of a
machine is asked of the set-up's own script, so that both say the same.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from helpers.errors import EngineMissingError, ScoreError
from helpers.server.choices import HUB_MODEL
from helpers.server.command import without_secrets
from helpers.server.engine import REPOSITORY, can_build_engine, engine_python
from helpers.server.hub import look_at_hub
from helpers.server.machine import Driver, Machine, ask_driver, disk_free, look_at_machine
from helpers.server.model import OFFLINE_MODEL_NAME, is_local
from helpers.server.probe import Engine, find_engine, inherited_environment

URL_VARIABLE = "SCORE_SERVER_URL"
MODEL_VARIABLE = "SCORE_MODEL"


class Room(NamedTuple):
    """Free disk space where something is kept.

    Attributes:
        use: "hub" (its downloads) or "state" (models and logs).
        device: The number of the disk, which both may share.
        free: Bytes.
    """

    use: str
    device: int
    free: int


class SetUp(NamedTuple):
    """What the repository's set-up, which builds the engine, says of this machine.

    Attributes:
        obstacles: What keeps the GPU build from working, and whether that is certain.
        refused: By profile ("CPU", "GPU"), why it would build nothing.
        lacking: What the CPU build misses of the system, "" if nothing.
    """

    obstacles: tuple[tuple[str, bool], ...] = ()
    refused: Mapping[str, str] = MappingProxyType({})
    lacking: str = ""


NOTHING_SAID = SetUp()
NO_DRIVER = Driver()


@dataclass(frozen=True)
class Seen:
    """What was found on this machine, before any judgment.

    Attributes:
        machine: Processor and memory.
        python: The version of this kernel's Python.
        driver: What NVIDIA's driver says.
        set_up: What the repository's set-up says.
        rooms: Free disk space.
        engine: The vLLM that would serve.
        engine_problem: The sentence why there is none.
        can_build_engine: Whether the first start builds an environment for it beside the kernel's.
        hub: What `hub_state` says of the model that needs the hub, "" if it was not asked.
        asked_model: What the environment variable SCORE_MODEL names.
        state_problem: Why records and models cannot be kept, "" where they can.
        servers: Name of the model and address of each score server that runs here.
        remote_url: The server that SCORE_SERVER_URL names.
        remote_models: What it serves.
        remote_problem: Why it does not answer.
        packages: What this kernel lacks, as one asks pip for it, and what it has of it.
    """

    machine: Machine
    python: tuple[int, ...] = tuple(sys.version_info[:3])
    driver: Driver = NO_DRIVER
    set_up: SetUp = NOTHING_SAID
    rooms: tuple[Room, ...] = ()
    engine: Engine | None = None
    engine_problem: str = ""
    can_build_engine: bool = False
    hub: str = ""
    asked_model: str | None = None
    state_problem: str = ""
    servers: tuple[tuple[str, str], ...] = ()
    remote_url: str | None = None
    remote_models: tuple[str, ...] = ()
    remote_problem: str = ""
    packages: tuple[tuple[str, str], ...] = ()


def look_around() -> Seen:
    """Look at what the notebooks will need: machine, engine, hub, servers, packages."""
    packages = tuple(unmet_requirements())
    if url := os.environ.get(URL_VARIABLE, "").strip():
        models, problem = ask_server(url)
        return Seen(
            look_at_machine(),
            remote_url=without_secrets(url),
            remote_models=models,
            remote_problem=problem,
            packages=packages,
        )
    engine, problem, driver = None, "", ask_driver()
    try:
        engine = find_engine(engine_python())
    except EngineMissingError as error:
        problem = str(error)
    places: dict[str, Path] = {}
    servers, state_problem = [], ""
    try:
        from helpers.server import records

        places["state"] = records.state_dir()
        living = (record for record in records.load_all() if record.ready and record.is_alive())
        servers = [(record.model, record.url) for record in living]
    except ImportError:
        pass  # the row of the packages says so
    except ScoreError as error:
        state_problem = str(error)
    asked = os.environ.get(MODEL_VARIABLE, "").strip() or None
    wanted, hub = asked or HUB_MODEL, ""
    if wanted != OFFLINE_MODEL_NAME and not is_local(wanted):
        python = engine.python if engine else sys.executable
        hub, cache, _ = look_at_hub(wanted, inherited_environment(python), python=python)
        places |= {"hub": cache} if cache else {}
    return Seen(
        look_at_machine(),
        driver=driver,
        set_up=ask_set_up(driver),
        rooms=tuple(Room(use, _device(place), disk_free(place)) for use, place in places.items()),
        engine=engine,
        engine_problem=problem,
        can_build_engine=can_build_engine(),
        hub=hub,
        asked_model=asked,
        state_problem=state_problem,
        servers=tuple(servers),
        packages=packages,
    )


def unmet_requirements(repository: Path = REPOSITORY) -> Iterator[tuple[str, str]]:
    """Go through what the notebooks need of packages and this kernel lacks.

    The requirements are those of pyproject.toml, in a clone, or of the installed package.

    Yields:
        A requirement, such as "ipywidgets>=8.1", and what is there: "missing" or a version.
    """
    try:
        text = (repository / "pyproject.toml").read_text("utf-8")
        stated = tomllib.loads(text)["project"]["dependencies"]
    except OSError:
        stated = importlib.metadata.requires("vllm-score-notebooks") or []
    for requirement in stated:
        found = re.match(r"([\w.-]+)\s*>=\s*([\d.]+)(?!.*extra\s*==)", requirement)
        if found is None:
            continue
        try:
            version = importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            yield found[0], "missing"
            continue
        if numbers(version) < numbers(found[2]):
            yield found[0], version


def ask_set_up(driver: Driver, machine: Any = None, repository: Path = REPOSITORY) -> SetUp:
    """Ask the repository's set-up about this machine, which then are its words and its limits.

    Args:
        driver: What NVIDIA's driver says.
        machine: A Machine of scripts/floors.py, to judge instead of this one.
        repository: The clone; without one, nothing is said.
    """
    script = repository / "scripts" / "floors.py"
    if not script.is_file():
        return NOTHING_SAID
    floors = runpy.run_path(str(script))
    machine = machine or floors["this_machine"]()

    def refusal(check: str, *arguments: str) -> str:
        try:
            floors[check](machine, *arguments)
        except floors["Refusal"] as error:
            return str(error)
        return ""

    lacking, platform = refusal("check_cpu"), refusal("check_platform")
    refused = {"CPU": platform or refusal("check_room", "cpu") or lacking}
    refused["GPU"] = platform or refusal("check_room", "gpu")
    asked = floors["NO_DRIVER"]
    if driver != NO_DRIVER:
        capabilities = tuple(gpu.capability for gpu in driver.gpus)
        asked = floors["Driver"](numbers(driver.version), capabilities, driver.fault)
    obstacles = floors["gpu_obstacles"](machine, asked) if driver.gpus or driver.fault else ()
    return SetUp(tuple(obstacles), refused, lacking)


def ask_server(url: str) -> tuple[tuple[str, ...], str]:
    """Return the models that a server lists and "", or nothing and what went wrong."""
    try:
        from helpers.client import ScoreClient

        with ScoreClient(url, timeout=10, retries=0) as client:
            return tuple(client.models()), ""
    except ImportError as error:
        return (), f"not asked while a package is missing ({error.name})"
    except ScoreError as error:
        return (), str(error)


def numbers(version: str) -> tuple[int, ...]:
    """Read the first numbers of a version, without zeros at its end; () where there are none.

    >>> numbers("580.82.07"), numbers("5.0"), numbers("0.32.0+cpu"), numbers("2.0rc1")
    ((580, 82, 7), (5,), (0, 32), (2,))
    """
    found = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in found[0].split(".")] if found else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _device(folder: Path) -> int:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists()).stat().st_dev
