"""Decide what a playground scores and shows: the logic of the widgets, without any widget.

Each key that somebody types asks for new scores. `LatestRequest` waits until the typing pauses,
scores in a thread of its own, and lets only the newest request be seen: what it replaced is
dropped, whenever its answer comes. Whatever goes wrong becomes a message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from typing import Any

from helpers.client import ScoreResult
from helpers.errors import RequestTimeoutError, ResponseError, ScoreError

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

    Attributes:
        phase: What is being done.
        message: One sentence for the reader; never a traceback.
        result: The newest answer. It stays while a newer request waits, runs or has failed, and is
            None before the first answer and when there is nothing to score.
        scored: How many documents of the request that runs have a score.
        total: How many it has.
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


class LatestRequest:
    """Score what was asked last, and show each state on the way.

    At most one call of `score` is under way for all that is typed: a request that comes meanwhile
    is sent when that call has come back, unless a newer one has replaced it by then.

    Args:
        score: Gives the scores of one query and a list of documents, in their order.
        show: Is called with each new `State`, in order, from the thread that brought it about. It
            must not wait for anything.
        pause: Seconds without a new request before one is sent.
        batch_size: Documents a call of `score`.
        lock: Is held while a state is shown; requests that draw on one view share one.
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
        self._one_call = threading.Lock()
        self._threads = 0
        self._state = State(Phase.EMPTY, "Type a query.")
        self._newest: _Request | None = None
        self._answered: _Request | None = None

    @property
    def state(self) -> State:
        """Return the state that was shown last."""
        with self._changed:
            return self._state

    def ask(self, query: str, documents: Iterable[str], *, again: bool = False) -> None:
        """Take a request in place of all earlier ones, and return at once.

        Args:
            query: Blanks around it do not count.
            documents: Empty ones do not count.
            again: Whether to ask although the newest answer is about the same texts.
        """
        with self._changed:
            if again:
                self._answered = None
            if (request := self._accept(query, documents)) is not None:
                self._set(request, phase=Phase.WAITING, message="Waiting …")
                self._threads += 1
                threading.Thread(target=self._work, args=[request], daemon=True).start()

    def ask_and_wait(self, query: str, documents: Iterable[str]) -> State:
        """Take a request in place of all earlier ones, and return when it is answered."""
        if (request := self._accept(query, documents)) is not None:
            self._run(request)
        return self.state

    def wait(self, timeout: float = 120.0) -> State:
        """Return the state as soon as nothing is waiting or running.

        Raises:
            RequestTimeoutError: That takes more than `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._threads, timeout):
                raise RequestTimeoutError(
                    f"After {timeout:g} s the last request has no answer yet. Is the server busy "
                    "or gone? Its log tells."
                )
            return self._state

    def _accept(self, query: str, documents: Iterable[str]) -> _Request | None:
        """Make a request the newest; return it if it has to be scored."""
        texts = (document.strip() for document in documents)
        request = _Request(query.strip(), tuple(text for text in texts if text))
        with self._changed:
            self._newest = request
            self._changed.notify_all()
            if not (request.query and request.documents):
                missing = "at least one document, one a line" if request.query else "a query"
                self._answered = None
                self._set(request, phase=Phase.EMPTY, message=f"Type {missing}.", result=None)
            elif request == self._answered:  # only blanks changed, or a change was taken back
                self._set(request, phase=Phase.DONE, message=_summary(self._state.result))
            else:
                return request
        return None

    def _work(self, request: _Request) -> None:
        try:
            with self._changed:
                self._changed.wait_for(lambda: request is not self._newest, self._pause)
            self._run(request)
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _run(self, request: _Request) -> None:
        """Score a request batch by batch, unless a newer one has taken its place."""
        parts: list[ScoreResult] = []
        total = len(request.documents)
        message = f"Scoring {_count(total)} …"
        with self._one_call:
            try:
                for start in range(0, total, self._batch_size):
                    running = {"phase": Phase.RUNNING, "scored": start, "total": total}
                    if not self._set(request, message=message, **running):
                        return
                    batch = list(request.documents[start : start + self._batch_size])
                    parts.append(_checked(self._score(request.query, batch), batch))
            except Exception as error:  # from a function that we do not know: all of it is shown
                self._set(request, phase=Phase.FAILED, message=message_of(error))
                return
        result = _joined(parts)
        with self._changed:
            if self._set(request, phase=Phase.DONE, message=_summary(result), result=result):
                self._answered = request

    def _set(self, request: _Request, **changes: Any) -> bool:
        """Show a new state of a request, unless a newer one has taken its place."""
        with self._changed:
            if request is not self._newest:
                return False
            self._state = replace(self._state, **{"scored": 0, "total": 0} | changes)
            self._show(self._state)
            return True


def message_of(error: Exception) -> str:
    """Say what went wrong in words for a reader: `KeyError: 'scores'`, or an error's own words."""
    return str(error) if isinstance(error, ScoreError) else f"{type(error).__name__}: {error}"


def moves(before: ScoreResult, after: ScoreResult) -> dict[str, int]:
    """Return by how many places each document of `after` climbed; minus means that it fell.

    Documents that `before` does not have are left out; of equal documents the best place counts.
    """
    old, new = (
        {text: place for place, text in reversed([*enumerate(result.ranked().documents)])}
        for result in (before, after)
    )
    return {document: old[document] - place for document, place in new.items() if document in old}


def _joined(parts: Sequence[ScoreResult]) -> ScoreResult:
    """Put the results of consecutive batches together; `raw` stays only if there is one batch."""
    if len(parts) == 1:
        return parts[0]
    tokens = [part.prompt_tokens for part in parts]
    return replace(
        parts[-1],
        queries=tuple(chain(*(part.queries for part in parts))),
        documents=tuple(chain(*(part.documents for part in parts))),
        scores=tuple(chain(*(part.scores for part in parts))),
        prompt_tokens=None if None in tokens else sum(filter(None, tokens)),
        raw={},
    )


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
    tokens = "?" if result.prompt_tokens is None else f"{result.prompt_tokens:,}"
    return f"{_count(len(result))} scored by {result.model} ({tokens} tokens)"


def _count(documents: int) -> str:
    return "1 document" if documents == 1 else f"{documents:,} documents"
