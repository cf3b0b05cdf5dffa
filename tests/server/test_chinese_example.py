"""Notebook 03's Chinese example, where a hub gives the model that reads Chinese.

The hub is a folder laid out as the hub's library lays out its cache. The model of that name in it
is the offline reranker, so the cell runs in full, with the scores of the cell before it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from helpers.server import offline_model_path

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_score_one_query_against_many.ipynb"
COMMIT = "0" * 40


def test_the_chinese_example_runs_where_a_hub_answers(server, tmp_path, monkeypatch) -> None:
    model = tmp_path / "models--BAAI--bge-reranker-v2-m3"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    shutil.copytree(offline_model_path(), model / "snapshots" / COMMIT)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    book = nbformat.read(NOTEBOOK, as_version=4)
    starts = ("import math", "question = ", "from helpers import ScoreError")
    book.cells = [
        cell for cell in book.cells if cell.cell_type == "code" and cell.source.startswith(starts)
    ]
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=folder).execute()

    assert len(book.cells) == len(starts)
    offline, read = (shown(cell) for cell in book.cells[1:])
    assert "[UNK]" in offline
    assert "by BAAI/bge-reranker-v2-m3" in read
    assert table(read) == table(offline)


def shown(cell: nbformat.NotebookNode) -> str:
    """All that a cell printed and showed."""
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def table(text: str) -> list[tuple[float, str]]:
    """The rows of a result: the score to two digits, and the document."""
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("0.")]
    assert len(rows) == 3
    return [(round(float(score), 2), document) for score, _, document in rows]
