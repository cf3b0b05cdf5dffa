"""Reranking against a real server: the client's view, and what the routes really do."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import requests

from helpers.client.client import ScoreClient
from helpers.errors import BadRequestError, NotFoundError

QUERY = "What is the capital of France?"
PARIS, BRASILIA = "The capital of France is Paris.", "The capital of Brazil is Brasilia."
DOCUMENTS = [BRASILIA, "Whales are mammals.", PARIS, "Paris lies on the Seine."]

# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.01


@pytest.fixture
def send(server):
    """Give a function that posts a rerank request by hand."""

    def post(route="/rerank", **fields):
        payload = {"model": server.model, "query": QUERY, "documents": DOCUMENTS, **fields}
        return requests.post(f"{server.url}{route}", json=payload, timeout=240)

    return post


def ranking(response):
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    return [entry["index"] for entry in results], [entry["relevance_score"] for entry in results]


def is_falling(scores):
    return all(left >= right for left, right in pairwise(scores))


def test_the_best_document_comes_first_with_its_position(client):
    result = client.rerank(QUERY, DOCUMENTS)
    assert (result.documents[0], result.indices[0]) == (PARIS, 2)
    assert sorted(result.indices) == [0, 1, 2, 3]
    assert [DOCUMENTS[index] for index in result.indices] == list(result.documents)
    assert is_falling(result.scores)
    assert all(0 <= score <= 1 for score in result.scores)


def test_the_server_itself_sorts(send):
    indices, scores = ranking(send())
    assert indices[0] == 2
    assert is_falling(scores)


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (2, 2), (4, 4), (99, 4), (0, 4), (None, 4)])
def test_top_n_keeps_the_head_of_the_ranking(client, top_n, count):
    whole, cut = client.rerank(QUERY, DOCUMENTS), client.rerank(QUERY, DOCUMENTS, top_n=top_n)
    assert len(cut) == count
    assert cut.scores == pytest.approx(whole.scores[:count], abs=CLOSE)
    assert cut.indices[0] == whole.indices[0]


def test_top_n_saves_no_work(client):
    whole, cut = client.rerank(QUERY, DOCUMENTS), client.rerank(QUERY, DOCUMENTS, top_n=1)
    assert cut.prompt_tokens == whole.prompt_tokens > 0


def test_reranking_is_scoring_and_sorting(client):
    reranked, scored = client.rerank(QUERY, DOCUMENTS), client.score(QUERY, DOCUMENTS)
    assert reranked.prompt_tokens == scored.prompt_tokens
    by_hand = [scored.scores[index] for index in reranked.indices]
    assert reranked.scores == pytest.approx(by_hand, abs=CLOSE)
    assert reranked.scores == pytest.approx(scored.ranked().scores, abs=CLOSE)
    assert reranked.documents[0] == scored.ranked().documents[0]


def test_each_copy_of_a_document_has_a_place_of_its_own(client):
    result = client.rerank(QUERY, [PARIS, BRASILIA, PARIS, BRASILIA, PARIS])
    assert set(result.indices[:3]) == {0, 2, 4}
    assert set(result.indices[3:]) == {1, 3}
    assert result.documents == (PARIS,) * 3 + (BRASILIA,) * 2
    assert result.scores[:3] == pytest.approx([result.scores[0]] * 3, abs=CLOSE)


def test_equal_scores_keep_the_order_of_the_request(send):
    indices, scores = ranking(send(documents=[PARIS] * 12))
    ties = [row for row in range(11) if scores[row] == scores[row + 1]]
    assert ties, "twelve copies of one document have twelve scores"
    assert all(indices[row] < indices[row + 1] for row in ties)


@pytest.mark.parametrize("route", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_the_three_routes_give_one_answer(send, client, route):
    response = send(route, top_n=3)
    indices, scores = ranking(response)
    expected = client.rerank(QUERY, DOCUMENTS, top_n=3)
    assert indices[0] == expected.indices[0]
    assert scores == pytest.approx(expected.scores, abs=CLOSE)
    assert sorted(response.json()) == sorted(expected.raw) == ["id", "model", "results", "usage"]


@pytest.mark.parametrize(
    "field",
    [
        {"return_documents": False},
        {"score_threshold": 0.99},
        {"top_k": 1},
        {"max_chunks_per_doc": 1},
        {"rank_fields": ["title"]},
        {"no_such_field": "at all"},
    ],
)
def test_a_field_that_the_server_does_not_know_changes_nothing(send, field):
    response = send(**field)
    indices, scores = ranking(response)
    assert indices[0] == 2
    assert scores == pytest.approx(ranking(send())[1], abs=CLOSE)
    assert len(scores) == len(DOCUMENTS)
    assert response.json()["results"][0]["document"]["text"] == PARIS


@pytest.mark.parametrize(
    "fields",
    [
        {"top_n": -1},
        {"top_n": None},
        {"query": [QUERY]},
        {"documents": []},
        {"documents": [{"text": PARIS}]},
    ],
)
def test_what_the_client_refuses_the_server_refuses_too(send, fields):
    assert send(**fields).status_code == 400


def test_without_the_activation_the_scores_are_logits_in_the_same_order(client):
    scored = client.rerank(QUERY, DOCUMENTS)
    logits = client.rerank(QUERY, DOCUMENTS, use_activation=False)
    assert logits.documents[0] == PARIS
    again = [1 / (1 + math.exp(-logit)) for logit in logits.scores]
    assert again == pytest.approx(scored.scores, abs=CLOSE)
    assert logits.scores != pytest.approx(scored.scores, abs=CLOSE)


def test_a_document_that_is_too_long_is_refused_until_it_may_be_cut(client):
    documents = [PARIS, "word " * 20_000]
    with pytest.raises(BadRequestError, match="truncate_prompt_tokens=-1"):
        client.rerank(QUERY, documents)
    result = client.rerank(QUERY, documents, truncate_prompt_tokens=-1)
    assert set(result.documents) == set(documents)
    assert client.rerank(QUERY, documents, max_tokens_per_doc=5).prompt_tokens < 100


def test_any_text_comes_back_as_it_was(client):
    odd = [
        "",
        " ",
        "\x00",
        "東京 🗼",
        "\u202e",
        "\u2028",
        '"\\',
        "a\nb\t",
        "a" * 300,
        "é",
        "e\u0301",
    ]
    result = client.rerank("", odd)
    assert sorted(result.documents) == sorted(odd)


def test_one_document_is_a_ranking_of_one(client):
    result = client.rerank(QUERY, PARIS)
    assert (result.documents, result.indices) == ((PARIS,), (0,))


def test_a_request_keeps_its_name(client):
    assert client.rerank(QUERY, DOCUMENTS, request_id="mine", user="me").request_id.endswith("mine")


def test_a_wrong_option_is_named_in_one_sentence(client):
    with pytest.raises(BadRequestError) as caught:
        client.rerank(QUERY, DOCUMENTS, truncation_side="middle")
    assert "truncation_side: Input should be 'left' or 'right'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_told_what_is_served(server):
    client = ScoreClient(server.url, model="no-such-model")
    with client, pytest.raises(NotFoundError) as caught:
        client.rerank(QUERY, DOCUMENTS)
    assert "no model 'no-such-model'" in str(caught.value)
    assert repr(server.model) in str(caught.value)
