"""Hold what a server answered, in a form that reads well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import pandas as pd

from helpers.errors import InputError

# A notebook that prints 10,000 rows stops being readable, and its file grows by megabytes.
ROWS_SHOWN = 20
WIDTH_SHOWN = 80


@dataclass(frozen=True, repr=False)
class ScoreResult:
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
        lengths = (len(self.queries), len(self.documents), len(self.scores))
        if len(set(lengths)) != 1:
            raise InputError(
                "queries, documents and scores must have one length, and have "
                f"{lengths[0]}, {lengths[1]} and {lengths[2]}."
            )

    @property
    def score(self) -> float:
        """Return the score of the only pair; `InputError` if there are more."""
        if len(self.scores) != 1:
            raise InputError(
                f"This result has {len(self.scores)} scores: use .scores for all of them, or "
                ".ranked() for the best first."
            )
        return self.scores[0]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.scores)

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

    def __repr__(self) -> str:
        """Show a table for a terminal."""
        rows = [(f"{score:.4f}", query, document) for score, query, document in self._rows()]
        wide = max([len("score"), *(len(score) for score, _, _ in rows)])
        middle = max([len("query"), *(len(query) for _, query, _ in rows)])
        table = [
            f"{score:>{wide}}  {query:<{middle}}  {document}"
            for score, query, document in [("score", "query", "document"), *rows]
        ]
        return "\n".join([self._caption(), *table, *self._rest()])

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        rows = "".join(
            f"<tr><td>{score:.4f}</td>"
            f'<td dir="auto" style="text-align:left">{escape(query)}</td>'
            f'<td dir="auto" style="text-align:left">{escape(document)}</td></tr>'
            for score, query, document in self._rows()
        )
        rest = "".join(f"<p>{line}</p>" for line in self._rest())
        return (
            f"<table><caption>{escape(self._caption())}</caption>"
            '<thead><tr><th scope="col">score</th><th scope="col" style="text-align:left">query'
            '</th><th scope="col" style="text-align:left">document</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>{rest}"
        )

    def _rows(self) -> Iterator[tuple[float, str, str]]:
        columns = (self.scores[:ROWS_SHOWN], self.queries, self.documents)
        for score, query, document in zip(*columns, strict=False):
            yield score, shorten(query), shorten(document)

    def _caption(self) -> str:
        pairs = "1 pair" if len(self) == 1 else f"{len(self):,} pairs"
        return f"{pairs} scored by {self.model} ({self.prompt_tokens:,} tokens)"

    def _rest(self) -> list[str]:
        hidden = len(self) - ROWS_SHOWN
        return [f"… and {hidden:,} more; .to_frame() has all of them"] if hidden > 0 else []


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
