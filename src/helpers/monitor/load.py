"""Measure a score server from where its callers stand: pairs a second, and how long they wait."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helpers.bulk import score_pairs
from helpers.client import ScoreClient, ScoreResult
from helpers.errors import InputError


@dataclass(frozen=True)
class Load:
    """Hold how a server did under a load.

    batch_size: pairs in one request. concurrency: requests in flight at a time.
    pairs: how many were scored.
    seconds: from the start of the first request to the end of the last.
    latencies: the seconds of each request, in the order in which they were sent.

    >>> load = Load(2, 1, 6, 1.5, (0.2, 0.4, 0.9))
    >>> load.pairs_per_second, load.requests, load.percentile(50)
    (4.0, 3, 0.4)
    """

    batch_size: int
    concurrency: int
    pairs: int
    seconds: float
    latencies: tuple[float, ...] = field(repr=False)

    @property
    def requests(self) -> int:
        """Return the number of requests."""
        return len(self.latencies)

    @property
    def pairs_per_second(self) -> float:
        """Return how many pairs were scored in a second."""
        return self.pairs / self.seconds

    @property
    def mean(self) -> float:
        """Return the mean latency of a request in seconds."""
        return float(np.mean(self.latencies))

    def percentile(self, share: float) -> float:
        """Return the seconds that so many per cent of the requests took at most.

        share: from 0 to 100. Between two requests it is interpolated, as `vllm bench serve` does,
        so with fewer than 100 requests the 99th percentile says little but how slow the slowest
        was.
        """
        if not 0 <= share <= 100:
            raise InputError(f"A percentile lies from 0 to 100, and {share!r} was asked for.")
        return float(np.percentile(self.latencies, share))

    def row(self) -> dict[str, float]:
        """Return the numbers by name, latencies in milliseconds, as a row for a DataFrame."""
        return {
            "batch_size": self.batch_size,
            "concurrency": self.concurrency,
            "requests": self.requests,
            "pairs": self.pairs,
            "pairs_per_second": self.pairs_per_second,
            "mean": 1000 * self.mean,
            "p50": 1000 * self.percentile(50),
            "p95": 1000 * self.percentile(95),
            "p99": 1000 * self.percentile(99),
        }


def measure_load(
    client: ScoreClient,
    queries: Iterable[str],
    documents: Iterable[str],
    *,
    batch_size: int = 1,
    concurrency: int = 1,
    **options: Any,
) -> Load:
    """Score N queries against N documents, each pair once, and return how that went.

    batch_size: pairs in one request. concurrency: requests in flight at a time.
    options: as for `ScoreClient.score`.

    The load is a closed loop: a new request is sent when an earlier one is answered, so a server
    that stalls is asked less. It keeps a server as busy as it can, so send it only to a server
    that is yours.

    Whatever fails is raised as `score_pairs` raises it, and no numbers come back. What the client
    itself sends again (`retries`) counts as one slow request; a client with `retries=0` makes an
    error of it.
    """
    watch = _Stopwatch(client)
    scores = score_pairs(
        watch,
        queries,
        documents,
        batch_size=batch_size,
        concurrency=concurrency,
        progress=False,
        checkpoint=None,  # what an earlier run scored is no speed, and
        patience=0.0,  # neither is waiting for a server that is away
        **options,
    )
    if not watch.times:
        raise InputError("There are no pairs to score: a load needs at least one.")
    times = sorted(watch.times)
    return Load(
        batch_size=batch_size,
        concurrency=concurrency,
        pairs=len(scores),
        seconds=max(end for _, end in times) - times[0][0],
        latencies=tuple(end - began for began, end in times),
    )


class _Stopwatch:
    """Stand for a client in `score_pairs`, and note when each request began and ended."""

    def __init__(self, client: ScoreClient) -> None:
        self._client = client
        self.times: list[tuple[float, float]] = []

    @property
    def model(self) -> str:
        return self._client.model

    def stopped_by(self, stop: threading.Event) -> _Stopwatch:
        twin = copy.copy(self)  # it shares the list of times
        twin._client = self._client.stopped_by(stop)
        return twin

    def score(self, queries: list[str], documents: list[str], **options: Any) -> ScoreResult:
        began = time.perf_counter()
        result = self._client.score(queries, documents, **options)
        self.times.append((began, time.perf_counter()))
        return result
