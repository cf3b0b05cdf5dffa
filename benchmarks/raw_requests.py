"""Score pairs with `requests` and a thread pool alone: what a careful person writes by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from timing import Pair, Scorer
from workload import requests_of

SECONDS = 600  # for one request: a peer may be slow


def score_loops(url: str, model: str, batch_size: int, concurrency: int) -> dict[str, Scorer]:
    """Return loops over vLLM's /score that send the same requests with different sessions."""
    shared = _session(concurrency)
    own = threading.local()

    def of_this_thread() -> requests.Session:
        if not hasattr(own, "session"):
            own.session = _session(1)
        return own.session

    def score(session_of: Callable[[], requests.Session], pairs: Sequence[Pair]) -> list[float]:
        def send(batch: Sequence[Pair]) -> list[float]:
            queries, documents = zip(*batch, strict=True)
            body = {"model": model, "queries": queries, "documents": documents}
            answer = _post(session_of(), f"{url}/score", body)
            return [entry["score"] for entry in answer["data"]]

        batches = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
        with ThreadPoolExecutor(concurrency) as pool:
            return [value for part in pool.map(send, batches) for value in part]

    return {
        "one session": partial(score, lambda: shared),
        "a session a thread": partial(score, of_this_thread),
    }


def rerank_loop(url: str, model: str, batch_size: int, concurrency: int) -> Scorer:
    """Return a loop over a /rerank route, which takes one query a request."""
    session = _session(concurrency)

    def send(request: tuple[str, list[str]]) -> None:
        query, documents = request
        body = {"model": model, "query": query, "documents": documents}
        answer = _post(session, f"{url}/rerank", body)
        if len(answer["results"]) != len(documents):
            raise ValueError(f"{len(documents)} documents got {len(answer['results'])} scores")

    def score(pairs: Sequence[Pair]) -> None:
        with ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(send, requests_of(pairs, batch_size)))

    return score


def _session(connections: int) -> requests.Session:
    session = requests.Session()
    # Loopback alone: no proxy of the environment is asked.
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=connections))
    return session


def _post(session: requests.Session, url: str, body: dict[str, Any]) -> dict[str, Any]:
    response = session.post(url, json=body, timeout=SECONDS)
    response.raise_for_status()
    return response.json()
