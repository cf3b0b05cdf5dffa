"""Every notebook keeps to the shape of the collection, and the maps lead to all of them."""

import ast
import re

import pytest

import helpers
from notebook_rules import REPOSITORY, RULES, Notebook, label, notebook_paths, python_tree

NOTEBOOKS = notebook_paths()
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_collection_starts_with_notebook_00_and_says_which_numbers_are_still_to_come():
    assert NOTEBOOKS[0].name == "00_start_here.ipynb"
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    planned = set(range(numbers[-1])) - set(numbers)
    text = (REPOSITORY / "README.md").read_text("utf-8")
    assert {number for number in planned if f"({number})" not in text} == set()


@each_notebook
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_the_notebook_keeps_the_rule(rule, path):
    assert list(rule(Notebook.read(path))) == []


@each_notebook
def test_what_a_notebook_imports_from_helpers_is_public(path):
    for cell in Notebook.read(path).code:
        for node in ast.walk(python_tree(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module == "helpers":
                assert {alias.name for alias in node.names} <= set(helpers.__all__)


@each_notebook
def test_the_readme_links_the_notebook(path):
    assert f"](notebooks/{path.name})" in (REPOSITORY / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_the_map_of_notebook_00_links_the_notebook_by_number_and_title(path):
    start = Notebook.read(NOTEBOOKS[0])
    assert f"[{label(path)}]({path.name})" in start.sections["The map"].text


def test_the_readme_links_no_notebook_that_is_not_there():
    text = (REPOSITORY / "README.md").read_text("utf-8")
    linked = re.findall(r"\]\(notebooks/([^)#]+\.ipynb)", text)
    assert set(linked) <= {path.name for path in NOTEBOOKS}


def test_every_solution_belongs_to_a_notebook():
    numbers = {path.name[:2] for path in NOTEBOOKS}
    files = {path.name for path in (NOTEBOOKS[0].parent / "solutions").iterdir() if path.is_file()}
    assert {name for name in files if name[:2] not in numbers} == set()
