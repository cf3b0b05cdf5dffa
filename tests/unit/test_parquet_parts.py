"""What `score_parquet` refuses before any Ray or model is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from helpers.bulk import parquet, score_parquet
from helpers.errors import InputError, ScoreError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="no Ray here: make setup EXTRAS=scale"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    frame = pd.DataFrame({"query": ["q"] * 10, "document": ["d"] * 10, "number": range(10)})
    frame.to_parquet(path, row_group_size=4)
    return path


@needs_ray
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "question"}, "has no column 'question'"),
        ({"document": "number"}, "holds int64, not text"),
        ({"score": "query"}, "would replace the texts"),
        ({"part_rows": 0}, "part_rows"),
    ],
)
def test_wrong_columns_are_refused_before_anything_starts(source, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        score_parquet(source, tmp_path / "out", model="m", **change)
    assert not (tmp_path / "out").exists()


@needs_ray
def test_a_source_that_is_not_there_or_no_parquet_is_refused(tmp_path):
    with pytest.raises(InputError, match="no Parquet file or folder"):
        score_parquet(tmp_path / "nothing", tmp_path / "out", model="m")
    (tmp_path / "text.parquet").write_text("no Parquet at all, but a text of some length")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        score_parquet(tmp_path / "text.parquet", tmp_path / "out", model="m")


@needs_ray
def test_a_folder_with_something_else_in_it_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        score_parquet(source, tmp_path / "out", model="m")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_parts_are_rows_of_one_row_group_each_and_hold_every_row_once(source, tmp_path):
    job = {"query": "query", "document": "document"}
    parts, _ = parquet._plan(parquet._files(str(source), {}), str(tmp_path / "out"), 3, job)
    assert [(part["group"], part["start"], part["rows"]) for part in parts] == [
        *[(0, 0, 3), (0, 3, 1)],
        *[(1, 0, 3), (1, 3, 1)],
        (2, 0, 2),
    ]
    names = [part["part"] for part in parts]
    assert names == sorted(names)


def test_without_ray_it_says_how_to_get_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ScoreError, match="EXTRAS=scale"):
        score_parquet(source, tmp_path / "out", model="m")
