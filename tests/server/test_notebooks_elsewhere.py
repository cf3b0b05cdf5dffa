"""Notebook 17 where there is no package index, and so none of the other tools: it must say so."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def read(number: str) -> nbformat.NotebookNode:
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4)


def run(book: nbformat.NotebookNode) -> str:
    """Run a notebook in a fresh kernel, and return all that it printed and showed."""
    folder = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = (
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
    )
    return "\n".join(shown)


def test_notebook_17_says_what_it_skips_where_no_tool_can_be_installed(server) -> None:
    book = read("17")
    refusal = new_code_cell(
        "import helpers.server\n"
        "from helpers import ScoreError\n"
        "def refuse(name):\n"
        "    raise ScoreError('There is no package index.')\n"
        "helpers.server.side_environment = refuse"
    )
    for cell in book.cells:
        if "ScoreServer(base_encoder_path()" in cell.source:
            # A second server, whose vectors only the database would get.
            cell.source = (
                "import numpy as np\n"
                "vectors, questions = np.ones((len(data.documents), 384)), np.ones((48, 384))"
            )
    book.cells.insert(0, refusal)
    tools = [cell for cell in book.cells if cell.source.startswith("%%tool ")]
    shown = run(book)
    assert len(tools) >= 10
    for cell in tools:
        (output,) = cell.outputs
        assert "is skipped: the environment" in output.text, cell.source
    for name in ("clients", "cohere7", "postgres"):
        assert f"Cells that need {name} will be skipped. There is no package index." in shown
    assert "Skipped: the environment clients could not be built here." in shown
    assert "Skipped: PostgreSQL could not be installed or started here" in shown
