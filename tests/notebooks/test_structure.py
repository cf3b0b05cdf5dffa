"""Every notebook keeps to the shape of the collection, and the maps lead to all of them."""

import ast
import re

import pytest

import helpers
import translations
from notebook_rules import (
    LINK,
    MAP_ROW,
    REPOSITORY,
    RULES,
    Notebook,
    label,
    notebook_paths,
    places,
    python_tree,
    stated_minutes,
    with_map_rows,
)

NOTEBOOKS = notebook_paths()
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def readme():
    return (REPOSITORY / "README.md").read_text("utf-8")


def the_map():
    return Notebook.read(NOTEBOOKS[0]).sections["The map"].text


def test_the_collection_starts_with_notebook_00():
    assert NOTEBOOKS[0].name == "00_start_here.ipynb"


@pytest.mark.parametrize("text", [readme(), the_map()], ids=["README", "00"])
def test_a_map_has_a_row_for_every_number_without_a_gap_and_in_order(text):
    numbers = [int(row["number"]) for row in MAP_ROW.finditer(text)]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= int(NOTEBOOKS[-1].name[:2])


@pytest.mark.parametrize(
    ("text", "folder", "titled"),
    [(readme(), "notebooks/", False), (the_map(), "", True)],
    ids=["README", "00"],
)
def test_a_map_names_the_notebooks_and_their_minutes_as_they_do_themselves(text, folder, titled):
    assert with_map_rows(text, folder, titled=titled, paths=NOTEBOOKS) == text


def test_the_plans_of_the_workshop_leave_each_notebook_its_minutes_and_add_up():
    text = (REPOSITORY / "docs" / "workshop.md").read_text("utf-8")
    by_name = {path.name: path for path in NOTEBOOKS}
    plans = text.split("| minute | what | minutes |")[1:]
    assert len(plans) == 2
    for plan in plans:
        clock = 0
        for row in plan.partition("\n\n")[0].splitlines()[2:]:
            minute, *what, minutes = row.strip("| ").split(" | ")
            assert int(minute) == clock, row
            clock += int(minutes)
            for name in re.findall(r"\(\.\./notebooks/([^)]+)\)", str(what)):
                assert int(minutes) >= stated_minutes(Notebook.read(by_name[name]))[0], row


def test_notebook_01_explains_each_flag_and_each_variable_of_the_command_that_it_prints():
    notebook = Notebook.read(NOTEBOOKS[1])
    (cell,) = [cell for cell in notebook.code if cell.source == "print(server.command)"]
    command = cell.outputs[0].text
    words = re.findall(r"(--[a-z-]+)|(?<![\w-])([A-Z][A-Z_0-9]+)=", command)
    assert len(words) > 5
    prose = "\n".join(part.source for part in notebook.prose)
    assert {flag or name for flag, name in words if f"`{flag or name}" not in prose} == set()


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
    assert f"](notebooks/{path.name})" in readme()


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_the_map_of_notebook_00_links_the_notebook_by_number_and_title(path):
    assert f"[{label(path)}]({path.name})" in the_map()


def test_the_readme_links_no_notebook_that_is_not_there():
    linked = re.findall(r"\]\(notebooks/([^)#]+\.ipynb)", readme())
    assert set(linked) <= {path.name for path in NOTEBOOKS}


def test_every_solution_belongs_to_a_notebook():
    numbers = {path.name[:2] for path in NOTEBOOKS}
    files = {path.name for path in (NOTEBOOKS[0].parent / "solutions").iterdir() if path.is_file()}
    assert {name for name in files if name[:2] not in numbers} == set()


def test_the_glossary_is_in_alphabetical_order():
    text = (REPOSITORY / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert len(terms) > 50
    assert terms == sorted(terms, key=str.casefold)


@pytest.mark.parametrize(
    "name",
    ["README.md", "docs/glossary.md", "docs/troubleshooting.md", *translations.PAGES.values()],
)
def test_the_links_of_a_page_lead_to_files_and_headings_that_are_there(name):
    page = REPOSITORY / name
    text = page.read_text("utf-8")
    links = [("", place) for place in re.findall(r"\]\(#([^)\s]+)\)", text)]
    links += [link for link in LINK.findall(text) if "://" not in link[0]]
    assert links
    for target, place in links:
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if place and path.suffix == ".md":
            assert place in places(path.read_text("utf-8")), f"{target}#{place}"


def test_the_guides_name_folders_and_tests_that_are_there():
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    folders = re.findall(r"^\| `([^`]+/)` \|", guide, re.MULTILINE)
    assert len(folders) > 10
    assert [folder for folder in folders if not (REPOSITORY / folder).is_dir()] == []
    faults = (REPOSITORY / "tests" / "README.md").read_text("utf-8")
    tests = set(re.findall(r"`(test_\w+)`", faults))
    assert tests - {path.stem for path in (REPOSITORY / "tests").glob("*/test_*.py")} == set()
