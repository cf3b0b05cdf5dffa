"""Open the notebooks in a real JupyterLab, in a real browser, and look."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from jupyterlab_page import Lab, Notebook

NAMES = [
    "00_start_here",
    "02_score_one_pair",
    "03_score_one_query_against_many",
    "04_score_aligned_pairs",
    "05_rerank_documents",
    "06_explore_scores",
    "01_launch_a_score_server",  # last: at its end it stops the server that all these tests share
]
LOOKS = [("JupyterLab Light", "light", 1280), ("JupyterLab Dark", "dark", 800)]


def test_typing_moves_the_bars_and_the_slider_changes_their_number(notebook: Notebook) -> None:
    notebook.open("06_explore_scores.ipynb")
    for cell in cells_up_to(notebook, "playground"):
        notebook.run(cell)
    documents = notebook.page.locator(".widget-html td[title]")
    assert documents.count() == 5

    notebook.page.locator(".widget-text input").first.fill("Which river flows through Basel?")
    rhine = ".widget-html tr:first-child td[title^='The Rhine']"
    notebook.page.wait_for_selector(rhine)

    slider = notebook.page.locator(".noUi-handle").first
    slider.focus()
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    notebook.page.wait_for_function(
        "() => document.querySelectorAll('.widget-html td[title]').length === 3"
    )
    assert documents.first.get_attribute("title") == "The Rhine flows through Basel and Cologne."


def test_a_cell_can_be_interrupted_and_the_next_kernel_adopts_the_server(
    notebook: Notebook, lab: Lab
) -> None:
    cells = [
        "from helpers import ScoreServer\nserver = ScoreServer().start()\nprint(server.pid)",
        "print('begun')\nwhile True:\n    server.client().score('a river', 'The Rhine.')",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    # Without one, JupyterLab would ask which kernel to take.
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    nbformat.write(book, lab.notebooks / "scratch.ipynb")
    notebook.open("scratch.ipynb")
    notebook.run(0)
    pid = notebook.text_of(0).split()[-1]
    notebook.run(1, wait=False)
    notebook.wait_for_output(1, "begun")
    notebook.interrupt()
    notebook.wait_for_output(1, "KeyboardInterrupt")

    notebook.restart()
    notebook.run(0)
    assert notebook.text_of(0).split()[-1] == pid
    assert "Already running" in notebook.text_of(0)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_in_jupyterlab_and_fits_the_page(
    notebook: Notebook, pictures: Path, name: str
) -> None:
    notebook.open(f"{name}.ipynb")
    notebook.run_all()
    assert notebook.errors() == []
    code = [cell for cell in notebook.cells() if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code if "".join(cell["source"]).strip())
    # Before the pictures, which change the page's width: it takes a while to come to rest then.
    assert notebook.too_wide() == []
    for theme, look, width in LOOKS:
        notebook.use_theme(theme)
        notebook.photograph(pictures / f"{name}_{look}_{width}.png", width=width)


def cells_up_to(notebook: Notebook, last_line: str) -> list[int]:
    """Return the numbers of the code cells up to the one that ends with a line."""
    numbers = []
    for number, cell in enumerate(notebook.cells()):
        if cell["cell_type"] == "code":
            numbers.append(number)
            if "".join(cell["source"]).splitlines()[-1] == last_line:
                return numbers
    raise AssertionError(f"no code cell ends with {last_line!r}")
