"""Measure a score server as its callers see it: pairs a second, and how long they wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Unpack

import numpy as np

from helpers.bulk import Batch, batched, in_order, pair_up
from helpers.client import ScoreClient, ScoreOptions, positive_number, whole_number
from helpers.errors import InputError

# With a given rate, so many requests are in flight at most. A server that keeps up never has as
# many; of one that does not, the requests wait here, and their latencies count that wait.
OPEN_CONCURRENCY = 128


@dataclass(frozen=True)
class Load:
    """What a server did under a load.

    Attributes:
        batch_size: Pairs in one request.
        concurrency: Requests in flight at a time, at most.
        pairs: How many were scored.
        seconds: From the start of the first request to the end of the last.
        latencies: The seconds of each request, in the order in which they were sent.
        offered_rate: Requests a second that were to be sent, whether or not earlier ones were
            answered; None for a closed loop.

    >>> load = Load(2, 1, 6, 1.5, (0.2, 0.4, 0.9))
    >>> load.pairs_per_second, load.requests, load.achieved_rate, load.percentile(50)
    (4.0, 3, 2.0, 0.4)
    """

    batch_size: int
    concurrency: int
    pairs: int
    seconds: float
    latencies: tuple[float, ...] = field(repr=False)
    offered_rate: float | None = None

    @property
    def requests(self) -> int:
        """Return the number of requests."""
        return len(self.latencies)

    @property
    def pairs_per_second(self) -> float:
        """Return how many pairs were scored in a second."""
        return self.pairs / self.seconds

    @property
    def achieved_rate(self) -> float:
        """Return how many requests were answered in a second."""
        return self.requests / self.seconds

    @property
    def mean(self) -> float:
        """Return the mean latency of a request in seconds."""
        return float(np.mean(self.latencies))

    def percentile(self, share: float) -> float:
        """Return the seconds that so many per cent of the requests took at most.

        Args:
            share: From 0 to 100. Between two requests it is interpolated, as `vllm bench serve`
                does, so with fewer than 100 requests the 99th percentile says little but how slow
                the slowest was.
        """
        if not 0 <= share <= 100:
            raise InputError(f"A percentile lies from 0 to 100, and {share!r} was asked for.")
        return float(np.percentile(self.latencies, share))

    def row(self) -> dict[str, float]:
        """Return the numbers by name, latencies in milliseconds, as a row for a DataFrame."""
        rates = {} if self.offered_rate is None else {"offered_rate": self.offered_rate}
        return {
            "batch_size": self.batch_size,
            "concurrency": self.concurrency,
            **rates,
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
    concurrency: int | None = None,
    rate: float | None = None,
    even: bool = False,
    seed: int = 0,
    **options: Unpack[ScoreOptions],
) -> Load:
    """Score N queries against N documents, each pair once, and return how long it took.

    Without `rate` the load is a closed loop: a new request is sent when an earlier one is answered,
    so a server that stalls is asked less, and what its callers would have waited is not seen. With
    `rate` it is an open one, as callers are who know nothing of each other: requests have a
    schedule, and each latency counts from the moment at which its request was due.

    It keeps a server as busy as it can, so send it only to a server that is yours. What the client
    itself sends again (`retries`) counts as one slow request; a client with `retries=0` makes an
    error of it.

    Args:
        client: What sends the requests.
        queries: N texts.
        documents: N texts.
        batch_size: Pairs in one request.
        concurrency: Requests in flight at a time. None means 1, and 128 with `rate`.
        rate: Requests a second. None sends each as soon as another one is answered.
        even: Whether they come at even distances; else at random ones (a Poisson process), as
            `vllm bench serve` sends them by default.
        seed: Fixes the random distances.
        **options: As for `ScoreClient.score`.

    Raises:
        InputError: The texts or the numbers make no load; nothing was sent.
        ScoreError: A request failed. No numbers come back then.
    """
    batch_size = whole_number("batch_size", batch_size)
    limit = 1 if rate is None else OPEN_CONCURRENCY
    limit = limit if concurrency is None else whole_number("concurrency", concurrency)
    gap = 0.0 if rate is None else 1 / positive_number("rate", rate, "requests a second")
    pairs, _ = pair_up(queries, documents)
    random = np.random.default_rng(seed)
    batches = list(batched(pairs, batch_size))
    if not batches:
        raise InputError("There are no pairs to score: a load needs at least one.")
    _ = client.model  # asked before the clock starts
    gaps = [gap if even else gap * random.standard_exponential() for _ in batches[1:]]
    start = time.perf_counter()
    due = dict(zip((batch.rows for batch in batches), accumulate(gaps, initial=start), strict=True))

    def send(batch: Batch, stop: threading.Event) -> tuple[float, float]:
        if rate is not None:
            stop.wait(due[batch.rows] - time.perf_counter())
        began = time.perf_counter() if rate is None else due[batch.rows]
        client.score_checked(batch.queries, batch.documents, options, stop)
        return began, time.perf_counter()

    sent = in_order(send, iter(batches), limit, lambda error, others: False)
    times = [began_and_ended for _, began_and_ended in sent]
    return Load(
        batch_size=batch_size,
        concurrency=limit,
        pairs=batches[-1].rows.stop,
        seconds=max(ended for _, ended in times) - min(began for began, _ in times),
        latencies=tuple(ended - began for began, ended in times),
        offered_rate=None if rate is None else float(rate),
    )
