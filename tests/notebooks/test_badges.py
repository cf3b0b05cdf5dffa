"""The badges open the notebook that they stand in, and writing them changes nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import nbformat
import pytest
from nbclient import NotebookClient

import badges
from notebook_rules import Notebook, check, install_parts, notebook_paths, tags

REPO = "some-body/score.notebooks"
STORED = notebook_paths()
PIP_THAT_TELLS = """
import helpers
told = []
get_ipython().register_magic_function(told.append, magic_name="pip")
"""


@pytest.fixture
def copies(tmp_path, monkeypatch) -> list[Path]:
    """Copies of all notebooks without badges, which the command line takes for the real ones."""
    paths = [Path(shutil.copy(path, tmp_path)) for path in STORED]
    for path in paths:
        badges.write_badges(path, "none", "main")
    monkeypatch.setattr(badges, "notebook_paths", lambda: paths)
    return paths


def links(path: Path) -> list[str]:
    """Return where the badges of a notebook lead, empty if it has none."""
    cells = [cell for cell in Notebook.read(path).node.cells if "badges" in tags(cell)]
    assert len(cells) <= 1
    return [
        link for cell in cells for link in re.findall(r"^\[!\[.+\]\((.+)\)$", cell.source, re.M)
    ]


def opened(path: Path) -> list[str]:
    """Return the places below github.com to which the badges of a notebook lead, decoded."""
    colab, kaggle, studio = map(urlsplit, links(path))
    (shown,) = parse_qs(kaggle.query)["src"]
    return [
        unquote(colab.path.removeprefix("/github/")),
        unquote(urlsplit(shown).path.removeprefix("/")),
        unquote(studio.path.removeprefix("/import/github/")),
    ]


def test_each_badge_opens_the_notebook_that_it_stands_in(copies):
    badges.main([REPO])
    for path in copies:
        assert opened(path) == [f"{REPO}/blob/main/notebooks/{path.name}"] * 3
        assert [urlsplit(link).hostname for link in links(path)] == [
            "colab.research.google.com",
            "kaggle.com",
            "studiolab.sagemaker.aws",
        ]


def test_the_badges_stand_between_the_opening_and_the_code(copies):
    badges.main([REPO])
    for path in copies:
        title, cell, install = Notebook.read(path).node.cells[:3]
        assert title.source.startswith("# ") and "badges" in tags(cell)
        assert "install" in tags(install)


def test_a_second_run_changes_nothing(copies, capsys):
    badges.main([REPO])
    first = [path.read_bytes() for path in copies]
    badges.main([REPO])
    assert [path.read_bytes() for path in copies] == first
    assert f" 0 notebooks; {len(copies)} needed no change" in capsys.readouterr().out


def test_another_repository_or_branch_replaces_the_badges(copies):
    badges.main([REPO])
    badges.main(["else-where/copy", "--branch", "v1.0"])
    for path in copies:
        assert opened(path) == [f"else-where/copy/blob/v1.0/notebooks/{path.name}"] * 3
        assert REPO not in path.read_text("utf-8")


def test_badges_that_are_taken_out_leave_the_file_as_it_was_byte_for_byte(copies):
    before = [path.read_bytes() for path in copies]
    badges.main([REPO])
    assert all(path.read_bytes() != old for path, old in zip(copies, before, strict=True))
    badges.main(["none"])
    assert [path.read_bytes() for path in copies] == before


def test_outputs_and_execution_counts_stay_as_they_are(copies):
    def stored(path):
        return [(cell.outputs, cell.execution_count) for cell in Notebook.read(path).code]

    before = list(map(stored, copies))
    badges.main([REPO])
    assert list(map(stored, copies)) == before
    assert any(outputs for outputs, _ in before[0])


def test_badges_break_no_rule(copies):
    before = list(map(check, copies))
    badges.main([REPO])
    assert list(map(check, copies)) == before


def test_the_first_code_cell_fetches_the_published_copy_and_nothing_where_none_is(copies):
    badges.main([REPO, "--branch", "v1.0"])
    for path in copies:
        first = Notebook.read(path).code[0].source
        assert f"git clone --quiet --depth 1 --branch v1.0 https://github.com/{REPO}" in first
    badges.main(["none"])
    for path in copies:
        assert Notebook.read(path).code[0].source == "".join(install_parts(path.name[:2]))


def test_the_folder_is_right_again_after_a_restart_although_the_package_is_found(tmp_path):
    # What a platform has after a first visit: the clone, and a kernel that starts beside it.
    for folder in ("copy/src/helpers", "copy/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    first_cell = badges.install_source("some-body/copy", "main")
    cells = [nbformat.v4.new_code_cell(text) for text in (first_cell, first_cell, "%pwd")]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (shown,) = book.cells[-1].outputs
    assert shown.data["text/plain"] == repr(str(tmp_path / "copy" / "notebooks"))
    assert book.cells[0].outputs == book.cells[1].outputs == []


def test_another_module_called_helpers_does_not_keep_the_collection_out(tmp_path):
    (tmp_path / "helpers.py").write_text("")
    source = badges.install_source("none", "main").replace("vllm-score-notebooks", "no-such-name")
    cells = [nbformat.v4.new_code_cell(text) for text in (PIP_THAT_TELLS, source, "told")]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert book.cells[-1].outputs[0].data["text/plain"] == "['install --quiet --editable ..']"


@pytest.mark.parametrize("branch", ["feature/new-one", "a&b=c", "half%20way", "(odd)#1+1"])
def test_whatever_a_branch_is_called_the_address_says_it_again(copies, branch):
    badges.main([REPO, "--branch", branch])
    path = copies[0]
    assert opened(path) == [f"{REPO}/blob/{branch}/notebooks/{path.name}"] * 3
    assert not any(set(" ()<>") & set(link) for link in links(path))


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "owner",
        "owner/",
        "/name",
        "owner/name/more",
        "https://github.com/owner/name",
        "git@github.com:owner/name.git",
        "owner/name.git",
        "owner/..",
        "-owner/name",
        "owner/na me",
        "owner/name)",
        "öwner/name",
        "owner/name\n",
    ],
)
def test_what_is_no_repository_is_refused_and_nothing_is_written(copies, capsys, repo):
    before = [path.read_bytes() for path in copies]
    with pytest.raises(SystemExit) as stopped:
        badges.main(["--", repo])
    assert stopped.value.code == 2
    assert "make badges REPO=owner/name" in capsys.readouterr().err
    assert [path.read_bytes() for path in copies] == before


@pytest.mark.parametrize("branch", ["", "two words", "a..b", "end/", "tilde~1", "line\nbreak"])
def test_what_is_no_branch_is_refused_and_nothing_is_written(copies, capsys, branch):
    before = [path.read_bytes() for path in copies]
    with pytest.raises(SystemExit) as stopped:
        badges.main([REPO, "--branch", branch])
    assert stopped.value.code == 2
    assert "BRANCH=main" in capsys.readouterr().err
    assert [path.read_bytes() for path in copies] == before


def test_the_stored_notebooks_carry_no_badges_or_all_carry_those_of_one_publisher():
    found = {path.name: opened(path) for path in STORED if links(path)}
    if found:  # a published copy
        published = {place.removesuffix(name) for name in found for place in found[name]}
        assert len(published) == 1, "run make badges REPO=owner/name again"
        assert list(found) == [path.name for path in STORED]
