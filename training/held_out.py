"""The held-out sets: kinds of text that no training text comes from, to validate on.

Each is made of a set in the data folder: claims and their evidence (fool-me-twice), questions and
key words about health (medquad), computing (sysadmin-qa), and long documents (news passages of
realtimeqa joined, so that the wanted one stands at any place of a text of about 400 words).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pools import read_set

KINDS = {"claims": "fool-me-twice", "health": "medquad", "computing": "sysadmin-qa"}
LONG = "realtimeqa"
LONG_WORDS = 400


@dataclass(frozen=True)
class Task:
    """Documents and queries by id, and for each query its judged documents."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgments: dict[str, dict[str, int]]


def task(folder: Path, most: int, name: str | None = None) -> Task:
    """Read a set as a task of at most so many queries, drawn with a fixed seed."""
    judged = read_set(folder)
    kept = sorted(judged.queries)
    if len(kept) > most:
        kept = random.Random(0).sample(kept, most)
    return Task(
        name or folder.name,
        {key: judged.document(key) for key in judged.texts},
        {q: judged.queries[q] for q in kept},
        {q: judged.judged[q] for q in kept},
    )


def long_task(folder: Path, most: int) -> Task:
    """Join the passages of a set, in a fixed random order, into long documents."""
    short = task(folder, most)
    keys = sorted(short.documents)
    random.Random(0).shuffle(keys)
    place: dict[str, str] = {}
    documents: dict[str, str] = {}
    words = LONG_WORDS
    for key in keys:
        text = short.documents[key]
        if words + len(text.split()) > LONG_WORDS:
            name, words = f"long{len(documents)}", 0
            documents[name] = text
        else:
            documents[name] += f" {text}"
        words += len(text.split())
        place[key] = name
    judgments = {
        query: {place[d]: score for d, score in found.items() if score}
        for query, found in short.judgments.items()
    }
    return Task("long", documents, short.queries, judgments)


def held_out(data: Path, most: int) -> Iterator[Task]:
    """Make the held-out sets that the data folder has the texts for."""
    for kind, name in KINDS.items():
        if (data / name).is_dir():
            yield task(data / name, most, kind)
    if (data / LONG).is_dir():
        yield long_task(data / LONG, most)
