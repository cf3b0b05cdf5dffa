"""ScoreClient against a real Infinity server, which serves the offline reranker too.

It runs in the environment that the benchmarks use. Where that is not built the tests are skipped:
`python scripts/side_environment.py infinity` builds it, with Python 3.11 or 3.12.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from helpers import BadRequestError, InputError, ScoreClient
from helpers.server import OFFLINE_MODEL_NAME, offline_model_path

PROGRAM = Path(__file__).parents[2] / ".envs" / "infinity" / ".venv" / "bin" / "infinity_emb"
START_SECONDS = 180
QUERY = "What is the capital of France?"
DOCUMENTS = [
    "The capital of Brazil is Brasilia.",
    "Whales are mammals.",
    "The capital of France is Paris.",
    "Paris lies on the Seine.",
]
# vLLM may compute in bfloat16, Infinity here in float32.
CLOSE = 0.02


@pytest.fixture(scope="module")
def infinity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an Infinity server."""
    if not PROGRAM.exists():
        pytest.skip("Infinity is not installed here: scripts/side_environment.py infinity")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["v2", "--model-id", str(offline_model_path())]
    words += ["--served-model-name", OFFLINE_MODEL_NAME, "--dtype", "float32"]
    words += ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--no-model-warmup"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path_factory.mktemp("infinity") / "server.log"
    quiet = {**os.environ, "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, *words], env=quiet, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(url):
            assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.3)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture
def asked(infinity: str) -> Iterator[ScoreClient]:
    with ScoreClient(infinity, model=OFFLINE_MODEL_NAME, dialect="infinity") as client:
        yield client


def test_it_ranks_and_scores_as_vllm_does(asked, client) -> None:
    if client.model != OFFLINE_MODEL_NAME:
        pytest.skip("the server of these tests serves another model")
    ours, theirs = client.rerank(QUERY, DOCUMENTS), asked.rerank(QUERY, DOCUMENTS)
    assert theirs.indices == ours.indices
    assert theirs.scores == pytest.approx(ours.scores, abs=CLOSE)
    assert theirs.documents == ours.documents


def test_the_best_only_come_back(asked) -> None:
    best = asked.rerank(QUERY, DOCUMENTS, top_n=2)
    assert best.indices == asked.rerank(QUERY, DOCUMENTS).indices[:2]


def test_logits_instead_of_scores(asked) -> None:
    scores = np.array(asked.rerank(QUERY, DOCUMENTS).scores)
    logits = np.array(asked.rerank(QUERY, DOCUMENTS, use_activation=False).scores)
    assert logits.min() < 0
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(scores, abs=1e-3)


def test_a_long_text_is_cut_by_the_server(asked) -> None:
    long = "Whales are mammals. " * 600
    found = asked.rerank(QUERY, [long, DOCUMENTS[2]], truncate_prompt_tokens=-1)
    assert found.indices == (1, 0)


def test_what_it_lacks_is_an_error_of_ours(asked) -> None:
    with pytest.raises(InputError, match="nothing like max_tokens_per_doc=10"):
        asked.rerank(QUERY, DOCUMENTS, max_tokens_per_doc=10)
    with pytest.raises(InputError, match="Only a vLLM server has /score"):
        asked.score(QUERY, DOCUMENTS)


def test_what_it_refuses_is_named(asked) -> None:
    with pytest.raises(BadRequestError, match="at most 122880 characters"):
        asked.rerank(QUERY, ["whales " * 20_000])


def test_a_server_of_one_model_does_not_look_at_the_name(infinity, asked) -> None:
    """Unlike vLLM, which answers 404: a wrong name in the settings goes unnoticed."""
    with ScoreClient(infinity, model="nobody", dialect="infinity") as other:
        ranked = other.rerank(QUERY, DOCUMENTS)
    assert ranked.scores == pytest.approx(asked.rerank(QUERY, DOCUMENTS).scores, abs=1e-4)


def test_the_names_in_notebook_17_are_those_of_its_own_description(infinity) -> None:
    described = requests.get(f"{infinity}/openapi.json", timeout=60).json()
    request, answer, one = (
        set(described["components"]["schemas"][name]["properties"])
        for name in ("RerankInput", "ReRankResult", "_ReRankObject")
    )
    assert "/rerank" in described["paths"]
    assert {"query", "documents", "model", "top_n", "return_documents", "raw_scores"} <= request
    assert "results" in answer
    assert {"index", "relevance_score"} <= one
