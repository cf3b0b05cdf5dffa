"""Keep the scores of a long run on disk, so that a second run goes on where the first stopped.

A checkpoint is one SQLite file: a row for each save with the scores that it added, in the order of
the pairs, and what the scores were made from. SQLite sees to it that a save is in the file whole or
not at all, whenever the writer is killed. The file is open during a save only, so no part of it is
carried into a forked process.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from helpers.client import to_json
from helpers.errors import InputError, ScoreError

SAVE_SECONDS = 2.0  # what a killed run has to score again
_VERSION = 2
_META = "CREATE TABLE meta (version INTEGER, settings TEXT)"
# `pairs` is the digest of all pairs up to the end of this save.
_SAVES = "CREATE TABLE saves (start INTEGER PRIMARY KEY, scores BLOB, checksum TEXT, pairs TEXT)"
_NO_PAIRS = hashlib.sha256().hexdigest()

Pair = tuple[str, str]


class Checkpoint:
    """The scores of one run in one file; a context manager, which saves at its end.

    Of two runs that use one file at a time, the one that notices ends with a `ScoreError`; so does
    a run whose file cannot be written. What is in the file stays whole.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Check the path; nothing is read or written yet.

        Args:
            path: The file. It need not exist yet; its folder must.
            settings: What the scores depend on besides the texts, such as the model.
        """
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise InputError(f"checkpoint must be the path of a file, not {path!r}.")
        try:
            self._path = Path(path).expanduser().resolve()
            is_folder, has_folder = self._path.is_dir(), self._path.parent.is_dir()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"checkpoint cannot be the path of a file: {error}.") from None
        if is_folder or not has_folder:
            wrong = "is a folder" if is_folder else "lies in a folder that does not exist"
            raise InputError(f"The checkpoint {self._path} {wrong}: give the path of a file.")
        self._settings = json.loads(to_json(settings))
        self._scores = array("d")
        # How many scores are certain, and the digest of their pairs: changed together, in one step,
        # and only when the scores are there. An interrupt may come between any two lines.
        self._done = (0, hashlib.sha256())
        self._saved = (0, _NO_PAIRS)
        self._due = 0.0
        self._process = os.getpid()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *reason: object) -> None:
        self.save()  # also after an error or an interrupt

    def resume(self, pairs: Iterator[Pair]) -> array[float]:
        """Take the pairs that are already scored off `pairs`, and return their scores.

        The caller adds further scores to the same array, and tells `keep` what they belong to. A
        file that is no checkpoint, or one of other pairs or settings, is refused (`InputError`).
        """
        if not self._path.exists():
            return self._scores
        scores, settings, stored = self._read()
        if settings != self._settings:
            raise self._refusal(f"holds scores {_difference(settings, self._settings)}.")
        digest, rows = hashlib.sha256(), 0
        for pair in islice(pairs, len(scores)):
            digest.update(_bytes_of(pair))
            rows += 1
        if rows < len(scores):
            raise self._refusal(f"holds {len(scores):,} scores, and only {rows:,} pairs are given.")
        if digest.hexdigest() != stored:
            raise self._refusal(f"holds {rows:,} scores of other texts, or in another order.")
        self._scores.extend(scores)
        self._done = (rows, digest)
        self._saved = (rows, stored)
        return self._scores

    def keep(self, pairs: Iterable[Pair]) -> None:
        """Note the pairs of the scores that were added since the last call; save now and then."""
        digest = self._done[1].copy()
        for pair in pairs:
            digest.update(_bytes_of(pair))
        self._done = (len(self._scores), digest)
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Put all scores on disk that are not there yet."""
        rows, digest = self._done[0], self._done[1].hexdigest()
        start, before = self._saved
        if rows == start or os.getpid() != self._process:
            return  # a forked process that ends like its parent has no part in the run
        with self._transaction() as database:
            if not database.execute("SELECT name FROM sqlite_schema").fetchone():
                database.execute(_META)
                database.execute(_SAVES)
                about = (_VERSION, json.dumps(self._settings))
                database.execute("INSERT INTO meta VALUES (?, ?)", about)
            last = database.execute("SELECT pairs FROM saves ORDER BY start DESC").fetchone()
            stored = last[0] if last else _NO_PAIRS
            if stored in (before, _NO_PAIRS):
                start = start if stored == before else 0  # somebody removed the file
                new = self._scores[start:rows].tobytes()
                values = (start, new, hashlib.sha256(new).hexdigest(), digest)
                database.execute("INSERT INTO saves VALUES (?, ?, ?, ?)", values)
            elif stored != digest:  # else an interrupt came when this save was in the file
                raise self._other_run()
        self._saved = (rows, digest)
        self._due = time.monotonic() + SAVE_SECONDS

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the file, and change it in one step or not at all."""
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise self._other_run() from None
            raise ScoreError(
                f"The checkpoint {self._path} cannot be written: {error}. What it held before is "
                "still there. Make room, or copy it to another place and give that path; then run "
                "again."
            ) from None

    def _read(self) -> tuple[array[float], Any, str]:
        """Return the scores, the settings and the digest of the pairs that the file holds."""
        scores, pairs = array("d"), _NO_PAIRS
        try:
            with self._path.open("rb") as file:
                if file.read(4) == b"PAR1":
                    raise ValueError("an earlier version of this package wrote it, as Parquet")
            with closing(sqlite3.connect(self._path)) as database:
                if not database.execute("SELECT name FROM sqlite_schema").fetchone():
                    return scores, self._settings, pairs  # killed before its first save
                version, settings = database.execute("SELECT * FROM meta").fetchone()
                if version != _VERSION:
                    raise ValueError("another version of this package wrote it")
                for save in database.execute("SELECT * FROM saves ORDER BY start"):
                    start, new, checksum, pairs = save
                    if start != len(scores) or hashlib.sha256(new).hexdigest() != checksum:
                        raise ValueError("its scores are not those that were written")
                    scores.frombytes(new)
            return scores, json.loads(settings), pairs
        except (OSError, sqlite3.Error, TypeError, ValueError) as error:
            raise self._refusal(f"cannot be used: {error}.") from None

    def _refusal(self, problem: str) -> InputError:
        return InputError(
            f"The checkpoint {self._path} {problem} It was left as it is: give another path, or "
            "delete it to begin anew."
        )

    def _other_run(self) -> ScoreError:
        return ScoreError(
            f"Another run is using the checkpoint {self._path}. Stop it, or give another path, and "
            "run again."
        )


def _bytes_of(pair: Pair) -> bytes:
    """Return bytes that no other pair has: the lengths tell where a text ends."""
    query, document = pair
    return f"{len(query)} {len(document)} {query}{document}".encode()


def _difference(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Say in which settings two runs differ.

    >>> _difference({"model": "a", "user": "me"}, {"model": "b", "user": "me"})
    "made with model='a', and this run has model='b'"
    """
    names = sorted(stored.keys() | asked.keys())
    names = [name for name in names if stored.get(name) != asked.get(name)]
    before, now = (
        ", ".join(f"{name}={settings.get(name)!r}" for name in names)
        for settings in (stored, asked)
    )
    return f"made with {before}, and this run has {now}"
