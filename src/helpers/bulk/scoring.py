"""Score many pairs: in batches, several requests at a time, in order, and as often as it takes."""

from __future__ import annotations

import math
import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from helpers.bulk.checkpoint import Checkpoint, Pair
from helpers.client import ScoreClient, check_count, check_text, given_options, shorten_list
from helpers.errors import (
    InputError,
    RequestTimeoutError,
    ResponseError,
    ScoreError,
    ServerBusyError,
    ServerFaultError,
    UnreachableError,
)

# A large model on a GPU takes some minutes from its start to its first score.
PATIENCE = 600.0
LOOK_SECONDS = 1.0  # between two looks: is the server back, has an interrupt come
# Options that name a request or choose its turn; the scores are the same without them.
LABELS = {"priority", "request_id", "user"}


class Batch(NamedTuple):
    """The pairs of one request, and which rows of the run they are."""

    rows: range
    pairs: list[Pair]


def score_pairs(
    client: ScoreClient,
    queries: Iterable[str],
    documents: Iterable[str],
    *,
    batch_size: int = 32,
    concurrency: int = 4,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    patience: float | None = None,
    **options: Any,
) -> np.ndarray:
    """Score N queries against N documents and return N numbers (float64) in the same order.

    queries, documents: any two iterables of equal length, generators too. Those that can be read
        twice are checked whole before anything is sent.
    batch_size: pairs in one request.
    concurrency: requests in flight at a time.
    progress: show a bar with the rate and, where the number of pairs is known, the time left.
    checkpoint: a Parquet file that keeps the scores while they come in. When a run was stopped,
        in whatever way, the same call goes on where it ended; of a killed run the last 2 seconds
        are scored again. Further pairs may follow those of the first run; another model, other
        options or other texts are refused.
    patience: seconds to wait for a server that is away, full or frozen, counted from the last
        answer. None means 600 with a checkpoint, and 0 without one.
    options: as for `ScoreClient.score`.

    At most 2 * `concurrency` batches are in memory at a time, and 8 bytes a pair for the scores.
    Each pair is scored exactly once in the result, even when a request had to be sent again.

    When a batch fails for good, no other is started, and its error is raised at once; `rows` on it
    says which pairs the batch held.
    """
    check_count("batch_size", batch_size)
    check_count("concurrency", concurrency)
    if patience is None:
        patience = 0.0 if checkpoint is None else PATIENCE
    _check_patience(patience)
    total = _check_columns(queries, documents)
    if total == 0:
        return np.empty(0)
    pairs = _checked_pairs(queries, documents)
    scores, kept = array("d"), None
    with ExitStack() as stack:
        if checkpoint is not None:
            kept = stack.enter_context(Checkpoint(checkpoint, _settings(client, options)))
            scores = kept.resume(pairs)
        bar = stack.enter_context(
            tqdm(total=total, initial=len(scores), unit="pair", disable=not progress)
        )
        wait = _Wait(client, patience, tqdm.write if progress else lambda line: None)
        batches = _batches(pairs, batch_size, len(scores))
        results = _scored(client, batches, concurrency, wait, options)
        for batch, result in stack.enter_context(closing(results)):
            scores.extend(result)
            if kept is not None:
                kept.keep(batch.pairs)
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
    checkpoint: str | os.PathLike[str] | None = None,
    patience: float | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return a copy of the frame with a column of scores; index and other columns stay.

    query, document: the names of the columns that hold the texts.
    score: the name of the new column (float64); an older column of this name is replaced.
    batch_size, concurrency, progress, checkpoint, patience, options: as for `score_pairs`. Only
        the texts and their order must be those of the checkpoint, not the index.

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
        checkpoint=checkpoint,
        patience=patience,
        **options,
    )
    return scored


class _Wait:
    """Wait for a server that went away, for so many seconds after its last answer."""

    def __init__(self, client: ScoreClient, patience: float, say: Callable[[str], None]) -> None:
        self._client = client
        self._patience = patience
        self._say = say
        self._since: float | None = None

    def answered(self) -> None:
        """Count anew: the server works."""
        if self._since is not None:
            self._say("The server answers again.")
        self._since = None

    def helped(self, error: BaseException) -> bool:
        """Tell, after waiting if need be, whether the failed request should be sent again."""
        if not self._patience or not self._is_away(error):
            return False
        if self._since is None:
            self._since = time.monotonic()
            self._say(f"{error} Waiting up to {self._patience:g} seconds for the server.")
        while time.monotonic() < self._since + self._patience:
            time.sleep(LOOK_SECONDS)  # nothing tells us when a server comes back
            if self._client.health():
                return True
        return False

    def _is_away(self, error: BaseException) -> bool:
        if isinstance(error, (UnreachableError, ServerBusyError)):
            return True
        # The other faults may be the request's own, so these only count if the server is not well:
        # its engine died under the request, or it does not answer at all.
        suspect = isinstance(error, (ServerFaultError, RequestTimeoutError, ResponseError))
        return suspect and not self._client.health()


def _scored(
    client: ScoreClient,
    batches: Iterator[Batch],
    concurrency: int,
    wait: _Wait,
    options: dict[str, Any],
) -> Iterator[tuple[Batch, tuple[float, ...]]]:
    """Yield each batch with its scores, in the order of the batches.

    The threads are daemons of our own, not those of a ThreadPoolExecutor: Python waits for the
    latter when it ends, so an interrupt would hang on a server that no longer answers.
    """
    todo: SimpleQueue[Batch | None] = SimpleQueue()
    done: SimpleQueue[tuple[Batch, tuple[float, ...] | BaseException]] = SimpleQueue()
    stop = threading.Event()
    _ = client.model  # asked once here, or each run would ask anew
    twin = client.stopped_by(stop)

    def work() -> None:
        while (batch := todo.get()) is not None and not stop.is_set():
            queries, documents = zip(*batch.pairs, strict=True)
            try:
                done.put((batch, twin.score(list(queries), list(documents), **options).scores))
            except BaseException as error:
                done.put((batch, error))

    threads = [
        threading.Thread(target=work, name=f"score_pairs {number}", daemon=True)
        for number in range(concurrency)
    ]
    pending: deque[Batch] = deque()  # handed to a thread and not yet yielded
    scored: dict[int, tuple[float, ...]] = {}
    try:
        for thread in threads:
            thread.start()
        while True:
            for batch in islice(batches, 2 * concurrency - len(pending)):
                pending.append(batch)
                todo.put(batch)
            if not pending:
                return
            try:
                batch, outcome = done.get(timeout=LOOK_SECONDS)
            except Empty:
                # An interrupt that came right before `get` began to wait is only heeded here.
                continue
            if isinstance(outcome, BaseException):
                if wait.helped(outcome):
                    todo.put(batch)
                    continue
                raise outcome.at_rows(batch.rows) if isinstance(outcome, ScoreError) else outcome
            wait.answered()
            scored[batch.rows.start] = outcome
            while pending and pending[0].rows.start in scored:
                batch = pending.popleft()
                yield batch, scored.pop(batch.rows.start)
    finally:
        stop.set()
        for _ in threads:
            todo.put(None)


def _settings(client: ScoreClient, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the scores depend on besides the texts: the model and the options."""
    given = given_options(options)
    return {"model": client.model, **{name: given[name] for name in given.keys() - LABELS}}


def _batches(pairs: Iterator[Pair], batch_size: int, start: int) -> Iterator[Batch]:
    while batch := list(islice(pairs, batch_size)):
        rows = range(start, start + len(batch))
        yield Batch(rows, batch)
        start = rows.stop


def _checked_pairs(queries: Iterable[str], documents: Iterable[str]) -> Iterator[Pair]:
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


def _check_patience(value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise InputError(f"patience must be a number of seconds from 0 up, and is {value!r}.")


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
