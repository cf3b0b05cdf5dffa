"""Make every Python of a score server start faster; PYTHONPATH brings it there.

Python imports a module of this name before anything else. A server is two processes: one speaks
HTTP, one, the engine, computes. Each spends seconds on importing vLLM's 6,000 modules, one after
the other, unless these three are in place (`ScoreServer(env={"PYTHONPATH": None})` does without):

- The garbage collector runs after every 700 new objects, and finds nothing while modules load.
- Transformers imports scikit-learn, and with it SciPy and pandas, wherever they are installed, for
  a way of generating text. A score server generates none.
- On a CPU vLLM starts the engine as a new Python, although it knows how to fork the first process,
  whose modules are loaded already. Where the engine is one process on a CPU, it is forked here.

`helpers.server.command` sets PYTHONPATH for a server and for nothing else.
"""

import gc
import importlib.machinery
import importlib.util
import multiprocessing
import os
import socket
import stat
import sys

gc.set_threshold(10_000)
sys.modules["sklearn"] = None  # as if it were not installed


def _leave_port_to_parent():
    """Let go of the server's port in a fork, or it would stay open when the parent is gone."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as copy:
                on_network = copy.family in (socket.AF_INET, socket.AF_INET6)
        except OSError:
            continue  # the listing's own descriptor, closed by now
        if on_network:
            # Not closed: its number stays taken, so that no object of Python's loses another file.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)
            os.close(nowhere)


def _get_context(method=None):
    asks = sys._getframe(1).f_globals["__name__"]
    if asks == "vllm.utils.system_utils" and method == "spawn":
        method = "fork"
    return _get_any_context(method)


# What `helpers.server.command` sets for one process with its worker inside, and only on a CPU.
if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
    _get_any_context = multiprocessing.get_context
    multiprocessing.get_context = _get_context
    os.register_at_fork(after_in_child=_leave_port_to_parent)

# The environment's own module of this name, if there is one, keeps its turn.
_others = [folder for folder in sys.path if folder != os.path.dirname(__file__)]
_own = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _own is not None and _own.loader is not None:
    _own.loader.exec_module(importlib.util.module_from_spec(_own))
