"""Ray Serve with the application that readers copy: it answers as vLLM, and ends with its process.

The updates and the deaths of replicas are in notebook 14, which counts what comes of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from helpers import corpus, score_pairs
from helpers.client import ScoreClient
from helpers.server import OFFLINE_MODEL_NAME, offline_model_path
from helpers.server.server import ScoreServer

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="no Ray here: make setup EXTRAS=scale"
    ),
    pytest.mark.usefixtures("kills_wanted"),
]

APP = Path(__file__).parents[2] / "deploy" / "ray" / "score_app.py"
CLOSE = 0.02  # bfloat16 keeps eight bits, and what else is in a batch changes the rounding
# What a kernel does in notebook 14.
KERNEL = """
import runpy, sys, time
from helpers.bulk import start_ray

app, model, name, port, dtype = sys.argv[1:]
start_ray()
from ray import serve

flags = ["--dtype", dtype, "--enforce-eager", "--distributed-executor-backend", "uni"]
env = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
env |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
scores = runpy.run_path(app)["VllmScores"].options(num_replicas=1, autoscaling_config=None)
serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
serve.run(scores.bind(model, name, flags, env), name="scores")
print("ready", flush=True)
time.sleep(3600)
"""
NAME = {"model": OFFLINE_MODEL_NAME}
# Each with the answer's status, so that no two wrong answers pass for equal ones.
REQUESTS: list[tuple[str, Any, int]] = [
    ("/score", {**NAME, "queries": "capital of France", "documents": ["Paris", "Rome"]}, 200),
    ("/v1/score", {**NAME, "text_1": "capital of France", "text_2": ["Paris", "Rome"]}, 200),
    ("/rerank", {**NAME, "query": "capital of France", "documents": ["Rome", "Paris"]}, 200),
    ("/v2/rerank", {**NAME, "query": "capital", "documents": ["a", "b"], "top_n": 1}, 200),
    ("/score", {"model": "another", "queries": "a", "documents": ["b"]}, 404),
    ("/score", {**NAME, "queries": "a", "documents": []}, 400),
    ("/score", {**NAME, "queries": ["a", "b"], "documents": ["a", "b", "c"]}, 400),
    ("/score", {**NAME, "queries": 7}, 400),
    ("/tokenize", {**NAME, "prompt": "Paris"}, 200),
    ("/no/such/route", {}, 404),
]


@dataclass
class Kernel:
    """A process that holds Ray, and where its deployment answers."""

    process: subprocess.Popen[str]
    url: str


@pytest.fixture(scope="module")
def kernel(kills_wanted: None, server: ScoreServer) -> Iterator[Kernel]:
    """Give a kernel whose deployment is ready; kill it, and what is below it, at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dtype = server.choices.dtype.value
    words = [str(APP), str(offline_model_path()), OFFLINE_MODEL_NAME, str(port), str(dtype)]
    process = subprocess.Popen(
        [sys.executable, "-c", KERNEL, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if line == "ready\n"), None)
        assert said, "the kernel ended before its deployment was ready"
        yield Kernel(process, f"http://127.0.0.1:{port}")
    finally:
        below = (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        )
        process.kill()
        process.wait()
        for each in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def plain(answer: Any) -> Any:
    """Return an answer without what differs from call to call, numbers rounded to a digit."""
    if isinstance(answer, dict):
        kept = {name: value for name, value in answer.items() if name not in ("id", "created")}
        return {name: plain(value) for name, value in kept.items()}
    if isinstance(answer, list):
        return [plain(value) for value in answer]
    return pytest.approx(answer, abs=CLOSE) if isinstance(answer, float) else answer


@pytest.mark.parametrize(("route", "body", "status"), REQUESTS)
def test_each_request_is_answered_as_by_vllm(kernel, server, route, body, status) -> None:
    ours, theirs = (requests.post(url + route, json=body) for url in (kernel.url, server.url))
    assert ours.status_code == theirs.status_code == status
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert ours.json() == plain(theirs.json()) | {
        name: ours.json()[name] for name in ("id", "created") if name in ours.json()
    }


def test_the_client_and_its_health_check_work_unchanged(kernel, server) -> None:
    documents = corpus.passages("geography")["text"].head(64).tolist()
    queries = ["What is the capital of France?"] * len(documents)
    with ScoreClient(kernel.url) as client, server.client() as expected:
        assert client.health() and client.models() == [OFFLINE_MODEL_NAME]
        assert client.version() == expected.version()
        scores = score_pairs(client, queries, documents, progress=False)
        wanted = score_pairs(expected, queries, documents, progress=False)
    assert np.abs(scores - wanted).max() < CLOSE


def test_the_address_stands_for_a_server_of_the_notebooks(kernel, monkeypatch) -> None:
    monkeypatch.setenv("SCORE_SERVER_URL", kernel.url)
    with ScoreServer().start().client() as client:
        assert client.url == kernel.url
        result = client.score("What is the capital of France?", "The capital of France is Paris.")
    assert result.score > 0.9


def test_a_killed_kernel_leaves_no_process(kernel) -> None:
    below = psutil.Process(kernel.process.pid).children(recursive=True)
    titles = [" ".join(each.cmdline()) for each in below]
    assert any("ServeReplica" in title for title in titles), titles
    assert any("EngineCore" in title for title in titles), titles
    kernel.process.kill()
    kernel.process.wait()
    _, left = psutil.wait_procs(below, timeout=120)
    assert not left, [" ".join(each.cmdline()) for each in left]
    with pytest.raises(requests.ConnectionError):
        requests.get(kernel.url, timeout=5)
