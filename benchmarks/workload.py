"""The pairs that every peer scores: queries and passages of the tutorial corpus."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer

from helpers import corpus
from timing import Pair

T = TypeVar("T")

# As many candidates a query as a request of `score_pairs` holds by default. Servers with a rerank
# route take one query a request, so with groups of this size all peers can be sent the same.
GROUP = 32
# Paragraphs of 42 to 112 words; of the single statements about geography the shortest, so that
# query and statement are some 20 tokens together.
PASSAGES, SHORT = "passages", "short"
STATEMENTS = 64
SHORT_SUBJECT = "geography"


def workloads() -> dict[str, list[Pair]]:
    """Return the pairs of each kind, GROUP at a time of one query, the same in every run."""
    chance = random.Random(0)
    queries, passages = corpus.queries(), corpus.passages()
    real = queries[queries.subject != SHORT_SUBJECT]
    by_subject = {subject: frame.text.tolist() for subject, frame in passages.groupby("subject")}
    real_pairs = [
        (query, passage)
        for query, subject in _shuffled(zip(real.text, real.subject, strict=True), chance)
        for passage in chance.sample(by_subject[subject], GROUP)
    ]
    statements = sorted(by_subject[SHORT_SUBJECT], key=lambda text: (len(text), text))[:STATEMENTS]
    short_queries = _shuffled(queries.text[queries.subject == SHORT_SUBJECT], chance)
    chance.shuffle(statements)
    short_pairs = [(query, text) for query in short_queries for text in statements]
    return {PASSAGES: real_pairs, SHORT: short_pairs}


def requests_of(pairs: Sequence[Pair], size: int) -> Iterator[tuple[str, list[str]]]:
    """Cut pairs into requests of one query against at most `size` documents."""
    for query, group in groupby(pairs, key=itemgetter(0)):
        documents = [document for _, document in group]
        for start in range(0, len(documents), size):
            yield query, documents[start : start + size]


def tokens_per_pair(pairs: list[Pair], model: Path) -> float:
    """Return the mean number of tokens of a pair, special tokens included.

    model: the model's folder, which holds `tokenizer.json`.
    """
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)) / len(pairs)


def _shuffled(items: Iterable[T], chance: random.Random) -> list[T]:
    listed = list(items)
    chance.shuffle(listed)
    return listed
