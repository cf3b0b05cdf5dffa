"""Every solution works where a learner would load it: in the exercise's cell of its notebook.

A notebook is run once with all its solutions in place, up to the last of them. Each ends with
asserts about its results. What comes later, such as stopping the server, is left to nbval.
"""

import copy

import pytest

from notebook_rules import Notebook, notebook_paths, tags
from notebooks import execute

PATHS = [path for path in notebook_paths() if Notebook.read(path).exercises]


@pytest.mark.server
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_solutions_run_in_their_notebook(path):
    node = copy.deepcopy(Notebook.read(path).node)
    stubs = [cell for cell in node.cells if "exercise" in tags(cell)]
    assert stubs, "the notebook has exercises, and none has a cell to solve it in"
    for number, cell in enumerate(stubs, start=1):
        solution = path.parent / "solutions" / f"{path.name[:2]}_exercise_{number}.py"
        cell.source = solution.read_text("utf-8")
    del node.cells[node.cells.index(stubs[-1]) + 1 :]
    # Raises, naming the cell, if anything fails that is not tagged raises-exception.
    execute(node, path.parent)
