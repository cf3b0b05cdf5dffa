"""Decide what a playground scores and shows: the logic of the widgets, without any widget.

Somebody types, and each key asks anew. `LatestRequest` waits until the typing pauses, scores in a
thread of its own, and lets only the newest request be seen: what it replaced is dropped, whenever
its answer comes. Whatever goes wrong becomes a message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import pandas as pd

from helpers.client import ScoreResult
from helpers.errors import InputError, RequestTimeoutError, ResponseError, ScoreError

# `ScoreClient.score` is such a function; so is whatever a test puts in its place.
Score = Callable[[str, list[str]], ScoreResult]

# A fast typist leaves 0.2 s between two keys: shorter, and half a word would be scored.
PAUSE = 0.4
# Between two batches the progress moves, and a request that was replaced ends.
BATCH_SIZE = 32


class Phase(Enum):
    """Name what a playground is doing."""

    EMPTY = "empty"  # nothing to score: the message says what is missing
    WAITING = "waiting"  # for a pause in the typing
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # the message says why


@dataclass(frozen=True)
class State:
    """Hold what there is to show.

    message: one sentence for the reader; never a traceback.
    result: the newest answer. It stays while a newer request waits, runs or has failed, and is
        None before the first answer and when there is nothing to score.
    scored, total: documents of the request that runs.
    """

    phase: Phase
    message: str
    result: ScoreResult | None = None
    scored: int = 0
    total: int = 0

    @property
    def busy(self) -> bool:
        """Tell whether a newer answer is on its way."""
        return self.phase in (Phase.WAITING, Phase.RUNNING)


@dataclass(frozen=True)
class _Request:
    query: str
    documents: tuple[str, ...]

    def missing(self) -> str:
        """Say what is still to be typed, or nothing."""
        if not self.query:
            return "Type a query."
        return "" if self.documents else "Type at least one document, one a line."


class LatestRequest:
    """Score what was asked last, and show each state on the way.

    score: gives the scores of one query and a list of documents, in their order.
    show: is called with each new `State`, in order, from the thread that brought it about. It must
        not wait for anything.
    pause: seconds without a new request before one is sent.
    batch_size: documents a call of `score`.
    lock: is held while a state is shown; give several requests one lock if they draw on one view.

    At most one call of `score` is under way for all that is typed: a request that comes meanwhile
    replaces the one that waits, and is sent when the call under way has come back.
    """

    def __init__(
        self,
        score: Score,
        show: Callable[[State], None] = lambda state: None,
        *,
        pause: float = PAUSE,
        batch_size: int = BATCH_SIZE,
        lock: threading.RLock | None = None,
    ) -> None:
        """Keep the functions; nothing is asked yet."""
        self._score, self._show = score, show
        self._pause, self._batch_size = pause, batch_size
        # Held while a state is shown, so that no older state can be shown after a newer one.
        self._changed = threading.Condition(lock or threading.RLock())
        self._state = State(Phase.EMPTY, "Type a query.")
        self._newest: _Request | None = None
        self._waiting: _Request | None = None
        self._answered: _Request | None = None
        self._due = 0.0
        self._working = False

    @property
    def state(self) -> State:
        """Return the state that was shown last."""
        with self._changed:
            return self._state

    def ask(self, query: str, documents: Iterable[str], *, again: bool = False) -> None:
        """Take a request in place of all earlier ones, and return at once.

        again: score it also if the newest answer is about the same texts.
        """
        with self._changed:
            if again:
                self._answered = None
            if (request := self._take(query, documents)) is None:
                return
            self._waiting, self._due = request, time.monotonic() + self._pause
            self._set(request, phase=Phase.WAITING, message="Waiting …")
            self._changed.notify_all()
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="playground", daemon=True).start()

    def ask_and_wait(self, query: str, documents: Iterable[str]) -> State:
        """Take a request in place of all earlier ones, and return when it is answered."""
        if (request := self._take(query, documents)) is not None:
            self._run(request)
        return self.state

    def wait(self, timeout: float = 120.0) -> State:
        """Return the state as soon as nothing is waiting or running.

        Raises `RequestTimeoutError` if that takes more than `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._working, timeout):
                raise RequestTimeoutError(
                    f"After {timeout:g} s the last request has no answer yet. Is the server busy "
                    "or gone? Its log tells."
                )
            return self._state

    def _take(self, query: str, documents: Iterable[str]) -> _Request | None:
        """Make a request the newest; return it if it has to be scored."""
        texts = (document.strip() for document in documents)
        request = _Request(query.strip(), tuple(text for text in texts if text))
        with self._changed:
            self._newest, self._waiting = request, None
            self._changed.notify_all()
            if message := request.missing():
                self._answered = None
                self._set(request, phase=Phase.EMPTY, message=message, result=None)
                return None
            if request == self._answered:  # only blanks changed, or a change was taken back
                self._set(request, phase=Phase.DONE, message=_summary(self._state.result))
                return None
            return request

    def _work(self) -> None:
        try:
            while (request := self._next()) is not None:
                self._run(request)
        except BaseException:
            with self._changed:
                self._working = False
                self._changed.notify_all()
            raise

    def _next(self) -> _Request | None:
        """Return the request that waits, after its pause; None ends the thread."""
        with self._changed:
            while self._waiting is not None:
                left = self._due - time.monotonic()
                if left <= 0:
                    request, self._waiting = self._waiting, None
                    return request
                self._changed.wait(left)
            self._working = False
            self._changed.notify_all()
            return None

    def _run(self, request: _Request) -> None:
        parts: list[ScoreResult] = []
        total = len(request.documents)
        try:
            for start in range(0, total, self._batch_size):
                shown = self._set(
                    request,
                    phase=Phase.RUNNING,
                    message=f"Scoring {_count(total)} …",
                    scored=start,
                    total=total,
                )
                if not shown:
                    return
                batch = list(request.documents[start : start + self._batch_size])
                parts.append(_checked(self._score(request.query, batch), batch))
        except Exception as error:  # from a function that we do not know: all of it is shown
            self._set(request, phase=Phase.FAILED, message=message_of(error))
            return
        result = joined(parts)
        with self._changed:
            if self._set(request, phase=Phase.DONE, message=_summary(result), result=result):
                self._answered = request

    def _set(self, request: _Request, **changes: object) -> bool:
        """Show a new state of a request, unless a newer one has taken its place."""
        with self._changed:
            if request is not self._newest:
                return False
            self._state = replace(self._state, **{"scored": 0, "total": 0} | changes)
            self._show(self._state)
            return True


def message_of(error: Exception) -> str:
    """Say what went wrong in words for a reader.

    >>> message_of(KeyError("scores"))
    "KeyError: 'scores'"
    >>> message_of(InputError("A document is None."))
    'A document is None.'
    """
    if isinstance(error, ScoreError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def joined(parts: Sequence[ScoreResult]) -> ScoreResult:
    """Put the results of consecutive batches together; `raw` stays only if there is one batch."""
    if len(parts) == 1:
        return parts[0]
    return ScoreResult(
        queries=tuple(query for part in parts for query in part.queries),
        documents=tuple(document for part in parts for document in part.documents),
        scores=tuple(score for part in parts for score in part),
        model=parts[-1].model,
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        request_id=parts[-1].request_id,
    )


def moves(before: ScoreResult, after: ScoreResult) -> dict[str, int]:
    """Return by how many places each document of `after` climbed; minus means that it fell.

    Documents that `before` does not have are left out; of equal documents the best place counts.

    >>> one = ScoreResult(("q",) * 2, ("Lyon.", "Paris."), (0.1, 0.9), "m", 14)
    >>> two = ScoreResult(("p",) * 2, ("Lyon.", "Paris."), (0.8, 0.2), "m", 14)
    >>> moves(one, two)
    {'Lyon.': 1, 'Paris.': -1}
    """
    old, new = _places(before), _places(after)
    return {document: old[document] - place for document, place in new.items() if document in old}


def select_rows(
    frame: pd.DataFrame,
    *,
    contains: str = "",
    sort_by: str | None = None,
    ascending: bool = False,
    score: str = "score",
    between: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Return the rows of a table that somebody asked for, in the order asked for.

    contains: keep rows in which a cell holds this text, in upper or lower case.
    sort_by: the name of a column; equal cells keep their order. None sorts nothing.
    between: keep rows whose `score` lies from the first to the second number, both included.

    Raises `InputError` if there is no column `sort_by`, or none named `score` to compare.
    """
    for name in (sort_by, score if between else None):
        if name is not None and name not in frame.columns:
            columns = ", ".join(repr(column) for column in frame.columns)
            raise InputError(f"The table has no column {name!r}. Its columns: {columns}.")
    rows = pd.Series(True, index=frame.index)
    if wanted := contains.strip().casefold():
        texts = frame.astype(str).map(str.casefold)
        rows &= texts.apply(lambda column: column.str.contains(wanted, regex=False)).any(axis=1)
    if between:
        rows &= frame[score].between(*between)
    found = frame[rows]
    if sort_by is not None:
        found = found.sort_values(sort_by, ascending=ascending, kind="stable")
    return found


def _places(result: ScoreResult) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, document in enumerate(result.ranked().documents, start=1):
        places.setdefault(document, place)
    return places


def _checked(result: object, documents: list[str]) -> ScoreResult:
    if not isinstance(result, ScoreResult):
        raise ResponseError(
            "The function that was given to this view must return a ScoreResult, and returned a "
            f"{type(result).__name__}. Give it client.score."
        )
    if len(result) != len(documents):
        raise ResponseError(f"{_count(len(documents))} came back with {len(result)} scores.")
    return result


def _summary(result: ScoreResult | None) -> str:
    if result is None:
        return ""
    return f"{_count(len(result))} scored by {result.model} ({result.prompt_tokens:,} tokens)"


def _count(documents: int) -> str:
    return "1 document" if documents == 1 else f"{documents:,} documents"
