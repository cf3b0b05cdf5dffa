"""The client against a real server."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pandas as pd
import pytest

from helpers.bulk.scoring import score_frame, score_pairs
from helpers.client.client import ScoreClient
from helpers.errors import BadRequestError, NotFoundError

FRANCE, BRAZIL = "What is the capital of France?", "What is the capital of Brazil?"
PARIS, BRASILIA = "The capital of France is Paris.", "The capital of Brazil is Brasilia."

# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.01

PLACES = ["Paris", "Brasilia", "Nairobi", "Ottawa", "Hanoi", "Lima", "Oslo", "Rabat"]
QUERIES = [f"What is the capital of {place}?" for place in ("France", "Brazil", "Kenya", "Canada")]
PAIRS = [
    (query, f"{place} is a city. " * (1 + row % 5))
    for row, (query, place) in enumerate((query, place) for query in QUERIES for place in PLACES)
]


def test_two_texts_give_one_score(client):
    result = client.score(FRANCE, PARIS)
    assert 0 <= result.score <= 1
    assert result.raw["data"] == [{"index": 0, "object": "score", "score": result.score}]


def test_one_query_ranks_many_documents(client):
    result = client.score(FRANCE, [BRASILIA, PARIS])
    assert result.ranked().documents == (PARIS, BRASILIA)


def test_lists_are_paired_one_to_one(client):
    result = client.score([BRAZIL, FRANCE], [BRASILIA, PARIS])
    singles = [client.score(BRAZIL, BRASILIA).score, client.score(FRANCE, PARIS).score]
    assert result.scores == pytest.approx(singles, abs=CLOSE)


def test_the_tokens_of_a_request_are_those_of_its_pairs(client):
    together = client.score(FRANCE, [BRASILIA, PARIS]).prompt_tokens
    apart = [client.score(FRANCE, document).prompt_tokens for document in (BRASILIA, PARIS)]
    assert together == sum(apart) > 0


def test_without_the_activation_the_score_is_a_logit(client):
    score = client.score(FRANCE, BRASILIA).score
    logit = client.score(FRANCE, BRASILIA, use_activation=False).score
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(score, abs=CLOSE)
    assert logit != pytest.approx(score, abs=CLOSE)


def test_a_pair_is_cut_to_the_tokens_asked_for(client):
    assert client.score(FRANCE, PARIS, truncate_prompt_tokens=10).prompt_tokens == 10


def test_a_document_is_cut_without_the_query(client):
    whole = client.score(FRANCE, PARIS * 20).prompt_tokens
    cut = client.score(FRANCE, PARIS * 20, max_tokens_per_doc=5).prompt_tokens
    assert 5 < cut < whole


def test_a_pair_that_is_too_long_is_refused_until_it_may_be_cut(client):
    long = "word " * 20_000
    with pytest.raises(BadRequestError, match="truncate_prompt_tokens=-1") as caught:
        client.score(FRANCE, long)
    assert caught.value.status == 400
    assert client.score(FRANCE, long, truncate_prompt_tokens=-1).prompt_tokens < 20_000


def test_an_unknown_model_is_told_what_is_served(server):
    client = ScoreClient(server.url, model="no-such-model")
    with client, pytest.raises(NotFoundError) as caught:
        client.score(FRANCE, PARIS)
    assert "no model 'no-such-model'" in str(caught.value)
    assert repr(server.model) in str(caught.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"truncation_side": "middle"}, "truncation_side: Input should be 'left' or 'right'"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens: Input should be greater"),
        ({"chat_template_kwargs": ["a"]}, "chat_template_kwargs: Input should be a valid dict"),
        ({"max_tokens_per_doc": -5}, "max_tokens_per_doc must be"),
        ({"max_tokens_per_doc": 1_000_000}, "must be less than max_model_len"),
    ],
)
def test_a_wrong_option_is_named_in_one_sentence(client, option, said):
    with pytest.raises(BadRequestError) as caught:
        client.score(FRANCE, PARIS, **option)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert "data_1" not in message
    assert caught.value.body["error"]["code"] == 400


def test_a_request_keeps_its_name(client):
    assert client.score(FRANCE, PARIS, request_id="mine", user="me").request_id == "score-mine"


def test_empty_and_odd_texts_are_scored(client):
    assert len(client.score("", ["", " ", "\x00", "東京 🗼", "\u202e", "a" * 300])) == 6


def test_the_server_tells_its_health_version_and_models(server, client):
    assert client.health() is True
    assert client.version().startswith("0.")
    assert server.model in client.models()
    assert client.model == server.model


def test_a_server_below_a_path_is_not_there(server):
    client = ScoreClient(f"{server.url}/below", model=server.model)
    with client, pytest.raises(NotFoundError, match="no route"):
        client.score(FRANCE, PARIS)


def test_bulk_scores_from_generators_are_those_of_single_requests_in_order(client):
    scores = score_pairs(
        client,
        (query for query, _ in PAIRS),
        (document for _, document in PAIRS),
        batch_size=5,
        progress=False,
    )
    singles = [client.score(query, document).score for query, document in PAIRS]
    assert scores.tolist() == pytest.approx(singles, abs=CLOSE)


def test_a_frame_is_scored_row_by_row(client):
    frame = pd.DataFrame(PAIRS, columns=["query", "document"]).sample(frac=1, random_state=0)
    scored = score_frame(client, frame, batch_size=7, progress=False)
    one_request = client.score(frame["query"], frame["document"])
    assert scored["score"].tolist() == pytest.approx(one_request.scores, abs=CLOSE)
    assert scored.index.equals(frame.index)


def test_a_bulk_run_ends_at_a_row_that_the_server_refuses(client):
    documents = [PARIS] * 50
    documents[23] = "word " * 20_000
    with pytest.raises(BadRequestError) as caught:
        score_pairs(client, [FRANCE] * 50, documents, batch_size=10, progress=False)
    assert caught.value.rows == range(20, 30)


@pytest.mark.parametrize("launch", [False, True])
def test_the_command_prints_the_three_forms(server, client, launch):
    # With --launch it finds the server that runs, and leaves it running.
    arguments, more = (["--launch"], {}) if launch else ([], {"SCORE_SERVER_URL": server.url})
    done = subprocess.run(
        [sys.executable, "-m", "helpers", *arguments],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert client.health()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Prompt when ") == 3
    assert done.stdout.count("Score Response:") == 3
    assert done.stdout.count("'score':") == 1 + 2 + 2
