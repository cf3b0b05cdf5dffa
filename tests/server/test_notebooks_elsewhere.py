"""Cells of notebooks where another machine has what this one lacks, or lacks what it has.

With a hub: notebook 03 then serves a model that reads Chinese, and 16 reads published
configurations and serves a published decoder. The hub is a folder laid out as the hub's library
lays out its cache, in which "bge-reranker-v2-m3" is the offline reranker and "Qwen3-Reranker-0.6B"
the tiny decoder. Without a package index: notebook 17 then has none of the other tools, and says so
instead of failing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from helpers.server import offline_model_path, tiny_decoder_path

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
COMMIT = "0" * 40
RERANKER = "Qwen/Qwen3-Reranker-0.6B"
# The cells of 16 with its imports and with the texts of its section 1.
NEEDED = ("import json", "question = ")
NUMBER = re.compile(r"\d+(?:\.\d*)? *")
# The models whose configurations the notebook reads, as far as `what_serves` looks at them.
CONFIGURATIONS = {
    "BAAI/bge-reranker-v2-m3": {
        "architectures": ["XLMRobertaForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "max_position_embeddings": 8194,
    },
    "jinaai/jina-reranker-m0": {"architectures": ["JinaVLForRanking"]},
    "jinaai/jina-reranker-v3": {"architectures": ["JinaForRanking"]},
    "Qwen/Qwen3-VL-Reranker-2B": {"architectures": ["Qwen3VLForConditionalGeneration"]},
}


def read(number: str) -> nbformat.NotebookNode:
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4)


def run(book: nbformat.NotebookNode) -> str:
    """Run a notebook in a fresh kernel, and return all that it printed and showed."""
    folder = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=folder).execute()
    return "\n".join(shown_by(cell) for cell in book.cells if cell.cell_type == "code")


def shown_by(cell: nbformat.NotebookNode) -> str:
    """Return all that a cell printed and showed."""
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a function that puts a model on the hub, and returns the folder to fill."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def add(name: str) -> Path:
        model = tmp_path / f"models--{name.replace('/', '--')}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text(COMMIT)
        return model / "snapshots" / COMMIT

    return add


@pytest.fixture
def hub(snapshot: Callable[[str], Path]) -> None:
    """Put a whole reranker and the configurations of four other models on the hub."""
    shutil.copytree(tiny_decoder_path(), snapshot(RERANKER))
    for name, configuration in CONFIGURATIONS.items():
        folder = snapshot(name)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(configuration))


def test_the_chinese_example_runs_where_a_hub_answers(server, snapshot) -> None:
    """The model by its name is the offline one, so both cells show the same scores."""
    shutil.copytree(offline_model_path(), snapshot("BAAI/bge-reranker-v2-m3"))
    book = read("03")
    starts = ("import math", "question = ", "from helpers import ScoreError")
    book.cells = [
        cell for cell in book.cells if cell.cell_type == "code" and cell.source.startswith(starts)
    ]
    run(book)
    assert len(book.cells) == len(starts)
    offline, online = (shown_by(cell) for cell in book.cells[1:])
    assert "[UNK]" in offline
    assert "by BAAI/bge-reranker-v2-m3" in online
    assert table(online) == table(offline)


def table(text: str) -> list[tuple[float, str]]:
    """The rows of a result: the score to two digits, and the document."""
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("0.")]
    assert len(rows) == 3
    return [(round(float(score), 2), document) for score, _, document in rows]


def test_the_cells_of_notebook_16_that_read_a_hub_read_it_where_one_is(hub) -> None:
    book = read("16")
    starts = ("from helpers.errors import Model", "names = [")
    book.cells = [cell for cell in book.cells if cell.source.startswith(starts)]
    assert len(book.cells) == 2
    book.cells.insert(0, new_code_cell("from helpers.server import what_serves"))
    shown = run(book)
    assert "No model hub answers" not in shown
    rows = [line.split(maxsplit=1) for line in shown.splitlines() if " " in line]
    kinds = [row[1] for row in rows if row[0] == "kind"]
    # First bge; then the two of Jina's and Qwen's of section 6.
    assert kinds == ["cross-encoder", "cross-encoder", "listwise", "cross-encoder"]


def test_section_5_of_notebook_16_serves_qwen3_reranker_where_a_hub_has_it(hub) -> None:
    """Under that name lies the tiny model, so the cells print what is stored for that."""
    book, stored = read("16"), section_5(read("16"))
    cells = section_5(book)
    # The imports and the texts of section 1, without the servers of then.
    earlier = (cell.source for cell in book.cells if cell.source.startswith(NEEDED))
    needed = "\n".join(re.split(r"\n(?:server|scores) = ", source)[0] for source in earlier)
    book.cells = [new_code_cell(f"{needed}\nfrom helpers import ModelUnavailableError"), *cells]
    assert f"The hub answers: {RERANKER} it is." in run(book)
    for cell, before in zip(cells, stored, strict=True):
        if "ScoreServer" not in cell.source and "what_serves" not in cell.source:
            (old, new) = (" ".join(shown_by(each).split()) for each in (before, cell))
            assert NUMBER.sub("#", new) == NUMBER.sub("#", old), cell.source
            assert numbers_of(new) == pytest.approx(numbers_of(old), abs=0.02), cell.source


def section_5(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the code cells of 16 that serve a decoder."""
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    (first,) = (n for n, cell in enumerate(code) if cell.source.startswith("reranker = "))
    (last,) = (n for n, cell in enumerate(code) if cell.source.endswith("framed_server.stop()"))
    assert last - first > 10
    return code[first : last + 1]


def numbers_of(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


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
        # A busy kernel may send what a cell prints in two parts.
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert "is skipped: the environment" in printed, cell.source
    for name in ("clients", "cohere7", "postgres"):
        assert f"Cells that need {name} will be skipped. There is no package index." in shown
    assert "Skipped: the environment clients could not be built here." in shown
    assert "Skipped: PostgreSQL could not be installed or started here" in shown
