"""Make every Python of a score server start faster; PYTHONPATH brings it there.

Python imports a module of this name before anything else. A server starts two processes, one after
the other, and each spends seconds on importing vLLM's 6,000 modules. Here, on a CPU, 9.0 seconds
each became 6.3, by two things (`ScoreServer(env={"PYTHONPATH": None})` does without them):

- The garbage collector runs after every 700 new objects, and finds nothing while modules load.
- Transformers imports scikit-learn, and with it SciPy and pandas, wherever they are installed, for
  a way of generating text. A score server generates none.

`helpers.command` sets PYTHONPATH for a server and for nothing else.
"""

import gc
import importlib.machinery
import importlib.util
import os
import sys

gc.set_threshold(10_000)
sys.modules["sklearn"] = None  # as if it were not installed

# The environment's own module of this name, if there is one, keeps its turn.
_others = [folder for folder in sys.path if folder != os.path.dirname(__file__)]
_own = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _own is not None and _own.loader is not None:
    _own.loader.exec_module(importlib.util.module_from_spec(_own))
