"""What a reader takes along: scores in plain Python, and a service that never waits for long."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import requests
from fault_server import FaultServer, answer, changed, expected_score, good, silent

CLIENTS = Path(__file__).parents[2] / "deploy" / "clients"
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


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch):
    """Give a function that asks the service, in this process, which asks a server."""
    pytest.importorskip("fastapi", reason="FastAPI comes with vLLM, and this Python has none")
    from fastapi.testclient import TestClient

    monkeypatch.syspath_prepend(CLIENTS)

    def ask(url: str) -> dict:
        monkeypatch.setenv("SCORE_SERVER_URL", url)
        monkeypatch.setenv("SCORE_MODEL", "m")
        monkeypatch.setenv("RERANK_SECONDS", "0.3")
        sys.modules.pop("search_service", None)
        import search_service

        with TestClient(search_service.app) as client:
            found = {"query": "q", "documents": ["a", "b", "c"], "top_n": 2}
            return client.post("/search", json=found).json()

    yield ask
    sys.modules.pop("search_service", None)


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
