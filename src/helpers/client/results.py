"""Hold what a server answered, in a form that reads well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import islice
from typing import Any

import pandas as pd

from helpers.errors import InputError

# A notebook that prints 10,000 rows stops being readable, and its file grows by megabytes.
ROWS_SHOWN = 20
WIDTH_SHOWN = 80


@dataclass(frozen=True)
class Column:
    """Hold one column of a table for eyes: numbers stand on the right, texts on the left."""

    name: str
    cells: Sequence[str]
    is_text: bool = True

    @classmethod
    def of_numbers(cls, name: str, numbers: Iterable[float], form: str = "") -> Column:
        """Make a column of numbers, written in a form such as ".4f"."""
        cells = [format(number, form) for number in islice(numbers, ROWS_SHOWN)]
        return cls(name, cells, is_text=False)

    @classmethod
    def of_texts(cls, name: str, texts: Iterable[str]) -> Column:
        """Make a column of texts, each shortened to one line."""
        return cls(name, [shorten(text) for text in islice(texts, ROWS_SHOWN)])

    def aligned(self) -> list[str]:
        """Return name and cells, padded to one width."""
        lines = [self.name, *self.cells]
        width = max(map(len, lines))
        return [line.ljust(width) if self.is_text else line.rjust(width) for line in lines]

    @property
    def attributes(self) -> tuple[str, str]:
        """Return the HTML attributes of its head and of its cells."""
        left = ' style="text-align:left"' if self.is_text else ""
        return left, f' dir="auto"{left}' if self.is_text else ""


class Table(ABC):
    """Show a result as a table: its first rows, a caption above, and how many more there are."""

    scores: tuple[float, ...]

    @abstractmethod
    def _caption(self) -> str: ...

    @abstractmethod
    def _columns(self) -> list[Column]: ...

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.scores)

    def __repr__(self) -> str:
        """Show a table for a terminal."""
        rows = zip(*(column.aligned() for column in self._columns()), strict=True)
        table = ["  ".join(row).rstrip() for row in rows]
        return "\n".join([self._caption(), *table, *self._rest()])

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        columns = self._columns()
        head = "".join(
            f'<th scope="col"{column.attributes[0]}>{column.name}</th>' for column in columns
        )
        cells = (
            [f"<td{column.attributes[1]}>{escape(cell)}</td>" for cell in column.cells]
            for column in columns
        )
        rows = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
        rest = "".join(f"<p>{line}</p>" for line in self._rest())
        return (
            f"<table><caption>{escape(self._caption())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"
        )

    def _rest(self) -> list[str]:
        hidden = len(self) - ROWS_SHOWN
        return [f"… and {hidden:,} more; .to_frame() has all of them"] if hidden > 0 else []


@dataclass(frozen=True, repr=False)
class ScoreResult(Table):
    """Hold the scores of N pairs, in the order in which they were sent.

    queries, documents: the N pairs; one query sent with many documents stands here N times.
    scores: N finite numbers. What they mean depends on the model: with the activation on (the
        default) a cross-encoder gives a relevance between 0 and 1, without it a logit.
    model: the name under which the server serves the model.
    prompt_tokens: the tokens of all N pairs together, special tokens included.
    request_id: the name of this request in the server's log.
    raw: the JSON of the answer as it came.

    >>> result = ScoreResult(("capital of France?",) * 2, ("Lyon.", "Paris."), (0.1, 0.9), "m", 14)
    >>> len(result), list(result), result.ranked().documents
    (2, [0.1, 0.9], ('Paris.', 'Lyon.'))
    >>> result
    2 pairs scored by m (14 tokens)
     score  query               document
    0.1000  capital of France?  Lyon.
    0.9000  capital of France?  Paris.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    scores: tuple[float, ...]
    model: str
    prompt_tokens: int
    request_id: str = ""
    raw: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        _check_lengths(queries=self.queries, documents=self.documents, scores=self.scores)

    @property
    def score(self) -> float:
        """Return the score of the only pair; `InputError` if there are more."""
        if len(self.scores) != 1:
            raise InputError(
                f"This result has {len(self.scores)} scores: use .scores for all of them, or "
                ".ranked() for the best first."
            )
        return self.scores[0]

    def __iter__(self) -> Iterator[float]:
        """Go through the scores in the order in which the pairs were sent."""
        return iter(self.scores)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame of N rows with the columns query, document, score."""
        columns = {"query": self.queries, "document": self.documents, "score": self.scores}
        return pd.DataFrame(columns)

    def ranked(self) -> ScoreResult:
        """Return the same pairs, best score first; equal scores keep their order.

        `raw` stays as it came, in the order of the request.
        """
        order = sorted(range(len(self)), key=lambda row: -self.scores[row])
        return replace(
            self,
            queries=tuple(self.queries[row] for row in order),
            documents=tuple(self.documents[row] for row in order),
            scores=tuple(self.scores[row] for row in order),
        )

    def _caption(self) -> str:
        return f"{_counted(len(self), 'pair')} scored by {self.model} ({_tokens(self)})"

    def _columns(self) -> list[Column]:
        return [
            Column.of_numbers("score", self.scores, ".4f"),
            Column.of_texts("query", self.queries),
            Column.of_texts("document", self.documents),
        ]


@dataclass(frozen=True, repr=False)
class RerankResult(Table):
    """Hold the documents of one query, best first.

    query: what they were ranked for.
    documents: the N best texts, in the order of their scores.
    indices: for each, its position in the list that was sent, counted from 0. Texts may repeat;
        positions do not.
    scores: for each, a finite number, falling; what it means depends on the model, as for
        `ScoreResult`.
    model: the name under which the server serves the model.
    prompt_tokens: the tokens of all pairs that were scored, also of those left out by `top_n`.
    request_id: the name of this request in the server's log.
    raw: the JSON of the answer as it came.

    >>> RerankResult("capital of France?", ("Paris.", "Lyon."), (1, 0), (0.9, 0.1), "m", 14)
    2 documents ranked by m (14 tokens) for: capital of France?
    rank  index   score  document
       1      1  0.9000  Paris.
       2      0  0.1000  Lyon.
    """

    query: str
    documents: tuple[str, ...]
    indices: tuple[int, ...]
    scores: tuple[float, ...]
    model: str
    prompt_tokens: int
    request_id: str = ""
    raw: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        _check_lengths(documents=self.documents, indices=self.indices, scores=self.scores)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame of N rows with the columns rank (from 1), index, score, document."""
        columns = {
            "rank": range(1, len(self) + 1),
            "index": self.indices,
            "score": self.scores,
            "document": self.documents,
        }
        return pd.DataFrame(columns)

    def _caption(self) -> str:
        ranked = f"{_counted(len(self), 'document')} ranked by {self.model} ({_tokens(self)})"
        return f"{ranked} for: {shorten(self.query)}"

    def _columns(self) -> list[Column]:
        return [
            Column.of_numbers("rank", range(1, len(self) + 1)),
            Column.of_numbers("index", self.indices),
            Column.of_numbers("score", self.scores, ".4f"),
            Column.of_texts("document", self.documents),
        ]


def _check_lengths(**columns: Sequence[object]) -> None:
    lengths = [len(column) for column in columns.values()]
    if len(set(lengths)) != 1:
        names, numbers = list(columns), list(map(str, lengths))
        raise InputError(
            f"{', '.join(names[:-1])} and {names[-1]} must have one length, and have "
            f"{', '.join(numbers[:-1])} and {numbers[-1]}."
        )


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def _tokens(result: ScoreResult | RerankResult) -> str:
    return f"{result.prompt_tokens:,} tokens"


def shorten(text: str, width: int = WIDTH_SHOWN) -> str:
    """Put a text on one line of at most `width` characters.

    >>> shorten("A long\\n  text", 8)
    'A long …'
    """
    # The line is built from a slice: a document may have a million characters.
    line = " ".join(text[: 4 * width].split())
    if len(line) <= width and len(text) <= 4 * width:
        return line
    return line[: width - 1] + "…"
