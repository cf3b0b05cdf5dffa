"""Score many pairs: in batches, several requests at a time, in order."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from helpers.client import ScoreClient
from helpers.errors import InputError, ScoreError
from helpers.inputs import check_text
from helpers.wire import shorten_list

Batch = tuple[range, list[str], list[str]]


def score_pairs(
    client: ScoreClient,
    queries: Iterable[str],
    documents: Iterable[str],
    *,
    batch_size: int = 32,
    concurrency: int = 4,
    progress: bool = True,
    **options: Any,
) -> np.ndarray:
    """Score N queries against N documents and return N numbers (float64) in the same order.

    queries, documents: any two iterables of equal length, generators too. Those that can be read
        twice are checked whole before anything is sent.
    batch_size: pairs in one request.
    concurrency: requests in flight at a time.
    progress: show a bar with the rate.
    options: as for `ScoreClient.score`.

    At most 2 * `concurrency` batches are in memory at a time. Each pair is scored exactly once in
    the result, even when a request had to be sent again.

    When a batch fails, no other is started, and its error is raised at once; `rows` on it says
    which pairs the batch held.
    """
    _check_count("batch_size", batch_size)
    _check_count("concurrency", concurrency)
    total = _check_columns(queries, documents)
    if total == 0:
        return np.empty(0)
    scores = array("d")
    with tqdm(total=total, unit="pair", disable=not progress) as bar:
        batches = _batches(queries, documents, batch_size)
        with closing(_scored(client, batches, concurrency, options)) as results:
            for result in results:
                scores.extend(result)
                bar.update(len(result))
    return np.array(scores, dtype=np.float64)


def score_frame(
    client: ScoreClient,
    frame: pd.DataFrame,
    *,
    query: str = "query",
    document: str = "document",
    score: str = "score",
    batch_size: int = 32,
    concurrency: int = 4,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Return a copy of the frame with a column of scores; index and other columns stay.

    query, document: the names of the columns that hold the texts.
    score: the name of the new column (float64); an older column of this name is replaced.
    batch_size, concurrency, progress, options: as for `score_pairs`.

    Raises `InputError` before anything is sent if a column is missing, or a cell is empty or no
    text; the message names the rows by their labels.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"frame must be a DataFrame, and is a {type(frame).__name__}.")
    if score in (query, document):
        raise InputError(f"score={score!r} would replace the texts: give it another name.")
    queries, documents = _column(frame, query), _column(frame, document)
    scored = frame.copy()
    scored[score] = score_pairs(
        client,
        queries,
        documents,
        batch_size=batch_size,
        concurrency=concurrency,
        progress=progress,
        **options,
    )
    return scored


def _scored(
    client: ScoreClient, batches: Iterator[Batch], concurrency: int, options: dict[str, Any]
) -> Iterator[tuple[float, ...]]:
    """Yield the scores of each batch, in the order of the batches.

    The threads are daemons of our own, not those of a ThreadPoolExecutor: Python waits for the
    latter when it ends, so an interrupt would hang on a server that no longer answers.
    """
    todo: SimpleQueue[Batch | None] = SimpleQueue()
    done: SimpleQueue[tuple[range, tuple[float, ...] | BaseException]] = SimpleQueue()
    stop = threading.Event()
    _ = client.model  # asked once here, or each run would ask anew
    twin = client.stopped_by(stop)

    def work() -> None:
        while (batch := todo.get()) is not None and not stop.is_set():
            rows, queries, documents = batch
            try:
                done.put((rows, twin.score(queries, documents, **options).scores))
            except BaseException as error:
                done.put((rows, error))

    threads = [
        threading.Thread(target=work, name=f"score_pairs {number}", daemon=True)
        for number in range(concurrency)
    ]
    early: dict[int, tuple[range, tuple[float, ...]]] = {}
    next_row = in_work = 0
    try:
        for thread in threads:
            thread.start()
        while True:
            for batch in islice(batches, 2 * concurrency - in_work - len(early)):
                todo.put(batch)
                in_work += 1
            if not in_work:
                return
            rows, outcome = done.get()
            in_work -= 1
            if isinstance(outcome, ScoreError):
                raise outcome.at_rows(rows)
            if isinstance(outcome, BaseException):
                raise outcome
            early[rows.start] = (rows, outcome)
            while next_row in early:
                rows, scores = early.pop(next_row)
                next_row = rows.stop
                yield scores
    finally:
        stop.set()
        for _ in threads:
            todo.put(None)


def _batches(queries: Iterable[str], documents: Iterable[str], batch_size: int) -> Iterator[Batch]:
    pairs = _checked_pairs(queries, documents)
    start = 0
    while batch := list(islice(pairs, batch_size)):
        rows = range(start, start + len(batch))
        yield rows, [query for query, _ in batch], [document for _, document in batch]
        start = rows.stop


def _checked_pairs(queries: Iterable[str], documents: Iterable[str]) -> Iterator[tuple[str, str]]:
    end = object()
    left, right = iter(queries), iter(documents)
    row = 0
    while True:
        query, document = next(left, end), next(right, end)
        if query is end and document is end:
            return
        if query is end or document is end:
            shorter, longer = ("queries", "documents") if query is end else ("documents", "queries")
            raise InputError(
                f"The {shorter} ended after {row} while the {longer} went on: both must be of "
                "equal length."
            )
        yield check_text(query, f"queries[{row}]"), check_text(document, f"documents[{row}]")
        row += 1


def _check_columns(queries: Iterable[str], documents: Iterable[str]) -> int | None:
    """Check what can be checked before sending; return the number of pairs, if it is known."""
    columns = (("queries", queries), ("documents", documents))
    for name, texts in columns:
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise InputError(
                f"{name} is a {type(texts).__name__}: expected a list or a generator of texts, "
                "one for each pair. ScoreClient.score takes single texts."
            )
        if isinstance(texts, (dict, set, frozenset, pd.DataFrame)):
            raise InputError(f"{name} is a {type(texts).__name__}: expected a list of texts.")
    sizes = {name: len(texts) for name, texts in columns if _is_readable_twice(texts)}
    if len(set(sizes.values())) == 2:
        raise InputError(
            f"{sizes['queries']} queries and {sizes['documents']} documents can not be paired: "
            "both must be of equal length."
        )
    for name, texts in columns:
        if name in sizes:
            for row, text in enumerate(texts):
                check_text(text, f"{name}[{row}]")
    return next(iter(sizes.values()), None)


def _is_readable_twice(texts: Iterable[str]) -> bool:
    # A length alone does not say so: a progress bar around a generator has one too.
    return isinstance(texts, Sequence) or hasattr(texts, "tolist")


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"{name} must be a whole number from 1 up, and is {value!r}.")


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        there = shorten_list([repr(column) for column in frame.columns]) or "none"
        raise InputError(f"The frame has no column {name!r}. Its columns: {there}.")
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise InputError(f"The frame has {column.shape[1]} columns {name!r}: rename all but one.")
    for wrong, what in (
        (column.isna(), "nothing (None or NaN)"),
        (~column.map(lambda cell: isinstance(cell, str)).astype(bool), "no text"),
    ):
        if wrong.any():
            labels = shorten_list([repr(label) for label in column.index[wrong].tolist()])
            raise InputError(
                f"Column {name!r} holds {what} in {int(wrong.sum())} of {len(column)} rows, "
                f"labelled {labels}. Drop or fill them first."
            )
    return column
