"""Cut a long document into overlapping chunks, and make one score of the scores of its chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from statistics import fmean

import pandas as pd

from helpers.client.inputs import check_text, whole_number
from helpers.client.results import ROWS_SHOWN, Table, counted_tokens
from helpers.errors import InputError
from helpers.tables import shorten

# Short enough to be about one thing, long enough to hold a paragraph with its context.
CHUNK_TOKENS = 128
# A quarter of a chunk holds a sentence: what one chunk cuts in two, the next one has whole.
OVERLAP_SHARE = 4

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "mean": fmean,
    "first": itemgetter(0),
}


@dataclass(frozen=True)
class TokenizeResult:
    """What a model makes of a text before it reads it.

    Attributes:
        text: What was sent.
        tokens: The pieces as the model's vocabulary spells them; `##` at the start (BERT) goes on
            with the word before it, `▁` or `Ġ` (other models) begins a new one.
        ids: Their numbers in the vocabulary.
        max_model_len: The most tokens of a pair that the model takes.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    max_model_len: int

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.ids)


@dataclass(frozen=True)
class Chunk:
    """A part of a document that begins and ends with a whole word.

    Attributes:
        text: The part, as it stands in the document.
        tokens: Its place in the document, in tokens from 0; it overlaps with its neighbours.
    """

    text: str
    tokens: range


@dataclass(frozen=True, repr=False)
class LongScoreResult(Table):
    """The score of a long document, with the scores of its chunks.

    Attributes:
        query: The query.
        chunks: The N parts of the document, in order.
        scores: N scores, one for each part.
        aggregate: How `score` comes out of them: "max", "mean" or "first".
        model: The name under which the server serves the model.
        prompt_tokens: The tokens of all N pairs, None if the server does not tell; where chunks
            overlap, they count twice.

    >>> chunks = (Chunk("The river rises", range(0, 3)), Chunk("and ends in Romania.", range(3, 8)))
    >>> result = LongScoreResult("Which country?", chunks, (0.1, 0.9), "max", "m", 20)
    >>> result.score, result.aggregated("mean"), result.best.text
    (0.9, 0.5, 'and ends in Romania.')
    >>> result
    0.9000 by max of 2 chunks, scored by m (20 tokens) for: Which country?
    tokens   score  text
    0–3     0.1000  The river rises
    3–8     0.9000  and ends in Romania.
    """

    query: str
    chunks: tuple[Chunk, ...]
    scores: tuple[float, ...]
    aggregate: str
    model: str
    prompt_tokens: int | None

    def __post_init__(self) -> None:
        """Refuse columns of different lengths, no chunk at all, and an unknown aggregate."""
        check_aggregate(self.aggregate)
        if not self.chunks or len(self.chunks) != len(self.scores):
            raise InputError(
                "chunks and scores must have one length of at least 1, and have "
                f"{len(self.chunks)} and {len(self.scores)}."
            )

    @property
    def score(self) -> float:
        """Return the score of the document."""
        return self.aggregated(self.aggregate)

    @property
    def best(self) -> Chunk:
        """Return the chunk with the highest score, the first of them in a tie."""
        return self.chunks[self.scores.index(max(self.scores))]

    def aggregated(self, aggregate: str) -> float:
        """Return what another aggregate makes of the same scores; nothing is sent."""
        return AGGREGATES[check_aggregate(aggregate)](self.scores)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame of N rows with the columns start, stop (tokens), score, text."""
        spans = [chunk.tokens for chunk in self.chunks]
        return pd.DataFrame(
            {
                "start": [span.start for span in spans],
                "stop": [span.stop for span in spans],
                "score": self.scores,
                "text": [chunk.text for chunk in self.chunks],
            }
        )

    def _caption(self) -> str:
        return (
            f"{self.score:.4f} by {self.aggregate} of {len(self.chunks)} chunks, scored by "
            f"{self.model} ({counted_tokens(self.prompt_tokens)}) for: {shorten(self.query)}"
        )

    def _shown(self) -> pd.DataFrame:
        shown = self.chunks[:ROWS_SHOWN]
        spans = [f"{chunk.tokens.start}–{chunk.tokens.stop}" for chunk in shown]
        texts = [chunk.text for chunk in shown]
        return pd.DataFrame({"tokens": spans, "score": self.scores[:ROWS_SHOWN], "text": texts})


def cut(
    document: str,
    count: Callable[[str], int],
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    overlap_tokens: int | None = None,
) -> tuple[Chunk, ...]:
    """Cut a document into chunks of whole words, each as long as it may be.

    Args:
        document: One text. If it fits, it comes back whole, as one chunk.
        count: Returns the number of tokens of a text, as the model's own tokenizer sees it. It is
            asked some 7 times a chunk, each time for a text of about the length of a chunk.
        chunk_tokens: The most tokens of a chunk; only a word that alone has more is broken.
        overlap_tokens: The most tokens that a chunk shares with the one before it; None takes a
            quarter of a chunk.

    >>> for chunk in cut("one two three four five", lambda text: len(text.split()),
    ...                  chunk_tokens=3, overlap_tokens=1):
    ...     print(chunk.tokens, chunk.text)
    range(0, 3) one two three
    range(2, 5) three four five
    """
    text = check_text(document, "document")
    chunk_tokens = whole_number("chunk_tokens", chunk_tokens)
    if overlap_tokens is None:
        overlap_tokens = chunk_tokens // OVERLAP_SHARE
    # As many as a whole chunk, and a cut would never come to its end.
    overlap_tokens = whole_number("overlap_tokens", overlap_tokens, 0, chunk_tokens - 1)
    if not text.strip():
        return (Chunk("", range(0)),)  # nothing in it, whatever a tokenizer makes of blanks
    total = count(text)
    if total <= chunk_tokens:
        return (Chunk(text, range(total)),)
    return tuple(_chunks(text, count, chunk_tokens, overlap_tokens))


def check_aggregate(name: str) -> str:
    """Return the name if there is such an aggregate."""
    if not isinstance(name, str) or name not in AGGREGATES:
        raise InputError(f"aggregate must be one of {', '.join(AGGREGATES)}, not {name!r}.")
    return name


def check_chunks(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Return the chunks of a document as a tuple, if they are some."""
    if not isinstance(chunks, (list, tuple)) or not all(isinstance(c, Chunk) for c in chunks):
        raise InputError(
            f"document must be a text (str) or chunks of it, not a {type(chunks).__name__}: "
            "call score_long once for each document."
        )
    if not chunks:
        raise InputError("document has no chunks: at least one is needed.")
    return tuple(chunks)


def _chunks(
    text: str, count: Callable[[str], int], chunk_tokens: int, overlap_tokens: int
) -> Iterator[Chunk]:
    # The tokens of a vocabulary cannot be found again in the text in a way that holds for every
    # model: some are lower case, some are bytes, some are unknown. Their number can be asked for.
    words = [match.span() for match in re.finditer(r"\S+", text)]

    @cache
    def size(start: int, end: int) -> int:
        """Return the number of tokens from one place in the text to another."""
        return count(text[start:end])

    def fitting(first: int) -> int:
        """Return how many words from this one on fit into a chunk."""
        start = words[first][0]
        return _most_that_fit(
            lambda number: size(start, words[first + number - 1][1]),
            chunk_tokens,
            len(words) - first,
        )

    def shared(first: int, stop: int) -> int:
        """Return how many of the last words of a chunk fit into the overlap."""
        end = words[stop - 1][1]
        return _most_that_fit(
            lambda number: size(words[stop - number][0], end), overlap_tokens, stop - first - 1
        )

    # Of the next chunk: its first word, the first word that is new, and its place in tokens.
    first = new = position = 0
    while new < len(words):
        stop = first + fitting(first)
        if stop <= new and first < new:
            # The overlap leaves no room for the next word: go on without it.
            position += size(words[first][0], words[new - 1][1])
            first = new
        elif stop == first:
            words[first : first + 1] = _characters(text, *words[first], chunk_tokens)
        else:
            start, end = words[first][0], words[stop - 1][1]
            yield Chunk(text[start:end], range(position, position + size(start, end)))
            first, new = stop - shared(first, stop), stop
            position += size(start, end) - (size(words[first][0], end) if first < stop else 0)


def _characters(text: str, start: int, end: int, chunk_tokens: int) -> list[tuple[int, int]]:
    """Return the places of the characters of a word that is longer than a chunk."""
    if end - start == 1:
        raise InputError(
            f"chunk_tokens={chunk_tokens} is too small: the character {text[start]!r} has more."
        )
    return [(place, place + 1) for place in range(start, end)]


def _most_that_fit(size: Callable[[int], int], limit: int, most: int) -> int:
    """Return the largest number up to `most` whose size is within the limit, 0 if none is.

    Sizes grow about evenly, so each one that was asked for tells where to look next.

    >>> _most_that_fit(lambda number: 3 * number, 100, 1000)
    33
    """
    fits, too_many, probe = 0, most + 1 if limit else 1, limit
    while too_many - fits > 1:
        if not fits < probe < too_many:
            probe = (fits + too_many) // 2
        tokens = size(probe)
        if tokens == limit:
            return probe
        fits, too_many = (probe, too_many) if tokens < limit else (fits, probe)
        step = round((limit - tokens) * probe / max(tokens, 1))
        probe += step or (1 if tokens < limit else -1)
    return fits
