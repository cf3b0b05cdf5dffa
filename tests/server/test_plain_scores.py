"""The program that a reader takes along, against a real server."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from helpers import ScoreClient

PLAIN = Path(__file__).parents[2] / "deploy" / "clients" / "plain_scores.py"
FRANCE = "What is the capital of France?"
PARIS, WHALES = "The capital of France is Paris.", "Whales are mammals. "
# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.02


@pytest.fixture
def plain(client: ScoreClient):
    return runpy.run_path(str(PLAIN))["Scores"](client.url, client.model, batch=8)


def test_plain_scores_are_those_of_the_client(client, plain) -> None:
    documents = [PARIS, WHALES, *(WHALES * size for size in range(1, 30))]
    scores = plain.score((FRANCE, document) for document in documents)
    assert scores == pytest.approx(client.score(FRANCE, documents).scores, abs=CLOSE)


def test_a_long_text_is_worth_its_best_chunk(client, plain) -> None:
    long = WHALES * 150 + PARIS + " " + WHALES * 150
    chunks = plain.chunks(long)
    assert len(client.tokenize(long)) > 1000 and len(chunks) > 5
    assert all(len(client.tokenize(chunk)) <= 200 for chunk in chunks)
    with_paris, without = plain.score_long(FRANCE, [long, WHALES * 300])
    assert with_paris == pytest.approx(max(client.score(FRANCE, chunks).scores), abs=CLOSE)
    assert with_paris > without


def test_no_token_is_lost_between_chunks(client, plain) -> None:
    text = " ".join(f"word{row}" for row in range(300))
    heard = set(" ".join(plain.chunks(text)).split())
    assert set(text.split()) <= heard
