"""Say which Python's vLLM serves, and build an environment for it beside the kernel's.

On a hosted platform the kernel brings its own numpy, torch and CUDA, and vLLM would replace them
under its feet. So the engine never goes into such a kernel's environment. It lives in `.venv` in
the folder of this repository: the same environment, with the same pins, that `make lab` builds.
One way serves both, so the one that is tested is the one that hosted platforms get, and a clone
that is kept keeps its engine.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from helpers.errors import EngineMissingError

PYTHON_VARIABLE = "SCORE_SERVER_PYTHON"
REPOSITORY = Path(__file__).resolve().parents[3]


def engine_python(repository: Path = REPOSITORY) -> str:
    """Return the interpreter whose vLLM serves when none is named; nothing is run or built.

    It is that of SCORE_SERVER_PYTHON, or else the kernel's own if vLLM is installed there, or else
    that of the repository's `.venv` once that is finished. Where there is none of them, it is the
    kernel's own, without a vLLM.
    """
    if named := os.environ.get(PYTHON_VARIABLE, "").strip():
        return os.path.expanduser(named)
    if not _kernel_has_vllm() and _is_ready(repository):
        return str(repository / ".venv" / "bin" / "python")
    return sys.executable


def prepare_engine(repository: Path = REPOSITORY) -> str:
    """Build the engine's environment if this kernel has no vLLM, or renew it if its pins changed.

    Building takes some minutes and gigabytes, prints its progress, and leaves the kernel's packages
    as they are. Where all is as it should be, nothing is printed, and it takes a second at most.
    Interrupt it, and the next call starts it again.

    Returns:
        The interpreter whose vLLM serves.

    Raises:
        EngineMissingError: `helpers` was not installed from a clone, or the set-up failed.
    """
    if os.environ.get(PYTHON_VARIABLE, "").strip() or _kernel_has_vllm():
        return engine_python(repository)  # whether it works is for the launch to find out
    if not _script(repository).is_file():
        raise EngineMissingError(
            "This kernel has no vLLM, and there is no clone of the collection to build one in. "
            "Clone it, and from its folder: pip install -e . "
            "Or name an interpreter that has vLLM: SCORE_SERVER_PYTHON."
        )
    if not _is_ready(repository):
        print("This kernel has no vLLM. It gets an environment of its own, beside the kernel's.")
    failure = run_setup([str(_script(repository))])
    if failure is not None:
        raise EngineMissingError(f"The engine's environment could not be built. {failure}")
    return engine_python(repository)


def run_setup(arguments: list[str]) -> str | None:
    """Run a script that builds an environment, and pass on what it prints.

    Args:
        arguments: The script's path and its arguments.

    Returns:
        Why it failed, in its own last words; None if it did not.
    """
    said = []
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as setup:
        assert setup.stdout is not None
        try:
            for line in setup.stdout:
                print(line, end="")
                said.append(line)
        except BaseException:
            # Whatever ends this call ends the install too; it forwards the end to pip.
            setup.terminate()
            raise
    if setup.returncode == 0:
        return None
    return "".join(said).rpartition("Set-up stopped. ")[2].strip()


def can_build_engine(repository: Path = REPOSITORY) -> bool:
    """Return whether `prepare_engine` would build: in a clone, where no other vLLM is to serve."""
    named = os.environ.get(PYTHON_VARIABLE, "").strip()
    return not named and not _kernel_has_vllm() and _script(repository).is_file()


def engine_packages(repository: Path = REPOSITORY) -> list[str]:
    """Return the folders with the packages of the repository's `.venv`, none if it is not built."""
    return [str(folder) for folder in (repository / ".venv").glob("lib/python*/site-packages")]


def _kernel_has_vllm() -> bool:
    spec = importlib.util.find_spec("vllm")
    # Any folder of that name, such as a clone's in the working folder, passes for a package.
    return spec is not None and spec.origin is not None


def _script(repository: Path) -> Path:
    return repository / "scripts" / "setup_env.py"


def _is_ready(repository: Path) -> bool:
    return (repository / ".venv" / "setup-stamp.json").is_file()
