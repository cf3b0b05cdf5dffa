"""Parquet in, Parquet out, by Ray Data with a real vLLM; worker and process are killed."""

from __future__ import annotations

import importlib.util
import json
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

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="no Ray here: make setup EXTRAS=scale"
)


@pytest.fixture(autouse=True)
def _wanted(request: pytest.FixtureRequest) -> None:
    # Ray starts within 30 seconds or not at all, which a busy machine does not promise.
    if not request.config.getoption("--kill-ray"):
        pytest.skip("takes minutes and an idle machine: --kill-ray")


ROWS, PART = 900, 120
ENGINE = {"dtype": "bfloat16", "enforce_eager": True}
CLOSE = 0.02  # bfloat16 keeps eight bits, and what else is in a batch changes the rounding
# Takes part as a kernel would: its Ray lives and dies with it.
KERNEL = """
import json, sys
from helpers.bulk import score_parquet
source, target, model, engine, part = sys.argv[1:]
score_parquet(source, target, model=model, engine=json.loads(engine), part_rows=int(part))
"""


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
    frame[:500].to_parquet(folder / "a.parquet", row_group_size=200)
    frame[500:].to_parquet(folder / "b.parquet", row_group_size=300)
    return folder


def test_a_killed_worker_and_a_killed_process_lose_no_row_and_double_none(
    source: Path, tmp_path: Path, server, client
) -> None:
    target, model = tmp_path / "scored", server_model()
    arguments = [str(source), str(target), model, json.dumps(ENGINE), str(PART)]
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, *arguments], stderr=subprocess.PIPE)
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
    assert len(first) < 9, "the process was killed too late to show anything"

    def kill() -> None:
        wait_for(lambda: len(parts_in(target)) > len(first))
        for process in workers_of(os.getpid()):
            process.send_signal(signal.SIGKILL)
            killed.append(process.pid)

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    run = score_parquet(source, target, model=model, engine=ENGINE, part_rows=PART, progress=False)
    killer.join()
    assert killed
    assert (run.rows, run.parts) == (ROWS, 9)
    assert 0 < run.scored < ROWS
    scored = pd.read_parquet(target)
    assert scored["id"].tolist() == list(range(ROWS))
    wanted = score_frame(client, scored.drop(columns="score"), progress=False)["score"]
    assert np.abs(scored["score"] - wanted).max() < CLOSE
    assert scored["score"].std() > CLOSE
    again = score_parquet(source, target, model=model, engine=ENGINE, part_rows=PART)
    assert again.scored == 0
    with pytest.raises(InputError, match="another part_rows"):
        score_parquet(source, target, model=model, engine=ENGINE, part_rows=PART + 1)


def server_model() -> str:
    from helpers.server import offline_model_path

    return str(offline_model_path())
