"""An environment of its own for a peer whose packages do not fit beside vLLM's."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
# The set-up of .venv lives there: it knows how to come by a torch without CUDA.
sys.path.insert(0, str(BENCHMARKS.parent / "scripts"))

import setup_env  # noqa: E402


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment, which is built first if need be.

    The pins are those of `requirements/PEER.txt`, all of them.

    Raises:
        setup_env.Refusal: It cannot be built; the text holds pip's last words.
    """
    home = BENCHMARKS / ".envs" / peer
    home.mkdir(parents=True, exist_ok=True)
    environment = setup_env.Environment(home)
    pin_file = BENCHMARKS / "requirements" / f"{peer}.txt"
    pins = setup_env.pins(pin_file)
    wanted = [platform.python_version(), str(environment.folder), *pins]
    key = hashlib.sha256("\0".join(wanted).encode()).hexdigest()
    with setup_env.alone(home):
        if environment.read_stamp().get("key") != key or not environment.python_runs():
            setup_env.report(f"Building the environment of {peer}; this takes a few minutes.")
            setup_env.create(environment)
            setup_env.install_cpu_torch(environment, setup_env.pin_for("torch", pin_file))
            setup_env.install(environment, ["-r", str(pin_file)], total=len(pins))
            environment.write_stamp(key, peer, pins)
    return environment.python
