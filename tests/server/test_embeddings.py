"""Embeddings against a real server: the packaged encoder, launched as a bi-encoder."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.errors import BadRequestError, NotFoundError
from helpers.server.model import base_encoder_path
from helpers.server.server import ScoreServer

QUESTION, PARIS, WHALES = (
    "What is the capital of France?",
    "The capital of France is Paris.",
    "Whales are mammals.",
)
# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.01


@pytest.fixture(scope="module")
def encoder():
    """Give a client of a server with the encoder, which ends with these tests."""
    flags = {"served-model-name": "minilm"}
    server = ScoreServer(base_encoder_path(), port=8001, vllm_flags=flags)
    with server, server.client() as client:
        yield client


def test_vectors_have_length_one_and_point_where_the_meaning_is(encoder):
    vectors = encoder.embed([QUESTION, PARIS, WHALES])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=CLOSE)
    near, far = vectors[1:] @ vectors[0]
    assert near > far + 0.5


def test_the_score_of_a_bi_encoder_is_the_cosine_of_its_vectors(encoder):
    vectors = encoder.embed([QUESTION, PARIS, WHALES])
    scores = encoder.score(QUESTION, [PARIS, WHALES]).scores
    assert scores == pytest.approx(vectors[1:] @ vectors[0], abs=CLOSE)


def test_many_vectors_keep_the_order_of_their_texts(encoder):
    texts = [f"{number} {'word ' * (number % 40)}" for number in range(300)]
    many = encoder.embed(texts)
    for row in (0, 39, 40, 299):
        assert many[row] @ encoder.embed(texts[row])[0] == pytest.approx(1, abs=CLOSE)


def test_a_text_that_is_too_long_is_refused_until_it_may_be_cut(encoder):
    with pytest.raises(BadRequestError, match="truncate_prompt_tokens=-1"):
        encoder.embed([PARIS, "word " * 1_000])
    assert encoder.embed([PARIS, "word " * 1_000], truncate_prompt_tokens=-1).shape == (2, 384)


def test_a_reranker_has_no_vectors_to_give_and_says_so(client):
    with pytest.raises(NotFoundError, match="a bi-encoder; a reranker is none"):
        client.embed(PARIS)
