"""Read what a checkpoint holds, without the code under test."""

from __future__ import annotations

import sqlite3
from array import array
from contextlib import closing
from pathlib import Path


def stored_scores(path: Path) -> list[float]:
    """Return the scores in a checkpoint, in order; none if there is no file."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        blobs = database.execute("SELECT scores FROM saves ORDER BY start").fetchall()
    return array("d", b"".join(blob for (blob,) in blobs)).tolist()
