"""Build an environment of its own for tools that do not fit beside vLLM's packages.

    python scripts/side_environment.py NAME

Its pins, all of them, are those of `requirements/environments/NAME.txt`; it lies in `.envs/NAME` of
the clone. A call that finds it finished, with the same pins, does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import signal
import sys
import time
from pathlib import Path

import setup_env
from floors import REPOSITORY, Refusal

PINS = Path("requirements", "environments")


def main(arguments: list[str] | None = None, repository: Path = REPOSITORY) -> int:
    """Build an environment from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=names(repository))
    options = parser.parse_args(arguments)
    # Whatever ends this call ends pip too; setup_env.pip forwards it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        build(options.name, repository)
    except Refusal as refusal:
        print(f"\nSet-up stopped. {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted. The next call starts it again.", file=sys.stderr)
        return 130
    return 0


def names(repository: Path) -> list[str]:
    """Return the names of the environments that have pins."""
    return sorted(path.stem for path in (repository / PINS).glob("*.txt"))


def build(name: str, repository: Path) -> None:
    """Make an environment ready; do nothing where it is.

    Raises:
        Refusal: It cannot be built; the text holds pip's last words.
    """
    home = repository / ".envs" / name
    home.mkdir(parents=True, exist_ok=True)
    environment = setup_env.Environment(home)
    pin_file = repository / PINS / f"{name}.txt"
    pins = setup_env.pins(pin_file)
    wanted = [platform.python_version(), str(environment.folder), *pins]
    key = hashlib.sha256("\0".join(wanted).encode()).hexdigest()
    with setup_env.alone(home):
        if environment.read_stamp().get("key") == key and environment.python_runs():
            return
        setup_env.check_venv_module()
        setup_env.report(
            f"Building the environment {name}: {len(pins)} packages, beside the kernel's own."
        )
        began = time.monotonic()
        setup_env.create(environment)
        for torch in (pin for pin in pins if setup_env.name_of(pin) == "torch"):
            setup_env.install_cpu_torch(environment, torch)
        setup_env.install_pins(environment, pin_file)
        environment.write_stamp(key, name, pins)
        seconds, size = time.monotonic() - began, environment.size() / 1e6
        setup_env.report(f"Ready after {seconds:.0f} s; it takes {size:.0f} MB.")


if __name__ == "__main__":
    sys.exit(main())
