"""Keep a run's servers together, give nbval kernels and solutions, compare with a tolerance.

Each process that runs tests has one state folder, and with it one real server. The folder's name
stands in SCORE_STATE_DIR, so the kernels that nbval starts inherit it: whoever comes first launches
the server, everybody else adopts it, and the end of the run ends it. The processes of pytest-xdist
(`make test` has two) share nothing: notebook 01 stops the server that it finds, and 12 reads its
counters.

Notebooks 01 to 13 run in a kernel as hosted platforms have it (`tests/hosted_kernel.py`), the
others in that of `.venv`, and with `--own-kernels` all do.

Every solution runs where a learner would load it: right after the empty cell of its exercise, in
the kernel of its notebook. Each ends with asserts about its results, and what comes after it must
give the stored outputs, solved or not.

nbval compares texts. A score that was computed in bfloat16 and one computed in float32 differ by
up to 0.02, and a rounded score may flip at its edge for far less. So before nbval compares, each
decimal number of the fresh output that is close enough to the stored one is replaced by it. What
is left is nbval's own, exact comparison: text, order, whole numbers and counts must be equal.
"""

from __future__ import annotations

import copy
import gc
import math
import os
import re
import shutil
import signal
import tempfile
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

import hosted_kernel
from helpers.server.model import OFFLINE_MODEL_NAME
from helpers.server.server import stop_all

PREFIX = "score-tests-"
STATE = "score_state"  # its place in what pytest-xdist hands to a process
_made = pytest.StashKey[list[str]]()

# The offline reranker's scores in bfloat16 and float32 differ by at most 0.02; rounding to two
# digits adds 0.01. Logits are larger numbers, so the same share of the number is allowed too.
TOLERANCE = 0.03
# With the spaces before it, because columns are padded to the widest number. Version numbers and
# addresses (two dots or more) are none.
NUMBER = re.compile(r" *(?<![\w.])[-+]?\d+\.\d+(?:e[-+]?\d+)?(?!\.?\w)")
LOAD = re.compile(r"^# %load (solutions/\d\d_exercise_\d+\.py)$", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this project's tests."""
    parser.addoption(
        "--pictures",
        action="store_true",
        help="photograph the notebooks in the browser, in both themes, into .artefacts/browser",
    )
    parser.addoption(
        "--kills",
        action="store_true",
        help="use Ray, and kill it and the kernels of 14 and 15 (minutes, an idle machine)",
    )
    parser.addoption(
        "--own-kernels",
        action="store_true",
        help="run every notebook in this environment's kernel, none in a hosted platform's",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep the run's servers apart from those of the person who runs it, and choose the model.

    The stored outputs of the notebooks are the offline reranker's, so it serves on a GPU too.
    """
    gc.set_threshold(50_000)  # thousands of tests stay in memory, and need not be gone through
    os.environ.setdefault("SCORE_MODEL", OFFLINE_MODEL_NAME)
    # A shell's background job ignores interrupts, which some tests send.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # An end from outside, such as that of `timeout`, ends the servers of the fixtures too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Two processes share the cores, so a thread that waits must not spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("SCORE_SERVER_URL", "SCORE_API_KEY", "BEIR_DATASET"):
        os.environ.pop(name, None)
    config.stash[_made] = []
    if hasattr(config, "workerinput"):
        os.environ["SCORE_STATE_DIR"] = config.workerinput[STATE]
    elif not Path(os.environ.get("SCORE_STATE_DIR", "")).name.startswith(PREFIX):
        # Else it is a run that another test started: that one shares the folder it was given.
        os.environ["SCORE_STATE_DIR"] = make_folder(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a process of pytest-xdist its folder."""
    node.workerinput[STATE] = make_folder(node.config)


def make_folder(config: pytest.Config) -> str:
    """Make a state folder that goes, with its servers, at the end of the run."""
    config.stash[_made].append(tempfile.mkdtemp(prefix=PREFIX))
    return config.stash[_made][-1]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's servers, whether a test or a notebook started them.

    The process that was called does so for those of pytest-xdist too: they may have been killed.
    """
    for folder in config.stash.get(_made, []):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCORE_STATE_DIR", folder)
            stop_all()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before anything is deselected, so that -k knows solutions too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each solution after the cell that names it, and notebooks 00 and 01 at the end.

    Those stop a server at their end, and whoever came next would have to start another. A notebook
    in a hosted platform's kernel gets a last cell, which looks at what the kernel has then.
    """
    for place in range(len(items) - 1, -1, -1):
        item = items[place]
        if not isinstance(item, IPyNbCell):
            continue
        book = item.parent
        if not item.config.option.own_kernels and "01" <= book.path.name[:2] <= "13":
            if place + 1 == len(items) or items[place + 1].parent is not book:
                book.setup = partial(set_up_hosted, book)
                items.insert(place + 1, further_cell(item, "its kernel", hosted_kernel.LAST_CELL))
            if item.cell_num == 0:
                item.options["check"] = False  # it installs the collection there, and says so
        if named := LOAD.search(item.cell.source):
            source = (book.path.parent / named.group(1)).read_text("utf-8")
            items.insert(place + 1, further_cell(item, named.group(1), source))
    items.sort(key=lambda item: item.path.name.startswith(("00_", "01_")))


def further_cell(after: IPyNbCell, name: str, source: str) -> IPyNbCell:
    """Return a cell for nbval that runs after another; it has no stored output to compare with."""
    return IPyNbCell.from_parent(
        after.parent,
        name=f"{after.name}, {name}",
        cell_num=after.cell_num,
        cell=new_code_cell(source),
        options=dict.fromkeys(("skip", "check", "check_exception"), False),
    )


def set_up_hosted(book: IPyNbFile) -> None:
    """Do what nbval does before a notebook's first cell, with a hosted platform's kernel."""
    try:
        folder = hosted_platform(hosted_kernel.extra_of(book.path))
    except hosted_kernel.NotHereError as reason:
        warnings.warn(f"{book.path.name} runs in this environment's kernel: {reason}", stacklevel=2)
        IPyNbFile.setup(book)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        timeout = book.config.option.nbval_kernel_startup_timeout
        book.kernel = RunningKernel("hosted", str(book.path.parent), timeout)
    book.setup_sanitize_files()


@cache
def hosted_platform(extra: str) -> Path:
    """Make the kernel of a hosted platform; its folder is kept until the run ends."""
    folder = Path(os.environ["SCORE_STATE_DIR"]) / f"hosted-{extra or 'plain'}"
    hosted_kernel.make_platform(folder, extra)
    return folder


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put the tolerance before nbval's comparison, cell by cell."""
    if isinstance(item, IPyNbCell):
        exact = item.compare_outputs

        def tolerant(fresh: list[NotebookNode], stored: list[NotebookNode]) -> bool:
            return exact(with_close_numbers_of(stored, fresh), stored)

        item.compare_outputs = tolerant


def with_close_numbers_of(
    stored: list[NotebookNode], fresh: list[NotebookNode]
) -> list[NotebookNode]:
    """Return a copy of the fresh outputs with stored numbers where they are close."""
    aligned = copy.deepcopy(fresh)
    for old, new in zip(stored, aligned, strict=False):
        for old_part, new_part in ((old, new), (old.get("data", {}), new.get("data", {}))):
            for key in old_part.keys() & new_part.keys():
                if isinstance(old_part[key], str) and isinstance(new_part[key], str):
                    new_part[key] = align(old_part[key], new_part[key])
    return aligned


def align(stored: str, fresh: str) -> str:
    """Return `fresh` with each number close to the stored one replaced by it.

    Returns `fresh` as it is if the two texts differ in more than their decimal numbers.
    """
    if NUMBER.sub("#", stored) != NUMBER.sub("#", fresh):
        return fresh
    numbers = iter(NUMBER.findall(stored))

    def closer(match: re.Match[str]) -> str:
        old, new = next(numbers), match.group()
        same = math.isclose(float(old), float(new), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return old if same else new

    return NUMBER.sub(closer, fresh)
