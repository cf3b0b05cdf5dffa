"""Read what a score server counts: snapshots of `/metrics`, and the work between two of them.

The only module that knows the names of vLLM's metrics. Source: vLLM 0.32,
`vllm/v1/metrics/loggers.py`; those of HTTP come from prometheus-fastapi-instrumentator.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from helpers.client import Transport
from helpers.errors import ApiError, InputError, NotFoundError, ResponseError, api_error_type
from helpers.tables import html_table, text_table

METRICS_PATH = "/metrics"
SECONDS = 10.0  # to wait for the answer, which needs no model

# vLLM calls a pair a request; these are the names by which `Metrics` holds their sums.
ENGINE = {
    "pairs": "vllm:request_success_total",
    "tokens": "vllm:prompt_tokens_total",
    "steps": "vllm:iteration_tokens_total_count",
    "latency": "vllm:e2e_request_latency_seconds_sum",
    "queue": "vllm:request_queue_time_seconds_sum",
    "inference": "vllm:request_inference_time_seconds_sum",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
}
HTTP = "http_requests_total"
ROUTES = frozenset({"/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"})
# How a pair may end without a score.
NOT_SCORED = frozenset({"abort", "error"})


@dataclass(frozen=True)
class Metrics:
    """What a server had counted at one moment; `later - earlier` is the work in between.

    Counters only grow, since the server started; gauges go up and down, and have no difference.

    Attributes:
        at: When it was asked, in seconds of `time.monotonic`.
        requests: Counter of requests that were answered on the scoring routes.
        pairs: Counter of pairs that were scored.
        tokens: Counter of tokens that were read.
        steps: Counter of times that the model ran.
        latency: Counter of seconds from arrival to score, summed over all pairs.
        queue: Counter of seconds, likewise: of those, in the queue.
        inference: Counter of seconds, likewise: of those, in the model's step.
        running: Gauge of pairs in the model, as the engine saw them after its last step.
        waiting: Gauge of pairs in the queue, likewise.
    """

    at: float
    requests: int
    pairs: int
    tokens: int
    steps: int
    latency: float
    queue: float
    inference: float
    running: int
    waiting: int

    def __sub__(self, earlier: Metrics) -> Work:
        """Return what the server did since an earlier snapshot.

        Raises:
            InputError: A counter fell: the two are in the wrong order, or the server was started
                anew in between.
        """
        names = ("requests", "pairs", "tokens", "steps", "latency", "queue", "inference")
        grown = {name: getattr(self, name) - getattr(earlier, name) for name in names}
        if self.at < earlier.at or min(grown.values()) < 0:
            raise InputError(
                "A counter of the server fell between the two snapshots. Subtract the earlier one "
                "from the later one. If the server was restarted in between, take a new first one."
            )
        return Work(seconds=self.at - earlier.at, **grown)


@dataclass(frozen=True, repr=False)
class Work:
    """What a server did between two snapshots; shows as a table.

    A quotient of nothing, such as pairs a step without any step, is NaN.

    Attributes:
        seconds: Between the snapshots. The other fields are differences of those of `Metrics`.

    >>> work = Work(2.0, 3, 96, 7680, 8, latency=24.0, queue=12.0, inference=9.6)
    >>> work.pairs_per_second, work.pairs_per_step, work.tokens_per_pair
    (48.0, 12.0, 80.0)
    """

    seconds: float
    requests: int
    pairs: int
    tokens: int
    steps: int
    latency: float
    queue: float
    inference: float

    @property
    def pairs_per_second(self) -> float:
        """Return how many pairs were scored in a second between the snapshots, idle ones too."""
        return _share(self.pairs, self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Return how many tokens were read in a second between the snapshots."""
        return _share(self.tokens, self.seconds)

    @property
    def pairs_per_step(self) -> float:
        """Return how many pairs the model read at a time."""
        return _share(self.pairs, self.steps)

    @property
    def tokens_per_pair(self) -> float:
        """Return how long a pair was."""
        return _share(self.tokens, self.pairs)

    def table(self) -> pd.DataFrame:
        """Return the numbers as texts, each with the metric that it comes from."""
        rows = [
            ("requests over HTTP", f"{self.requests:,}", HTTP),
            ("pairs scored", f"{self.pairs:,}", ENGINE["pairs"]),
            ("tokens read", f"{self.tokens:,}", ENGINE["tokens"]),
            ("steps of the model", f"{self.steps:,}", ENGINE["steps"]),
            ("pairs a step", _shown(self.pairs_per_step, ".1f"), "pairs / steps"),
            ("tokens a pair", _shown(self.tokens_per_pair, ".0f"), "tokens / pairs"),
            ("ms a pair, arrival to score", self._milliseconds(self.latency), ENGINE["latency"]),
            ("ms of these in the queue", self._milliseconds(self.queue), ENGINE["queue"]),
            ("ms of these in the model", self._milliseconds(self.inference), ENGINE["inference"]),
        ]
        return pd.DataFrame(rows, columns=["what", "value", "from"]).set_index("what")

    def __repr__(self) -> str:
        """Show the table for a terminal."""
        return text_table(self.table(), hide_index=False)

    def _repr_html_(self) -> str:
        return html_table(self.table(), hide_index=False)

    def _milliseconds(self, total: float) -> str:
        return _shown(1000 * _share(total, self.pairs), ".1f")


def read_metrics(url: str) -> Metrics:
    """Ask a vLLM server for its metrics and return a snapshot.

    Args:
        url: The server's own address; a reverse proxy should not pass on its metrics.

    Raises:
        UnreachableError: It is not there.
        RequestTimeoutError: It does not answer.
        ApiError: It refuses.
        ResponseError: The answer holds no metrics of vLLM.
    """
    transport = Transport(url, key="", timeout=SECONDS, retries=0)
    try:
        answer = transport.send_once("GET", METRICS_PATH, SECONDS)
        at = time.monotonic()
    finally:
        transport.close()
    if answer.error is not None:
        raise answer.error
    if answer.status != 200:
        raise _refusal(transport.url, answer.status)
    return parse(answer.content.decode("utf-8", "replace"), at)


def parse(text: str, at: float) -> Metrics:
    """Turn the text of `/metrics`, in the format of Prometheus, into a snapshot.

    Values are added up over all labels, such as engines; pairs that ended without a score are left
    out.

    Args:
        text: The answer.
        at: When it came, in seconds of `time.monotonic`.

    Raises:
        ResponseError: The text is of another kind, or one of the names is missing.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    seen = set()
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                seen.add(sample.name)
                if _counts(sample.name, sample.labels):
                    sums[sample.name] += sample.value
    except (ValueError, KeyError):
        raise ResponseError(
            f"Expected metrics in the format of Prometheus, got a text that starts with "
            f"{text[:80]!r}."
        ) from None
    missing = [name for name in ENGINE.values() if name not in seen]
    if missing:
        raise ResponseError(
            f"The metrics hold no {missing[0]}. Is this the address of a vLLM server, and was it "
            "started without --disable-log-stats?"
        )
    values: dict[str, Any] = {field: sums[name] for field, name in ENGINE.items()}
    for field in ("pairs", "tokens", "steps", "running", "waiting"):
        values[field] = int(values[field])
    return Metrics(at=at, requests=int(sums[HTTP]), **values)


def _counts(name: str, labels: dict[str, str]) -> bool:
    if name == HTTP:
        return labels.get("handler") in ROUTES and labels.get("status", "").startswith("2")
    return labels.get("finished_reason") not in NOT_SCORED


def _refusal(url: str, status: int) -> ApiError:
    kind = api_error_type(status)
    message = f"{url} answered {status} when asked for its metrics."
    if kind is NotFoundError:
        message += " Ask the vLLM server itself: a proxy in front of it may hide them."
    return kind(message, status=status, body="", url=url + METRICS_PATH)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _shown(number: float, form: str) -> str:
    return "–" if math.isnan(number) else format(number, form)
