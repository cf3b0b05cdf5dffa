"""Open the notebooks in a real JupyterLab, in a real browser, and look."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from jupyterlab_page import Lab, Notebook
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

# nbval runs all of them; these show what only a browser can tell: the first steps, and the views.
NAMES = [
    "02_score_one_pair",
    "03_score_one_query_against_many",
    "05_rerank_documents",
    "06_explore_scores",
    "00_start_here",  # the last two: at their end they stop the server that all these tests share
    "01_launch_a_score_server",
]
LOOKS = [
    (f"JupyterLab {theme}", theme.lower(), width)
    for theme in ("Light", "Dark")
    for width in (1280, 800)
]
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LINK_OUT = re.compile(r"\]\((\.\./[^)#]+)")


def test_typing_moves_the_bars_and_the_slider_changes_their_number(notebook: Notebook) -> None:
    notebook.open("06_explore_scores.ipynb")
    for cell in cells_up_to(notebook, "playground"):
        notebook.run(cell)
    documents = notebook.page.locator(".widget-html td:last-child")
    assert documents.count() == 5

    notebook.page.locator(".widget-text input").first.fill("Which river flows through Basel?")
    rhine = "The Rhine flows through Basel and Cologne."
    notebook.page.wait_for_selector(f".widget-html tbody tr:first-child td:text-is('{rhine}')")

    slider = notebook.page.locator(".noUi-handle").first
    slider.focus()
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    notebook.page.wait_for_function(
        "() => document.querySelectorAll('.widget-html td:last-child').length === 3"
    )
    assert documents.first.inner_text() == rhine


def test_a_view_shows_its_plain_form_where_a_notebook_is_opened_again(
    notebook: Notebook, lab: Lab
) -> None:
    write_scratch(
        lab,
        """
        import pandas as pd
        from helpers.views import ScoreTable
        ScoreTable(pd.DataFrame({"text": ["The Rhine.", "The Seine."], "score": [0.75, 0.25]}))
        """,
    )
    notebook.open("scratch.ipynb").run(0)
    plain = notebook.page.locator("[id^=score-view] td:text-is('The Rhine.')")
    live = notebook.page.locator(".widget-html td:text-is('The Rhine.')")
    live.wait_for(state="visible")
    assert plain.count() == 1 and not plain.is_visible()

    notebook.reopen()
    plain.wait_for(state="visible")
    notebook.page.locator("text='Error displaying widget: model not found'").wait_for(
        state="hidden"
    )
    assert live.count() == 0

    notebook.run(0)
    live.wait_for(state="visible")
    assert not plain.is_visible()


def test_links_out_of_the_notebooks_open_what_they_name(notebook: Notebook, lab: Lab) -> None:
    """All of them stand in one notebook in the same folder, since each opening takes seconds."""
    texts = [path.read_text("utf-8") for path in NOTEBOOKS.glob("*.ipynb")]
    links = sorted({link for text in texts for link in LINK_OUT.findall(text)})
    assert len(links) > 10
    write_scratch(lab, new_markdown_cell("\n\n".join(f"[{link}]({link})" for link in links)))
    notebook.open("scratch.ipynb")
    for link in links:
        notebook.follow(link)


def test_the_first_notebook_opens_by_itself(notebook: Notebook) -> None:
    notebook.open()
    assert notebook.page.url.endswith("/notebooks/00_start_here.ipynb")


def test_a_cell_can_be_interrupted_and_the_next_kernel_adopts_the_server(
    notebook: Notebook, lab: Lab
) -> None:
    write_scratch(
        lab,
        "from helpers import ScoreServer\nserver = ScoreServer().start()\nprint(server.pid)",
        "print('begun')\nwhile True:\n    server.client().score('a river', 'The Rhine.')",
    )
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
    notebook: Notebook, pictures: Path | None, name: str
) -> None:
    notebook.open(f"{name}.ipynb")
    notebook.run_all()
    assert notebook.errors() == []
    code = [cell for cell in notebook.cells() if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code if "".join(cell["source"]).strip())
    # Before the pictures, which change the page's width: it takes a while to come to rest then.
    assert notebook.too_wide() == []
    for theme, look, width in LOOKS if pictures else ():
        notebook.use_theme(theme)
        notebook.photograph(pictures / f"{name}_{look}_{width}.png", width=width)


def write_scratch(lab: Lab, *cells: str | NotebookNode) -> None:
    """Write a notebook of these cells beside the others; a text is a code cell."""
    book = new_notebook(
        cells=[
            new_code_cell(dedent(cell).strip()) if isinstance(cell, str) else cell for cell in cells
        ]
    )
    # Without one, JupyterLab would ask which kernel to take.
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    nbformat.write(book, lab.root / "notebooks" / "scratch.ipynb")


def cells_up_to(notebook: Notebook, last_line: str) -> list[int]:
    """Return the numbers of the code cells up to the one that ends with a line."""
    numbers = []
    for number, cell in enumerate(notebook.cells()):
        if cell["cell_type"] == "code":
            numbers.append(number)
            if "".join(cell["source"]).splitlines()[-1] == last_line:
                return numbers
    raise AssertionError(f"no code cell ends with {last_line!r}")
