"""Load on a server: each pair sent once, at the asked size, and what is made of the times."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fault_server import answer, expected_score, good

from helpers.client.client import ScoreClient
from helpers.errors import BadRequestError, InputError, ServerBusyError, ServerFaultError
from helpers.monitor.load import Load, measure_load

TEN = Load(batch_size=4, concurrency=2, pairs=40, seconds=8.0, latencies=tuple(range(1, 11)))


def texts(count):
    return [f"query {row}" for row in range(count)], [f"document {row}" for row in range(count)]


def sent_pairs(server):
    return [
        pair
        for payload in server.payloads
        for pair in zip(payload["queries"], payload["documents"], strict=True)
    ]


@pytest.mark.parametrize(("batch_size", "concurrency"), [(1, 1), (1, 8), (4, 1), (4, 3), (64, 2)])
def test_each_pair_is_sent_once_in_requests_of_the_asked_size(
    serve, client_of, batch_size, concurrency
):
    server = serve()
    queries, documents = texts(22)
    load = measure_load(
        client_of(server), queries, documents, batch_size=batch_size, concurrency=concurrency
    )
    assert sorted(sent_pairs(server)) == sorted(zip(queries, documents, strict=True))
    sizes = [len(payload["documents"]) for payload in server.payloads]
    full, rest = divmod(22, batch_size)
    assert sorted(sizes, reverse=True) == [batch_size] * full + [rest] * (rest > 0)
    assert load.requests == len(sizes)
    assert (load.pairs, load.batch_size, load.concurrency) == (22, batch_size, concurrency)


def test_one_at_a_time_is_sent_in_the_order_of_the_pairs(serve, client_of):
    server = serve()
    queries, documents = texts(9)
    measure_load(client_of(server), queries, documents, batch_size=2)
    assert sent_pairs(server) == list(zip(queries, documents, strict=True))


def test_as_many_requests_are_in_flight_as_asked_for(serve, client_of):
    together = threading.Barrier(3, timeout=30)

    def step(handler, payload):
        together.wait()  # is passed only by three at once
        good(handler, payload)

    load = measure_load(client_of(serve(step)), *texts(12), batch_size=2, concurrency=3)
    assert load.requests == 6


def test_a_refusal_is_an_error_also_where_other_requests_are_in_flight(serve):
    """Bulk scoring would send it again later, and the numbers would not show it."""
    both = threading.Barrier(2, timeout=30)

    def refused(handler, payload):
        both.wait()
        handler.send_json(503, {})

    def late(handler, payload):
        both.wait()
        handler.server.released.wait()
        good(handler, payload)

    server = serve(refused, late)
    with ScoreClient(server.url, retries=0) as client, pytest.raises(ServerBusyError):
        measure_load(client, *texts(8), concurrency=2)


# -- at a given rate ----------------------------------------------------------------------------


def test_at_a_rate_requests_are_sent_whether_or_not_earlier_ones_were_answered(serve, client_of):
    all_at_once = threading.Barrier(6, timeout=60)

    def stalled(handler, payload):
        all_at_once.wait()  # no answer before all six are there
        good(handler, payload)

    load = measure_load(client_of(serve(stalled)), *texts(12), batch_size=2, rate=50, even=True)
    assert load.requests == 6
    # The first waited for the last, which was due 5 / 50 seconds later.
    assert load.latencies[0] >= 0.1
    assert load.seconds >= 0.1


def test_latencies_count_from_the_moment_at_which_a_request_was_due(serve, client_of):
    def slow(handler, payload):
        handler.server.released.wait(0.1)
        good(handler, payload)

    client = client_of(serve(slow))
    load = measure_load(client, *texts(8), rate=1000, even=True, concurrency=1)
    # One at a time: the eighth was due at once, and had to wait for seven others.
    assert load.latencies[7] >= 0.8 - 0.007
    assert list(load.latencies) == sorted(load.latencies)
    assert load.offered_rate == 1000
    assert load.achieved_rate < 10


def test_an_even_schedule_lasts_as_long_as_it_says(serve, client_of):
    load = measure_load(client_of(serve()), *texts(11), rate=np.float64(20), even=True)
    assert load.seconds >= 10 / 20
    assert load.offered_rate == 20
    assert load.concurrency == 128
    assert load.row()["offered_rate"] == 20


@pytest.mark.parametrize("seed", [3, 4])
def test_random_arrivals_are_a_poisson_process_of_the_seed(serve, client_of, seed):
    arrived = {}

    def noted(handler, payload):
        arrived[payload["documents"][0]] = time.monotonic()
        good(handler, payload)

    load = measure_load(client_of(serve(noted)), *texts(61), rate=100, seed=seed)
    due = np.cumsum(np.random.default_rng(seed).standard_exponential(60) / 100)
    start = arrived["document 0"] - load.latencies[0]  # or a little later
    for row, moment in enumerate(due, start=1):
        early = start + moment - arrived[f"document {row}"]
        assert early < 0.001
        assert -early < 0.001 + load.latencies[row] + load.latencies[0]
    assert load.seconds >= due[-1]


def test_a_rate_without_sense_is_refused(serve, client_of):
    server = serve()
    for rate in (0, -1, float("inf"), float("nan"), "5", True, np.bool_(1)):
        with pytest.raises(InputError, match="rate must be a number of requests a second above 0"):
            measure_load(client_of(server), *texts(2), rate=rate)
    assert server.payloads == []


def test_a_request_that_fails_ends_an_open_loop_too(serve, client_of):
    server = serve(answer(400, {}), good)
    with pytest.raises(BadRequestError):
        measure_load(client_of(server), *texts(500), rate=5)  # 100 seconds
    assert len(server.payloads) < 50


def test_latencies_are_what_the_clock_says_in_the_order_of_sending(serve, client_of, monkeypatch):
    ticks = iter([9, 10, 11, 11, 14, 15, 17])  # the first is that of the schedule
    monkeypatch.setattr(
        "helpers.monitor.load.time", SimpleNamespace(perf_counter=lambda: next(ticks))
    )
    load = measure_load(client_of(serve()), *texts(3))
    assert load.latencies == (1, 3, 2)
    assert load.seconds == 7


def test_options_reach_the_server(serve, client_of):
    server = serve()
    measure_load(client_of(server), *texts(2), use_activation=False)
    assert [payload["use_activation"] for payload in server.payloads] == [False, False]


def test_the_model_is_asked_for_before_the_clock_starts(serve, client_of):
    server = serve()
    measure_load(client_of(server), *texts(2))
    assert server.paths == ["/v1/models", "/score", "/score"]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadRequestError), (500, ServerFaultError)], ids=str
)
def test_one_failed_request_ends_the_measurement_with_its_error(serve, client_of, status, kind):
    server = serve(good, answer(status, {"error": {"message": "no"}}), good)
    with pytest.raises(kind) as caught:
        measure_load(client_of(server), *texts(6), batch_size=2)
    assert caught.value.rows == range(2, 4)


def test_a_request_that_was_sent_again_counts_once(serve, client_of):
    server = serve(answer(503, {}), good)
    load = measure_load(client_of(server), *texts(3))
    assert load.requests == 3
    assert len(server.payloads) == 4


def test_a_client_without_retries_makes_an_error_of_a_refusal(serve):
    server = serve(answer(503, {}), good)
    with ScoreClient(server.url, retries=0) as client, pytest.raises(ServerBusyError):
        measure_load(client, *texts(3))


def test_the_client_still_works_after_a_load_that_failed(serve, client_of):
    client = client_of(serve(answer(400, {}), good))
    with pytest.raises(BadRequestError):
        measure_load(client, *texts(2))
    assert client.score("q", "d").score == expected_score("q", "d")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"concurrency": 0},
        {"queries": [], "documents": []},
        {"queries": ["one"], "documents": []},
        {"queries": "one", "documents": ["two"]},
    ],
    ids=str,
)
def test_what_can_not_be_measured_is_refused_before_anything_is_sent(serve, client_of, wrong):
    server = serve()
    given = {"queries": ["one"], "documents": ["two"]} | wrong
    with pytest.raises(InputError):
        measure_load(client_of(server), **given)
    assert server.payloads == []


def test_rates_and_percentiles_come_from_the_times():
    assert TEN.pairs_per_second == 5
    assert TEN.mean == 5.5
    found = [TEN.percentile(share) for share in (0, 50, 95, 100)]
    assert found == pytest.approx([1, 5.5, 9.55, 10])


def test_a_row_has_latencies_in_milliseconds():
    assert TEN.row() == {
        "batch_size": 4,
        "concurrency": 2,
        "requests": 10,
        "pairs": 40,
        "pairs_per_second": 5,
        "mean": 5500,
        "p50": 5500,
        "p95": pytest.approx(9550),
        "p99": pytest.approx(9910),
    }


@pytest.mark.parametrize("share", [-1, 100.5, float("nan")])
def test_a_percentile_outside_0_to_100_is_refused(share):
    with pytest.raises(InputError, match="0 to 100"):
        TEN.percentile(share)
