"""Let nbval run the solutions too, and see through what differs between two processors.

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
import math
import re
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbval.plugin import IPyNbCell

# The offline reranker's scores in bfloat16 and float32 differ by at most 0.02; rounding to two
# digits adds 0.01. Logits are larger numbers, so the same share of the number is allowed too.
TOLERANCE = 0.03
# With the spaces before it, because columns are padded to the widest number. Version numbers and
# addresses (two dots or more) are none.
NUMBER = re.compile(r" *(?<![\w.])[-+]?\d+\.\d+(?:e[-+]?\d+)?(?!\.?\w)")
LOAD = re.compile(r"^# %load (solutions/\d\d_exercise_\d+\.py)$", re.MULTILINE)


@pytest.hookimpl(tryfirst=True)  # before anything is deselected, so that -k knows solutions too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each solution after the cell that names it, and notebook 01 after everything else.

    That one stops the server at its end, and whoever came next would have to start another.
    """
    for place in range(len(items) - 1, -1, -1):
        item = items[place]
        if isinstance(item, IPyNbCell) and (named := LOAD.search(item.cell.source)):
            items.insert(place + 1, solution_of(item, named.group(1)))
    items.sort(key=lambda item: item.path.name.startswith("01_"))


def solution_of(exercise: IPyNbCell, name: str) -> IPyNbCell:
    """Return a cell for nbval that runs a solution; it has no stored output to compare with."""
    path = Path(exercise.parent.path).parent / name
    return IPyNbCell.from_parent(
        exercise.parent,
        name=f"{exercise.name}, {name}",
        cell_num=exercise.cell_num,
        cell=new_code_cell(path.read_text("utf-8")),
        options=dict.fromkeys(("skip", "check", "check_exception"), False),
    )


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
