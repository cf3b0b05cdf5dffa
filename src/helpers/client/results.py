"""Hold what a server answered, in a form that reads well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from helpers.errors import InputError
from helpers.tables import html_table, shorten, text_table

# A notebook that prints 10,000 rows stops being readable, and its file grows by megabytes.
ROWS_SHOWN = 20


class Table(ABC):
    """Show a result as a table: its first rows, a caption above, and how many more there are."""

    scores: tuple[float, ...]

    @abstractmethod
    def _caption(self) -> str: ...

    @abstractmethod
    def _shown(self) -> pd.DataFrame:
        """Return the first `ROWS_SHOWN` rows, with a column `score`."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.scores)

    def __repr__(self) -> str:
        """Show a table for a terminal."""
        return text_table(self._shown(), **self._around())

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        return html_table(self._shown(), **self._around())

    def _around(self) -> dict[str, Any]:
        hidden = len(self) - ROWS_SHOWN
        note = f"… and {hidden:,} more; .to_frame() has all of them" if hidden > 0 else ""
        formats = {"score": ".4f", "rank": "d", "index": "d"}
        return {"caption": self._caption(), "note": note, "formats": formats}


@dataclass(frozen=True, repr=False)
class ScoreResult(Table):
    """The scores of N pairs, in the order in which they were sent.

    Attributes:
        queries: The N queries; one that was sent with many documents stands here N times.
        documents: The N documents.
        scores: N finite numbers. What they mean depends on the model: with the activation on (the
            default) a cross-encoder gives a relevance between 0 and 1, without it a logit.
        model: The name under which the server serves the model.
        prompt_tokens: The tokens of all N pairs together, special tokens included; None if the
            server does not tell.
        request_id: The server's name for this request.
        raw: The JSON of the answer as it came.

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
    prompt_tokens: int | None
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
        scored = f"{_counted(len(self), 'pair')} scored by {self.model}"
        return f"{scored} ({counted_tokens(self.prompt_tokens)})"

    def _shown(self) -> pd.DataFrame:
        columns = {"score": self.scores, "query": self.queries, "document": self.documents}
        return pd.DataFrame({name: column[:ROWS_SHOWN] for name, column in columns.items()})


@dataclass(frozen=True, repr=False)
class RerankResult(Table):
    """The documents of one query, best first.

    Attributes:
        query: What they were ranked for.
        documents: The N best texts, in the order of their scores.
        indices: N positions in the list that was sent, counted from 0. Texts may repeat; positions
            do not.
        scores: N finite numbers, falling; what they mean depends on the model, as for
            `ScoreResult`.
        model: The name under which the server serves the model.
        prompt_tokens: The tokens of all pairs that were scored, also of those left out by `top_n`;
            None if the server does not tell.
        request_id: The server's name for this request.
        raw: The JSON of the answer as it came.

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
    prompt_tokens: int | None
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
        ranked = f"{_counted(len(self), 'document')} ranked by {self.model}"
        return f"{ranked} ({counted_tokens(self.prompt_tokens)}) for: {shorten(self.query)}"

    def _shown(self) -> pd.DataFrame:
        return self.to_frame().head(ROWS_SHOWN)


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


def counted_tokens(number: int | None) -> str:
    """Return a number of tokens in words; None is a server that does not tell."""
    return "unknown number of tokens" if number is None else _counted(number, "token")
