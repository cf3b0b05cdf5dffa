"""Bulk scoring against a real server: the server is killed, the scoring process is killed.

One server of its own is launched, killed in the middle of a run, and launched again; then its first
process dies alone. It asks for a key, and in the end nothing that all this left behind may hold
that key.
"""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from array import array
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from launching import only_record, wait_for

from helpers.bulk import scoring as bulk
from helpers.bulk.scoring import score_pairs
from helpers.client.client import ScoreClient
from helpers.errors import AuthenticationError, BadRequestError, UnreachableError
from helpers.server import records
from helpers.server.server import ScoreServer, stop_all

KEY = "sk-known-key-5f4dcc3b5aa765d6"
ROWS = 600
# As many different pairs as fit no batch, so that a batch in a wrong place is seen.
QUERIES = [f"What is the capital of {name}?" for name in ("France", "Kenya", "Peru", "Norway")]
DOCUMENTS = [
    f"{city} is a city in {country}."
    for city, country in (("Paris", "France"), ("Nairobi", "Kenya"), ("Lima", "Peru"))
]
CYCLE = [(query, document) for query in QUERIES for document in DOCUMENTS][:11]
# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.01


def queries():
    return (CYCLE[row % len(CYCLE)][0] for row in range(ROWS))


def documents(at_row=None, happens=None):
    for row in range(ROWS):
        if row == at_row:
            happens()
        yield CYCLE[row % len(CYCLE)][1]


def scores_alone(client: ScoreClient, **options: object) -> np.ndarray:
    """Return what the rows must score, from one small request."""
    scores = client.score([q for q, _ in CYCLE], [d for _, d in CYCLE], **options).scores
    return np.resize(scores, ROWS)


def stored_scores(path: Path) -> list[float]:
    """Return the scores in a checkpoint, in order, as long as they are there."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as database:
        blobs = database.execute("SELECT scores FROM saves ORDER BY start").fetchall()
        return array("d", b"".join(blob for (blob,) in blobs)).tolist()
    return []


def test_a_run_outlives_its_server_and_the_key_is_nowhere(
    state, scoring_model, tmp_path, monkeypatch, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "scores.sqlite"
    write = bulk.tqdm.write
    revived: list[ScoreServer] = []

    def revive():
        revived.append(ScoreServer(scoring_model, port=first.port, api_key=KEY).start())

    def say(line, **more):
        write(line, **more)
        if "Waiting" in line and reviving.ident is None:
            reviving.start()

    reviving = threading.Thread(target=revive)
    monkeypatch.setattr(bulk.tqdm, "write", say)
    told: list[str] = []
    try:
        server = ScoreServer(scoring_model, port=0, api_key=KEY).start()
        first = only_record()

        def kill():
            for member in first.members():
                member.kill()

        with server.client() as client:
            given = documents(ROWS // 2, kill)
            scores = score_pairs(
                client,
                queries(),
                given,
                batch_size=8,
                checkpoint=path,
                patience=900,
                use_activation=False,
            )
        reviving.join()
        assert revived[0].url == server.url
        assert revived[0].pid != server.pid
        assert len(scores) == ROWS
        assert stored_scores(path) == scores.tolist()
        with revived[0].client() as client:
            assert client.models() == [revived[0].model]
            alone = scores_alone(client, use_activation=False)
            assert alone.std() > CLOSE
            assert scores == pytest.approx(alone, abs=CLOSE)
            with pytest.raises(BadRequestError) as too_long:
                client.score("query", "word " * 20_000)
        with ScoreClient(server.url, api_key=f"{KEY}x") as stranger:
            with pytest.raises(AuthenticationError) as refused:
                stranger.models()
            told += [repr(stranger), str(vars(stranger))]
        last = only_record()
        arguments = [member.cmdline() for member in last.members()]
        told += [str(revived[0]._plan), last.command]

        # Its first process dies alone: what is left of it is ended all the same.
        left = [member for member in last.members() if member.pid != last.pid]
        assert left
        for member in left:
            # Frozen, so that they cannot notice and leave by themselves.
            member.suspend()
        os.kill(last.pid, signal.SIGKILL)
        wait_for(lambda: not revived[0].running)
        revived[0].stop()
        assert last.members() == []
        assert records.load_all() == []
        revived[0].stop()  # a second one must do no harm
        with server.client() as client:
            with pytest.raises(UnreachableError) as gone:
                client.score("query", "document")
            told += [repr(client), str(vars(client))]
        for caught in (too_long, refused, gone):
            told += [repr(caught.value), str(vars(caught.value))]
            told += traceback.format_exception(caught.value)
        told += [repr(server), server._repr_html_(), server.command, str(arguments)]
    finally:
        if reviving.is_alive():
            reviving.join()
        stop_all()
    shown = [*told, caplog.text, *capfd.readouterr()]
    stored = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert any(file.suffix == ".log" for file in stored)
    assert KEY not in "\n".join(shown)
    assert [file for file, content in stored.items() if KEY.encode() in content] == []


KERNEL = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_bulk_survives import ROWS, documents, queries
from helpers.bulk import checkpoint, score_pairs
from helpers.client import ScoreClient

checkpoint.SAVE_SECONDS = 0.0
url, path = sys.argv[3:]
# It never gets to the end, however fast the machine is: the last rows wait for a line.
given = documents(ROWS - 100, sys.stdin.readline)
score_pairs(ScoreClient(url), queries(), given, batch_size=8, checkpoint=path)
"""


def test_a_run_whose_process_was_killed_goes_on_in_another(server, client, tmp_path, capsys):
    path = tmp_path / "scores.sqlite"
    here = Path(__file__).parent
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(here), str(here.parent), server.url, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: stored_scores(path) or kernel.poll() is not None)
        assert kernel.poll() is None
    finally:
        kernel.kill()
        kernel.communicate()
    kept = stored_scores(path)
    assert 0 < len(kept) < ROWS
    columns = list(queries()), list(documents())
    scores = score_pairs(client, *columns, batch_size=9, checkpoint=path)
    assert f" {len(kept)}/{ROWS} [" in capsys.readouterr().err
    assert scores[: len(kept)].tolist() == kept
    assert scores == pytest.approx(scores_alone(client), abs=CLOSE)
    assert list(path.parent.iterdir()) == [path]
