"""Parquet in, Parquet out, by Ray Data with a real vLLM; worker and process are killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from launching import wait_for

from helpers.bulk import score_frame, score_parquet
from helpers.errors import InputError
from helpers.server import offline_model_path

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="no Ray here: make setup EXTRAS=scale"
    ),
    pytest.mark.usefixtures("kills_wanted"),
]


ROWS, PART, PARTS = 600, 80, 9
CLOSE = 0.02  # bfloat16 keeps eight bits, and what else is in a batch changes the rounding
# What readers send to a cluster, with a Ray of its own here, which lives and dies with it.
JOB = Path(__file__).parents[2] / "deploy" / "ray" / "score_job.py"


def parts_in(target: Path) -> list[str]:
    return sorted(path.name for path in target.glob("part-*.parquet"))


def workers_of(parent: int) -> list[psutil.Process]:
    """Return the processes below one, such as Ray's, that hold a model."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        found += [process] if title.startswith("ray::MapWorker") else []
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give two files with several row groups, whose pairs all differ."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = range(ROWS)
    frame = pd.DataFrame({
        "id": rows,
        "query": [f"What is the capital of country {row % 7}?" for row in rows],
        "document": [f"City {row} is the capital of country {row % 5}." for row in rows],
    })  # fmt: skip
    frame[:400].to_parquet(folder / "a.parquet", row_group_size=150)
    frame[400:].to_parquet(folder / "b.parquet", row_group_size=200)
    return folder


def test_a_killed_worker_and_a_killed_process_lose_no_row_and_double_none(
    source: Path, tmp_path: Path, server, client
) -> None:
    target, model, dtype = tmp_path / "scored", str(offline_model_path()), server.choices.dtype
    engine = {"dtype": dtype.value, "enforce_eager": True}
    words = [str(source), str(target), "--model", model, "--dtype", dtype.value]
    words += ["--part-rows", str(PART), "--address", "local"]
    kernel = subprocess.Popen([sys.executable, str(JOB), *words], stderr=subprocess.PIPE)
    below: list[psutil.Process] = []
    try:
        # stderr is read all the time, or the progress bar would fill the pipe.
        drain = threading.Thread(target=kernel.stderr.read, daemon=True)
        drain.start()
        wait_for(lambda: parts_in(target) or kernel.poll() is not None)
        assert kernel.poll() is None
        below = psutil.Process(kernel.pid).children(recursive=True)
    finally:
        kernel.kill()
        kernel.wait()
    # Ray's own processes follow within a minute, the one with the model at once.
    _, left = psutil.wait_procs(below, timeout=120)
    assert not left, [process.cmdline() for process in left]
    first = parts_in(target)
    assert first
    assert len(first) < PARTS, "the process was killed too late to show anything"

    def kill() -> None:
        wait_for(lambda: len(parts_in(target)) > len(first))
        for process in workers_of(os.getpid()):
            process.send_signal(signal.SIGKILL)
            killed.append(process.pid)

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    run = score_parquet(source, target, model=model, engine=engine, part_rows=PART, progress=False)
    killer.join()
    assert killed
    assert (run.rows, run.parts) == (ROWS, PARTS)
    assert 0 < run.scored < ROWS
    scored = pd.read_parquet(target)
    assert scored["id"].tolist() == list(range(ROWS))
    wanted = score_frame(client, scored.drop(columns="score"), progress=False)["score"]
    assert np.abs(scored["score"] - wanted).max() < CLOSE
    assert scored["score"].std() > CLOSE
    again = score_parquet(source, target, model=model, engine=engine, part_rows=PART)
    assert again.scored == 0
    with pytest.raises(InputError, match="another part_rows"):
        score_parquet(source, target, model=model, engine=engine, part_rows=PART + 1)
