"""`scripts/notebooks.py` stores what a reader can use, or stores nothing and says why."""

import copy
import json
import platform

import nbformat
import pytest

import notebook_rules
import notebooks
from notebook_rules import METADATA, WIDGET_VIEW, Notebook, install_parts
from notebooks import NotStored

BAR = """from tqdm.auto import tqdm
for _ in tqdm(range(3), desc='Scoring {what}', leave={leave}):
    pass"""


@pytest.fixture
def stored(tmp_path):
    """A function that writes a notebook of code cells, given as (source, tags...)."""

    def write(*cells, name="01_launch_a_thing.ipynb", metadata=None):
        node = nbformat.v4.new_notebook(metadata=metadata or {})
        node.cells = [nbformat.v4.new_markdown_cell("# Launch a thing")]
        for source, *tags in cells:
            node.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
        path = tmp_path / name
        nbformat.write(node, path)
        return path

    return write


def outputs(path):
    return [cell.outputs for cell in Notebook.read(path).code]


def test_a_run_stores_outputs_counts_and_normal_metadata(stored):
    path = stored(
        ("x = 41",),
        ("x + 1",),
        metadata={"kernelspec": {"name": "mine", "display_name": "Mine"}, "x": 1},
    )
    ids = [cell.id for cell in Notebook.read(path).node.cells]
    notebooks.run(path)
    notebook = Notebook.read(path)
    assert [cell.execution_count for cell in notebook.code] == [1, 2]
    assert notebook.code[1].outputs[0].data["text/plain"] == "42"
    assert notebook.node.metadata == METADATA
    assert [cell.id for cell in notebook.node.cells] == ids
    assert not any("execution" in cell.metadata for cell in notebook.code)


def test_two_runs_store_the_same_file(stored):
    path = stored(("print('first'); print('second')",), ("{'a': 1}",))
    notebooks.run(path)
    first = path.read_bytes()
    notebooks.run(path)
    assert path.read_bytes() == first


def test_a_cell_without_an_id_gets_the_same_one_everywhere(stored):
    node = Notebook.read(stored(("1",))).node
    ids = []
    for _ in range(2):
        for cell in node.cells:
            cell.pop("id", None)
        notebooks.give_ids(node, "01_launch_a_thing")
        ids.append([cell.id for cell in node.cells])
    assert ids[0] == ids[1] and len(set(ids[0])) == 2


def test_a_failing_cell_is_named_and_the_file_stays_as_it_was(stored):
    path = stored(("1",), ("raise ValueError('too bad')",), ("3",))
    before = path.read_bytes()
    with pytest.raises(NotStored, match=r"code cell 2 .* failed: ValueError: too bad"):
        notebooks.run(path)
    assert path.read_bytes() == before


def test_an_error_that_belongs_to_the_lesson_is_stored(stored):
    path = stored(("raise ValueError('as told')", "raises-exception"), ("2",))
    notebooks.run(path)
    assert outputs(path)[0][0].ename == "ValueError"
    assert outputs(path)[1][0].data["text/plain"] == "2"


def test_a_kernel_that_dies_is_reported(stored):
    path = stored(("import os; os._exit(1)",))
    with pytest.raises(NotStored, match="code cell 1"):
        notebooks.run(path)


def test_a_progress_bar_is_stored_as_its_last_line_and_not_at_all_if_it_went_away(stored):
    stays, goes = (BAR.format(what="pairs", leave=leave) for leave in (True, False))
    path = stored((stays, "nbval-ignore-output"), (goes, "nbval-ignore-output"))
    notebooks.run(path)
    (output,), nothing = outputs(path)
    assert list(output.data) == ["text/plain"]
    assert output.data["text/plain"].startswith(f"Scoring pairs: 100% |{'█' * 20}| 3/3")
    assert nothing == []
    assert "widgets" not in Notebook.read(path).node.metadata


def test_a_progress_bar_in_a_compared_cell_is_refused(stored):
    path = stored((BAR.format(what="pairs", leave=True),))
    with pytest.raises(NotStored, match="code cell 1 shows a widget: tag it"):
        notebooks.run(path)


def test_a_widget_without_words_says_how_to_see_it(stored):
    source = "import ipywidgets\nipywidgets.Valid(value=True)"
    path = stored((source, "nbval-ignore-output"))
    notebooks.run(path)
    (output,) = outputs(path)[0]
    assert WIDGET_VIEW not in output.data
    assert "run this cell" in output.data["text/plain"]


def test_a_view_with_html_of_its_own_is_stored_as_that_html(stored):
    source = """
from helpers.views import ScoreTable
import pandas
ScoreTable(pandas.DataFrame({"score": [0.5]}))
"""
    path = stored((source, "nbval-ignore-output"))
    notebooks.run(path)
    (output,) = outputs(path)[0]
    assert WIDGET_VIEW not in output.data
    assert "0.5" in output.data["text/html"]


def test_paths_of_this_machine_become_paths_for_everyone(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path / "state"))
    path = stored(
        ("import sys; print(sys.executable)",),
        ("from helpers.server.records import state_dir; print(state_dir() / 'logs' / 'a.log')",),
        ("from pathlib import Path; print(Path.home() / 'notes')",),
        ("import helpers.errors; print(helpers.errors.__file__)",),
    )
    notebooks.run(path)
    shown = [cell[0].text.strip() for cell in outputs(path)]
    assert shown[0].startswith(".venv/bin/python")
    assert shown[1] == "~/.cache/vllm-score-notebooks/logs/a.log"
    assert shown[2] == "~/notes"
    assert shown[3] == "src/helpers/errors.py"


def test_an_output_with_an_unknown_path_is_refused(stored):
    path = stored(("print('/opt/secret/place')",))
    before = path.read_bytes()
    with pytest.raises(NotStored, match="holds a path of a machine: /opt/secret/place"):
        notebooks.run(path)
    assert path.read_bytes() == before


def test_the_name_of_the_machine_is_found_in_an_output(monkeypatch):
    # The real name of the machine that runs the tests may be too common to be looked for.
    monkeypatch.setattr(platform, "node", lambda: "annas-laptop.example.org")
    stream = nbformat.v4.new_output("stream", name="stdout", text="served by annas-laptop\n")
    cell = nbformat.v4.new_code_cell("1", outputs=[stream])
    (problem,) = notebooks.names_shown(nbformat.v4.new_notebook(cells=[cell]))
    assert "annas-laptop" in problem


def test_the_bars_lead_from_each_notebook_to_its_neighbours(stored):
    names = ["00_start_here.ipynb", "01_launch_a_thing.ipynb", "02_score_a_thing.ipynb"]
    paths = [stored(("1",), name=name) for name in names]
    assert [notebooks.write_frame(path) for path in paths] == [True] * 3
    bars = [Notebook.read(path).node.cells[-1].source for path in paths]
    assert "←" not in bars[0] and f"→]({names[1]})" in bars[0]
    assert f"[← 00 Launch a thing]({names[0]})" in bars[1] and f"→]({names[2]})" in bars[1]
    assert "→" not in bars[2]
    assert all("[Contents](00_start_here.ipynb#The-map)" in bar for bar in bars)


def test_writing_the_bars_again_changes_nothing(stored):
    path = stored(("1",))
    notebooks.write_frame(path)
    before = path.read_bytes()
    assert notebooks.write_frame(path) is False
    assert path.read_bytes() == before


def test_a_cell_that_installs_is_renewed_unless_a_publisher_has_added_to_it(stored):
    head, tail = install_parts("01")
    for source in ("import old", head + "fetch\n" + tail):
        path = stored((source, "install"))
        notebooks.write_frame(path)
        wanted = head + tail if source == "import old" else source
        assert Notebook.read(path).code[0].source == wanted


def test_the_seconds_of_a_run_are_kept_for_notebooks_that_are_there(stored, tmp_path, monkeypatch):
    times = tmp_path / "run_seconds.json"
    times.write_text('{"01_launch_a_thing": 900, "02_gone_for_good": 7}')
    path = stored(("1",))
    monkeypatch.setattr(notebook_rules, "RUN_SECONDS", times)
    monkeypatch.setattr(notebooks, "RUN_SECONDS", times)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "notebook_paths", lambda: [path])
    notebooks.keep_run_seconds(path, 12)
    assert json.loads(times.read_text()) == {"01_launch_a_thing": 12}


def test_the_maps_are_brought_up_to_date_and_then_left_alone(stored, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("| 01_old | launch | 99 |\n")
    first = stored(("1",), name="00_start_here.ipynb")
    node = Notebook.read(first).node
    node.cells.append(nbformat.v4.new_markdown_cell("| 01 Old | launch | 99 |"))
    notebooks.write(copy.deepcopy(node), first)
    stored(("1",))
    assert notebooks.write_maps(readme, tmp_path) == ["README.md", "00_start_here.ipynb"]
    row = f"| [01_launch_a_thing]({tmp_path.name}/01_launch_a_thing.ipynb) | launch | 0 |\n"
    assert readme.read_text() == row
    assert Notebook.read(first).node.cells[-1].source == (
        "| [01 Launch a thing](01_launch_a_thing.ipynb) | launch | 0 |"
    )
    assert notebooks.write_maps(readme, tmp_path) == []


def test_an_unknown_number_is_an_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        notebooks.main(["check", "99"])
    assert exit_.value.code == 2
    assert "no notebook 99" in capsys.readouterr().err
