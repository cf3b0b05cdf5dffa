"""Keep the scores of a long run on disk, so that a second run goes on where the first stopped.

A checkpoint is one Parquet file: a column `score` with a row for each pair that was scored, in the
order of the pairs, and in its metadata what the scores were made from. It is written beside its
place and put there in one step, so that whoever reads it finds a whole file, whenever the writer
was killed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
import uuid
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.errors import InputError, ScoreError

# What a killed run has to score again. Each save writes all scores anew, so a large checkpoint,
# whose saves take long, is saved less often: at most a twentieth of the time goes into it.
SAVE_SECONDS = 2.0
SAVE_SHARE = 0.05

_METADATA = b"vllm-score-notebooks"
_VERSION = 1

Pair = tuple[str, str]


class Checkpoint:
    """The scores of one run in one file; a context manager, which saves at its end.

    path: the file. It may not exist yet; its folder must.
    settings: what the scores depend on besides the texts, such as the model; values for JSON.

    Of two runs that use one file at a time, the one that notices ends with a `ScoreError`; so does
    a run whose file can not be written. What is in the file stays whole.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Check the path; nothing is read or written yet."""
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise InputError(f"checkpoint must be the path of a file, and is {path!r}.")
        try:
            # Resolved, because replacing a link would leave what it points to as it was.
            self._path = Path(path).expanduser().resolve()
            is_folder, has_folder = self._path.is_dir(), self._path.parent.is_dir()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"checkpoint can not be the path of a file: {error}.") from None
        if is_folder or not has_folder:
            wrong = "is a folder" if is_folder else "lies in a folder that does not exist"
            raise InputError(f"The checkpoint {self._path} {wrong}: give the path of a file.")
        try:
            self._settings = json.loads(json.dumps(settings, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"An option can not be written as JSON: {error}.") from None
        self._scores = array("d")
        # How many scores are certain, and the digest of their pairs: changed together, in one step,
        # and only when the scores are there. An interrupt may come between any two lines.
        self._done = (0, hashlib.sha256())
        self._saved = self._done[1].hexdigest()
        self._due = 0.0

    def __enter__(self) -> Checkpoint:
        """Return the checkpoint itself."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Save what is done, also after an error or an interrupt."""
        self.save()

    def resume(self, pairs: Iterator[Pair]) -> array[float]:
        """Take the pairs that are already scored off `pairs`, and return their scores.

        The caller adds further scores to the same array, and tells `keep` what they belong to.

        Raises `InputError` if the file is no checkpoint, or one of other pairs or settings.
        """
        for draft in self._path.parent.glob(f".{glob.escape(self._path.name)}.*.draft"):
            with suppress(OSError):
                draft.unlink()  # of a run that was killed while it saved
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
        self._saved = stored
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
        if digest == self._saved:
            return
        began = time.monotonic()
        if self._path.exists():
            stored = self._read()[2]
            # An interrupt may have come after the file was put in its place.
            if stored not in (self._saved, digest):
                raise ScoreError(
                    f"Another run is using the checkpoint {self._path}. Stop it, or give another "
                    "path, and run again."
                )
        scores = np.frombuffer(self._scores[:rows])
        about = {
            "version": _VERSION,
            "settings": self._settings,
            "pairs": digest,
            "scores": hashlib.sha256(scores).hexdigest(),
        }
        table = pa.table({"score": scores})
        self._write(table.replace_schema_metadata({_METADATA: json.dumps(about)}))
        self._saved = digest
        now = time.monotonic()
        self._due = now + max(SAVE_SECONDS, (now - began) / SAVE_SHARE)

    def _write(self, table: pa.Table) -> None:
        """Put the table in the file's place, in one step."""
        draft = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}.draft")
        try:
            with draft.open("xb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._path)
        except OSError as error:
            raise ScoreError(
                f"The checkpoint {self._path} can not be written: {error.strerror or error}. What "
                "it held before is still there. Make room, or copy it to another place and give "
                "that path; then run again."
            ) from None
        finally:
            with suppress(OSError):  # after the replacement there is none
                draft.unlink()

    def _read(self) -> tuple[array[float], dict[str, Any], str]:
        """Return the scores, the settings and the digest that the file holds."""
        try:
            # Not pq.read_table: that makes columns of folders called name=value.
            with pq.ParquetFile(self._path) as file:
                table = file.read()
            about = json.loads((table.schema.metadata or {})[_METADATA])
            version, settings, pairs = about["version"], about["settings"], about["pairs"]
            content = table["score"].to_numpy().astype(np.float64).tobytes()
            whole = hashlib.sha256(content).hexdigest() == about["scores"]
        except (OSError, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0]
            raise self._refusal(f"can not be read ({reason}).") from None
        except (KeyError, ValueError):
            raise self._refusal("is a Parquet file of another origin, or damaged.") from None
        if version != _VERSION:
            raise self._refusal("was written by another version of this package.")
        if not whole:
            raise self._refusal("is damaged: its scores are not those that were written.")
        return array("d", content), settings, pairs

    def _refusal(self, problem: str) -> InputError:
        return InputError(
            f"The checkpoint {self._path} {problem} It was left as it is: give another path, or "
            "delete it to begin anew."
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
