"""The held-out sets: kinds of text that no training text comes from, to validate on.

Each is made of a set in the data folder: claims and their evidence (fool-me-twice), questions and
key words about health (medquad), computing (sysadmin-qa), and long documents (news passages of
realtimeqa joined, so that the wanted one stands at any place of a text of about 400 words).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from helpers.search import JudgedSet, load_judged

KINDS = {"claims": "fool-me-twice", "health": "medquad", "computing": "sysadmin-qa"}
LONG = "realtimeqa"
LONG_WORDS = 400


def long_set(folder: Path, most: int) -> JudgedSet:
    """Join the passages of a set, in a fixed random order, into long documents."""
    short = load_judged(folder, max_queries=most)
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
    return JudgedSet("long", documents, short.queries, judgments)


def held_out(data: Path, most: int) -> Iterator[JudgedSet]:
    """Make the held-out sets that the data folder has the texts for, of at most so many queries."""
    for kind, name in KINDS.items():
        if (data / name).is_dir():
            yield replace(load_judged(data / name, max_queries=most), name=kind)
    if (data / LONG).is_dir():
        yield long_set(data / LONG, most)
