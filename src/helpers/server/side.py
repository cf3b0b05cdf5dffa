"""Give a tool of other people an environment of its own, beside the kernel's.

Clients of other makers want versions of packages that do not go with vLLM's, or with each other.
Each group of them has a file of pins in `requirements/environments` and a folder in `.envs` of the
clone, built on first use by the script that builds `.venv` too.
"""

from __future__ import annotations

from pathlib import Path

from helpers.errors import InputError, SideEnvironmentError
from helpers.server.engine import REPOSITORY, run_setup


def side_environment(name: str, repository: Path = REPOSITORY) -> str:
    """Return the interpreter of an environment, which is built first if need be.

    Building prints its progress. Where all is as it should be, nothing is printed, and it takes a
    fraction of a second. Interrupt it, and the next call starts it again.

    Args:
        name: What its pins are called: `requirements/environments/NAME.txt`.
        repository: The clone to build in.

    Raises:
        InputError: There are no pins of that name.
        SideEnvironmentError: There is no clone to build in, or the packages cannot be installed.
    """
    script = repository / "scripts" / "side_environment.py"
    pins = repository / "requirements" / "environments"
    if not script.is_file():
        raise SideEnvironmentError(
            "There is no clone of the collection to build an environment in. "
            "Clone it, and from its folder: pip install -e ."
        )
    if not (pins / f"{name}.txt").is_file():
        there = ", ".join(sorted(path.stem for path in pins.glob("*.txt")))
        raise InputError(f"There is no environment {name!r}. There are: {there}")
    failure = run_setup([str(script), name])
    if failure is not None:
        raise SideEnvironmentError(f"The environment {name} could not be built. {failure}")
    return str(repository / ".envs" / name / ".venv" / "bin" / "python")
