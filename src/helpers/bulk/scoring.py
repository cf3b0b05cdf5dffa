"""Score many pairs: in batches, several requests at a time, in order, with retries."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice, zip_longest
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar, Unpack

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from helpers.bulk.checkpoint import Checkpoint, Pair
from helpers.client import (
    ScoreClient,
    ScoreOptions,
    column_of,
    given_options,
    positive_number,
    shorten_list,
    type_name,
    whole_number,
)
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
# After a refusal fewer requests are in flight; after so many answers, one more is tried again.
ANSWERS_BEFORE_MORE = 50
# Options that name a request or choose its turn; the scores are the same without them.
LABELS = {"priority", "request_id", "user"}

NO_ROOM = (
    "No other request of this run was in flight: if the server's queue (--max-num-queued-reqs) is "
    "shorter than a batch, use a smaller batch_size=; if others fill it, wait with patience=."
)

Result = TypeVar("Result")


class Batch(NamedTuple):
    """The pairs of one request, and which rows of the run they are, counted from 0."""

    rows: range
    queries: list[str]
    documents: list[str]


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
    **options: Unpack[ScoreOptions],
) -> np.ndarray:
    """Score N queries against N documents.

    Each pair gets exactly one score, even when a request had to be sent again. At most
    2 * `concurrency` batches are in memory at a time, and 8 bytes a pair for the scores. A server
    that refuses requests because it is full gets fewer of them at a time.

    Args:
        client: Its `timeout` and `retries` are those of each request.
        queries: N texts, in any iterable, generators too. What can be read twice is checked as a
            whole before anything is sent.
        documents: N texts, likewise.
        batch_size: Pairs in one request.
        concurrency: Requests in flight at a time.
        progress: Show a bar with the rate and, where the number of pairs is known, the time left.
        checkpoint: An SQLite file that keeps the scores while they come in. When a run was stopped,
            in whatever way, the same call goes on where it ended; of a killed run the last 2
            seconds are scored again. Further pairs may follow those of the first run; another
            model, other options or other texts are refused.
        patience: Seconds to wait for a server that is away, full or frozen, counted from the last
            answer. None means 600 with a checkpoint, and 0 without one.
        **options: As for `ScoreClient.score`.

    Returns:
        N scores (float64), in the order of the pairs.

    Raises:
        InputError: The texts are no texts or not as many, or the checkpoint is of another run.
        ScoreError: A batch failed and will not be sent again. No other is started then, and `rows`
            on the error says which pairs the batch held.
    """
    batch_size = whole_number("batch_size", batch_size)
    concurrency = whole_number("concurrency", concurrency)
    if patience is None:
        patience = 0.0 if checkpoint is None else PATIENCE
    patience = positive_number("patience", patience, zero=True)
    given = given_options(options)
    pairs, total = pair_up(queries, documents)
    if total == 0:
        return np.empty(0)
    scores, kept = array("d"), None
    with ExitStack() as stack:
        if checkpoint is not None:
            settings = {name: given[name] for name in given.keys() - LABELS}
            kept = Checkpoint(checkpoint, {"model": client.model, **settings})
            scores = stack.enter_context(kept).resume(pairs)
        bar = stack.enter_context(
            tqdm(total=total, initial=len(scores), unit="pair", disable=not progress)
        )
        wait = _Wait(client, patience, tqdm.write if progress else lambda line: None)

        def send(batch: Batch, stop: threading.Event) -> tuple[float, ...]:
            return client.score_checked(batch.queries, batch.documents, options, stop)

        _ = client.model  # asked once here, or each thread would ask
        batches = batched(pairs, batch_size, len(scores))
        results = in_order(send, batches, concurrency, wait.should_resend)
        for batch, result in stack.enter_context(closing(results)):
            wait.answered()
            scores.extend(result)
            if kept is not None:
                kept.keep(zip(batch.queries, batch.documents, strict=True))
            bar.update(len(result))
    return np.array(scores, dtype=np.float64)


def score_frame(
    client: ScoreClient,
    frame: pd.DataFrame,
    *,
    query: str = "query",
    document: str = "document",
    score: str = "score",
    **how: Any,
) -> pd.DataFrame:
    """Return a copy of the frame with a column of scores; index and other columns stay.

    Args:
        client: As for `score_pairs`.
        frame: N rows.
        query: The name of the column that holds the queries.
        document: The name of the column that holds the documents.
        score: The name of the new column (float64); an older column of this name is replaced.
        **how: `batch_size`, `concurrency`, `progress`, `checkpoint`, `patience` and the options, as
            for `score_pairs`. For a checkpoint, the texts and their order matter, not the index.

    Raises:
        InputError: A column is missing, or a cell is empty or no text; the message names the rows
            by their labels. Nothing was sent.
        ScoreError: As for `score_pairs`.
    """
    if not isinstance(frame, pd.DataFrame):
        cure = ": call its .to_pandas()" if hasattr(frame, "to_pandas") else ""
        raise InputError(f"frame must be a pandas DataFrame, not a {type_name(frame)}{cure}.")
    if score in (query, document):
        raise InputError(f"score={score!r} would replace the texts: give it another name.")
    queries, documents = _column(frame, query), _column(frame, document)
    scored = frame.copy()
    scored[score] = score_pairs(client, queries, documents, **how)
    return scored


def pair_up(queries: object, documents: object) -> tuple[Iterator[Pair], int | None]:
    """Return pairs of checked texts, and how many there are, if that is known.

    What can be read only once is checked while the pairs are taken; the rest now.
    """
    columns = column_of(queries, "queries"), column_of(documents, "documents")
    sizes = [len(column) for column in columns if isinstance(column, list)]
    if len(set(sizes)) == 2:
        raise InputError(
            f"{sizes[0]} queries and {sizes[1]} documents cannot be paired: both must be of equal "
            "length."
        )
    return _pairs(*columns), sizes[0] if sizes else None


def batched(pairs: Iterator[Pair], batch_size: int, start: int = 0) -> Iterator[Batch]:
    """Cut pairs into batches; `start` is the row of the first one."""
    while batch := list(islice(pairs, batch_size)):
        rows = range(start, start + len(batch))
        yield Batch(rows, [query for query, _ in batch], [document for _, document in batch])
        start = rows.stop


def in_order(
    send: Callable[[Batch, threading.Event], Result],
    batches: Iterator[Batch],
    concurrency: int,
    should_resend: Callable[[BaseException, int], bool],
) -> Generator[tuple[Batch, Result], None, None]:
    """Send batches in threads and yield each with its result, in the order of the batches.

    The threads are daemons of our own, not those of a ThreadPoolExecutor: Python waits for the
    latter when it ends, so an interrupt would hang on a server that no longer answers.

    Args:
        send: Sends one batch, and ends soon after the event is set.
        batches: Taken as they are needed, 2 * `concurrency` ahead of what was yielded.
        concurrency: How many are sent at a time.
        should_resend: Tells whether a batch is sent again, from its error and from how many others
            are in flight. If not, the error is raised, with the rows of the batch.
    """
    todo: SimpleQueue[Batch | None] = SimpleQueue()
    done: SimpleQueue[tuple[Batch, Result | BaseException]] = SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        while (batch := todo.get()) is not None and not stop.is_set():
            try:
                done.put((batch, send(batch, stop)))
            except BaseException as error:
                done.put((batch, error))

    threads = [
        threading.Thread(target=work, name=f"score_pairs {number}", daemon=True)
        for number in range(concurrency)
    ]
    begun: deque[Batch] = deque()  # not yet yielded
    waiting: deque[Batch] = deque()  # of these, not with a thread
    results: dict[int, Result] = {}
    # With a thread or on the way to one. The second half waits there, so that no thread ever does.
    in_flight, room = 0, 2.0 * concurrency
    try:
        for thread in threads:
            thread.start()
        while True:
            for batch in islice(batches, 2 * concurrency - len(begun)):
                begun.append(batch)
                waiting.append(batch)
            if not begun:
                return
            while waiting and in_flight < int(room):
                todo.put(waiting.popleft())
                in_flight += 1
            try:
                batch, outcome = done.get(timeout=LOOK_SECONDS)
            except Empty:
                # An interrupt that came right before `get` began to wait is only heeded here.
                continue
            in_flight -= 1
            if not isinstance(outcome, BaseException):
                room = min(2 * concurrency, room + 1 / ANSWERS_BEFORE_MORE)
                results[batch.rows.start] = outcome
            elif should_resend(outcome, in_flight):
                if isinstance(outcome, ServerBusyError):
                    room = max(1, min(in_flight, concurrency - 1))
                waiting.appendleft(batch)
            elif isinstance(outcome, ScoreError):
                alone = isinstance(outcome, ServerBusyError) and not in_flight
                raise outcome.at_rows(batch.rows, NO_ROOM if alone else "")
            else:
                raise outcome
            while begun and begun[0].rows.start in results:
                batch = begun.popleft()
                yield batch, results.pop(batch.rows.start)
    finally:
        stop.set()
        for _ in threads:
            todo.put(None)


class _Wait:
    """Wait for a server that went away, for so many seconds after its last answer."""

    def __init__(self, client: ScoreClient, patience: float, say: Callable[[str], None]) -> None:
        self._client = client
        self._patience = patience
        self._say = say
        self._since: float | None = None

    def answered(self) -> None:
        """Count from zero again: the server works."""
        if self._since is not None:
            self._say("The server answers again.")
        self._since = None

    def should_resend(self, error: BaseException, others: int) -> bool:
        """Tell, after waiting if need be, whether the failed request should be sent again."""
        if isinstance(error, ServerBusyError) and others:
            return True  # there will be room when one of them is done
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


def _pairs(queries: Iterable[str], documents: Iterable[str]) -> Iterator[Pair]:
    for row, (query, document) in enumerate(zip_longest(queries, documents)):
        if query is None or document is None:
            ended = ("queries", "documents") if query is None else ("documents", "queries")
            raise InputError(
                f"The {ended[0]} ended after {row} while the {ended[1]} went on: both must be of "
                "equal length."
            )
        yield query, document


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        there = shorten_list([repr(column) for column in frame.columns]) or "none"
        raise InputError(f"The frame has no column {name!r}. Its columns: {there}.")
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise InputError(f"The frame has {column.shape[1]} columns {name!r}: rename all but one.")
    wrong = [label for label, cell in column.items() if not isinstance(cell, str)]
    if wrong:
        empty = int(column.isna().sum())
        raise InputError(
            f"Column {name!r} holds no text in {len(wrong)} of {len(column)} rows, {empty} of them "
            f"empty (None or NaN), labelled {shorten_list([repr(label) for label in wrong])}. Drop "
            "or fill them first."
        )
    return column
