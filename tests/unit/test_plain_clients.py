"""What a reader takes along: scores in plain Python, and a service that never waits for long."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from fault_server import FaultServer, answer, changed, expected_score, good, silent

CLIENTS = Path(__file__).parents[2] / "deploy" / "clients"
FOUND = {"query": "q", "documents": ["a", "b", "c"], "top_n": 2}
PAIRS = [(f"query {row % 3}", f"document {row}") for row in range(70)]
EXPECTED = [expected_score(*pair) for pair in PAIRS]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(CLIENTS)
    import plain_scores

    yield plain_scores.Scores
    sys.modules.pop("plain_scores")


def test_many_pairs_come_back_in_their_order(serve, plain) -> None:
    url = serve().url
    assert plain(url, "m", batch=8).score(PAIRS) == EXPECTED
    assert plain(url, "m").score([]) == []


def test_scores_that_arrive_in_another_order_are_put_right(serve, plain) -> None:
    backwards = changed(lambda body: body["data"].reverse())
    assert plain(serve(backwards).url, "m").score(PAIRS) == EXPECTED


def test_a_busy_server_is_asked_again(serve, plain) -> None:
    server = serve(answer(503, {}, Retry_After="0"), answer(429, {}, Retry_After="0"), good)
    assert plain(server.url, "m").score(PAIRS) == EXPECTED


def test_a_refusal_is_raised_and_not_repeated(serve, plain) -> None:
    server = serve(answer(400, {"error": {"message": "no"}}))
    with pytest.raises(requests.HTTPError, match="400"):
        plain(server.url, "m").score(PAIRS[:1])


DEADLINE = 0.3  # seconds


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch):
    """Give a function that makes a client of the service, which asks the server at an address."""
    pytest.importorskip("fastapi", reason="FastAPI comes with vLLM, and this Python has none")
    from fastapi.testclient import TestClient

    monkeypatch.syspath_prepend(CLIENTS)

    def make(url: str, seconds: float = DEADLINE) -> TestClient:
        monkeypatch.setenv("SCORE_SERVER_URL", url)
        monkeypatch.setenv("SCORE_MODEL", "m")
        monkeypatch.setenv("RERANK_SECONDS", str(seconds))
        sys.modules.pop("search_service", None)
        import search_service

        return TestClient(search_service.app)

    yield make
    sys.modules.pop("search_service", None)


@pytest.fixture
def search(service):
    """Give a function that asks the service once."""

    def ask(url: str) -> dict:
        with service(url) as client:
            return client.post("/search", json=FOUND).json()

    return ask


def ranked(handler, payload) -> None:
    handler.send_json(200, {"results": [{"index": 2}, {"index": 0}, {"index": 1}]})


def test_the_service_gives_the_servers_order(serve, search) -> None:
    assert search(serve(ranked).url) == {"order": [2, 0], "reranked": True, "why": ""}


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (answer(503, {}), "HTTPStatusError"),
        (answer(200, {"unexpected": 1}), "KeyError"),
        (silent, "Timeout"),
    ],
)
def test_without_a_ranking_in_time_the_order_stays_as_it_was(step, why, serve, search) -> None:
    said = search(serve(step).url)
    assert said["order"] == [0, 1] and not said["reranked"]
    assert why in said["why"]


def test_without_a_server_the_order_stays_as_it_was(search) -> None:
    with FaultServer() as server:
        url = server.url
    assert search(url) == {"order": [0, 1], "reranked": False, "why": "ConnectError"}


def ask_at_once(client, times: int = 96) -> list[dict]:
    """Send searches, 48 at a time: three for each connection that the service opens."""
    with ThreadPoolExecutor(48) as pool:
        return list(pool.map(lambda _: client.post("/search", json=FOUND).json(), range(times)))


def test_under_load_every_answer_of_a_healthy_server_is_used(serve, service) -> None:
    with service(serve(ranked).url, seconds=60) as client:
        said = ask_at_once(client)
    assert [one["order"] for one in said] == [[2, 0]] * 96
    assert all(one["reranked"] for one in said)


def test_under_load_a_silent_server_costs_every_caller_the_deadline_once(serve, service) -> None:
    with service(serve(silent).url) as client:
        began = time.monotonic()
        said = ask_at_once(client)
        took = time.monotonic() - began
    assert [one["order"] for one in said] == [[0, 1]] * 96
    assert not any(one["reranked"] for one in said)
    # Two rounds of 48 callers. The silent server itself would never have answered.
    assert 2 * DEADLINE <= took < 30 * DEADLINE
