"""The tutorial's own small corpus: passages, queries and graded judgments.

Written for these notebooks and read from files beside this module, so it needs no network. How it
was made, what the grades mean and what it cannot show stands in `DATA_CARD.md`, next to the files.

>>> from helpers import corpus
>>> corpus.passages(subject="geography").text[0]
'The capital of Brazil is Brasilia.'
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import pandas as pd

from helpers.errors import InputError

__all__ = ["judgments", "kinds", "long_documents", "passages", "queries", "subjects"]


def passages(subject: str | None = None, kind: str | None = None) -> pd.DataFrame:
    """Return the passages, one a row.

    Args:
        subject: Only this subject, one of `subjects()`.
        kind: Only this kind: what a statement is about ("capital") or how a paragraph is written
            ("recipe").

    Returns:
        A new frame with the columns passage_id, subject, kind, text, true (False where the
        statement is false on purpose) and near_duplicate_of (a passage_id, or "").

    Raises:
        InputError: There is no such subject or kind; the message names those there are.
    """
    return _select(_table("passages.csv"), subject=subject, kind=kind)


def queries(subject: str | None = None, kind: str | None = None) -> pd.DataFrame:
    """Return the queries, one a row.

    Args:
        subject: Only this subject, one of `subjects()`.
        kind: Only this kind: keyword, question, paraphrase, negation or misspelling.

    Returns:
        A new frame with the columns query_id, subject, kind and text.

    Raises:
        InputError: There is no such subject or kind; the message names those there are.
    """
    return _select(_table("queries.csv"), subject=subject, kind=kind)


def judgments(subject: str | None = None, kind: str | None = None) -> pd.DataFrame:
    """Return the graded judgments, one (query, passage) pair a row.

    A pair that is not listed counts as grade 0.

    Args:
        subject: Only the queries of this subject, one of `subjects()`.
        kind: Only the queries of this kind.

    Returns:
        A new frame with the columns query_id, passage_id and grade: 3 answers the query, 2 answers
        it in part or falsely, 1 is on the topic without an answer, 0 is not relevant.

    Raises:
        InputError: There is no such subject or kind; the message names those there are.
    """
    wanted = queries(subject=subject, kind=kind).query_id
    table = _table("judgments.csv")
    return table[table.query_id.isin(wanted)].reset_index(drop=True)


def long_documents() -> pd.DataFrame:
    """Return the long documents, of 400 to 700 words, one a row.

    Returns:
        A new frame with the columns document_id, subject, title, text, query and answer. The answer
        is the sentence of the text that answers the query; it stands near the end of the text.
    """
    return _table("long_documents.jsonl").copy()


def subjects() -> list[str]:
    """Return the names of the subjects, in the order of the passages."""
    return _table("passages.csv").subject.unique().tolist()


def kinds() -> list[str]:
    """Return the kinds of queries, in the order in which they first appear."""
    return _table("queries.csv").kind.unique().tolist()


@cache
def _table(name: str) -> pd.DataFrame:
    """Read one data file; the frame is shared, so callers hand out copies only."""
    with resources.files(__name__).joinpath(name).open(encoding="utf-8") as file:
        if name.endswith(".jsonl"):
            return pd.read_json(file, lines=True)
        # Empty cells are empty strings, not NaN: a learner compares them with "".
        return pd.read_csv(file, keep_default_na=False)


def _select(table: pd.DataFrame, **wanted: str | None) -> pd.DataFrame:
    """Return a copy of the rows that have the wanted value in every named column."""
    for column, value in wanted.items():
        if value is None:
            continue
        valid = table[column].unique().tolist()
        if value not in valid:
            names = ", ".join(map(repr, valid))
            raise InputError(f"There is no {column} {value!r} here. Choose one of: {names}.")
        table = table[table[column] == value]
    return table.reset_index(drop=True)
