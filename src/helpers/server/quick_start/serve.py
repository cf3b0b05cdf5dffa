"""Run `vllm serve` so that it is ready in a quarter of the time; most of it goes into imports.

- A server on a CPU is two processes: one speaks HTTP, one, the engine, computes. vLLM starts the
  engine as a new Python there, which imports everything once more, although it knows how to fork.
  Here it forks, unless vLLM itself insists on a new Python (WSL, an initialised CUDA) or the
  environment asks for one.
- The first time that vLLM meets a kind of model on a machine, it looks at its class in a further
  Python, so that no CUDA is initialised. There is none on a CPU, so here it looks for itself.
- The garbage collector, which finds nothing while modules load, runs less often, and later leaves
  alone what was loaded. vLLM calls it three times while the engine starts.
- Python keeps the frames of calls in chunks of 16 kB, and returns a chunk to the system when its
  first call returns. Where a loop calls across a chunk's edge, each turn asks the system for memory
  and gives it back: up to a third of a start's processor time, here. `with_room` avoids it.
- A grammar of internationalised addresses, which `jsonschema` builds where JupyterLab is installed
  too, takes a second and is never used. It is hidden.

`command` uses this file on a CPU alone, and plain `vllm serve` does the same, later.
`benchmarks/README.md` says what each part saves.
"""

import contextlib
import gc
import os
import socket
import stat
import sys
from collections.abc import Callable

METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
# New objects between two runs of the garbage collector; by default 700 to 2,000.
LOADING, RUNNING = 1_000_000, 50_000
FRAME_SLOTS = 1 << 17  # of 8 bytes: the smallest chunk that holds such a frame is twice as large


def leave_port_to_parent() -> None:
    """Let go of the server's port in a fork, or it would stay open when the parent is gone."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        # The listing's own descriptor is closed by now.
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as copy:
                    if copy.family in (socket.AF_INET, socket.AF_INET6):
                        # Not closed: its number stays taken, so no object loses another file.
                        os.dup2(nowhere, number)
    os.close(nowhere)


def fork_the_engine() -> None:
    """Let vLLM choose once more how to start processes, without what it sets for every CPU."""
    from vllm.utils import system_utils

    choose = system_utils.get_mp_context

    def get_mp_context():
        # All is loaded. What is frozen is collected no more, and a fork need not copy it.
        gc.freeze()
        gc.set_threshold(RUNNING)
        # Whatever else speaks against a fork sets it again.
        os.environ.pop(METHOD, None)
        return choose()

    system_utils.get_mp_context = get_mp_context
    os.register_at_fork(after_in_child=leave_port_to_parent)
    gc.set_threshold(LOADING)


def look_at_models_here() -> None:
    """Let vLLM look at a model's class in this process."""
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()


def with_room(program: Callable[[], int | None]) -> int | None:
    """Call a program from a frame so large that its chunk has room for all frames above it."""

    def call() -> int | None:
        return program()

    call.__code__ = call.__code__.replace(co_stacksize=FRAME_SLOTS)
    return call()


if __name__ == "__main__":
    gc.set_threshold(RUNNING)
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    if METHOD not in os.environ:
        # A vLLM that has moved it starts as it always does.
        with contextlib.suppress(ImportError, AttributeError):
            fork_the_engine()
    with contextlib.suppress(ImportError):
        look_at_models_here()
    from vllm.entrypoints.cli.main import main

    sys.argv[0] = "vllm"
    sys.exit(with_room(main))
