"""Reranking without vLLM: what is sent, what is refused, what an answer becomes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from fault_server import MODEL, answer, expected_score
from hypothesis import given
from hypothesis import strategies as st

from helpers.client import protocol
from helpers.client.results import ROWS_SHOWN, RerankResult
from helpers.errors import InputError, NotFoundError, ResponseError, ServerBusyError

QUERY, TEXTS = "capital of France?", ["Lyon.", "Paris.", "Nice."]


def ranking(*scores, texts=None, query=QUERY):
    texts = texts or [f"document {row}" for row in range(len(scores))]
    return RerankResult(query, tuple(texts), tuple(range(len(scores))), scores, "model", 7)


def body(*pairs, texts=TEXTS):
    """Return an answer as vLLM gives it, from pairs of index and score."""
    results = [
        {"index": index, "document": {"text": texts[index], "multi_modal": None}, **scored(score)}
        for index, score in pairs
    ]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return {"id": "score-1", "model": "model", "usage": usage, "results": results}


def scored(score):
    return {"relevance_score": score}


def reranking(handler, payload):
    """Play vLLM's rerank route."""
    texts = payload["documents"]
    texts = [texts] if isinstance(texts, str) else texts
    pairs = [(row, expected_score(payload["query"], text)) for row, text in enumerate(texts)]
    pairs.sort(key=lambda pair: -pair[1])
    handler.send_json(200, body(*pairs[: payload.get("top_n") or len(pairs)], texts=texts))


# -- what is sent -------------------------------------------------------------------------------


def test_a_query_and_its_documents_are_sent_as_documented(serve, client_of):
    server = serve(reranking)
    result = client_of(server).rerank(QUERY, TEXTS)
    assert server.payloads == [{"model": MODEL, "query": QUERY, "documents": TEXTS}]
    assert server.paths[-1] == "/rerank"
    assert sorted(result.documents) == sorted(TEXTS)
    assert [TEXTS[index] for index in result.indices] == list(result.documents)


def test_a_single_document_travels_as_a_text(serve, client_of):
    server = serve(reranking)
    assert client_of(server).rerank(QUERY, "Paris.").documents == ("Paris.",)
    assert server.payloads[0]["documents"] == "Paris."


def test_only_the_options_that_were_given_are_sent(serve, client_of):
    server = serve(reranking)
    options = {
        "top_n": 2,
        "use_activation": False,
        "truncate_prompt_tokens": -1,
        "truncation_side": "left",
        "max_tokens_per_query": 0,
        "max_tokens_per_doc": 5,
        "instruction": "",
        "chat_template_kwargs": {"a": 1},
        "priority": 0,
        "request_id": "mine",
        "user": "me",
    }
    client_of(server).rerank(QUERY, TEXTS, **options)
    assert server.payloads[0] == {"model": MODEL, "query": QUERY, "documents": TEXTS, **options}


@pytest.mark.parametrize("documents", [tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS)])
def test_documents_may_come_in_any_list_of_texts(serve, client_of, documents):
    server = serve(reranking)
    client_of(server).rerank(QUERY, documents)
    assert server.payloads[0]["documents"] == TEXTS


@pytest.mark.parametrize(("top_n", "count"), [(None, 3), (0, 3), (1, 1), (np.int64(2), 2), (9, 3)])
def test_as_many_come_back_as_top_n_says(serve, client_of, top_n, count):
    server = serve(reranking)
    assert len(client_of(server).rerank(QUERY, TEXTS, top_n=top_n)) == count
    assert ("top_n" in server.payloads[0]) == (top_n is not None)


# -- what is refused before it is sent ----------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "documents", "said"),
    [
        ([QUERY], TEXTS, "one query as a text (str), and got a list of 1"),
        ([QUERY, QUERY], TEXTS, "got a list of 2: call it once for each"),
        (None, TEXTS, "query is missing"),
        (7, TEXTS, "query is of type int"),
        (QUERY, [], "documents is empty"),
        (QUERY, ["a", None], "documents[1] is missing"),
        (QUERY, [["a"]], "documents[0] is of type list"),
    ],
)
def test_a_wrong_shape_is_refused_by_name(serve, client_of, query, documents, said):
    server = serve(reranking)
    with pytest.raises(InputError) as caught:
        client_of(server).rerank(query, documents)
    assert said in str(caught.value)
    assert server.payloads == []


@pytest.mark.parametrize("top_n", [-1, 2.0, "2", True, float("nan"), [1]])
def test_a_top_n_that_is_no_count_is_refused(serve, client_of, top_n):
    server = serve(reranking)
    with pytest.raises(InputError, match="top_n must be a whole number from 0 up"):
        client_of(server).rerank(QUERY, TEXTS, top_n=top_n)
    assert server.payloads == []


# -- what the server refuses --------------------------------------------------------------------


def test_a_missing_rerank_route_is_not_taken_for_an_unknown_model(serve, client_of):
    server = serve(answer(404, {"detail": "Not Found"}), models=("generator",))
    with pytest.raises(NotFoundError) as caught:
        client_of(server).rerank(QUERY, TEXTS)
    assert "no route /rerank" in str(caught.value)
    assert "'generator'" in str(caught.value)


def test_an_unknown_model_lists_the_served_ones(serve, client_of):
    server = serve(answer(404, {"error": {"message": "The model `nope` does not exist."}}))
    with pytest.raises(NotFoundError, match="no model 'nope'") as caught:
        client_of(server, model="nope").rerank(QUERY, TEXTS)
    assert repr(MODEL) in str(caught.value)


def test_a_busy_server_is_asked_again(serve, client_of):
    server = serve(answer(503, {}), reranking)
    assert len(client_of(server).rerank(QUERY, TEXTS)) == 3
    with pytest.raises(ServerBusyError):
        client_of(serve(answer(503, {})), retries=1).rerank(QUERY, TEXTS)


# -- what an answer becomes ---------------------------------------------------------------------


def test_an_answer_becomes_documents_with_their_positions():
    came = body((1, 0.9), (2, 0.5), (0, 0.1))
    result = protocol.rerank_result(came, QUERY, TEXTS)
    assert result == RerankResult(
        QUERY, ("Paris.", "Nice.", "Lyon."), (1, 2, 0), (0.9, 0.5, 0.1), "model", 7, "score-1"
    )
    assert result.raw is came


@given(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 1.0]), min_size=1), st.randoms())
def test_an_answer_in_any_order_is_sorted_and_ties_stay_as_they_came(scores, random):
    texts = ["same text"] * len(scores)
    pairs = list(enumerate(scores))
    random.shuffle(pairs)
    result = protocol.rerank_result(body(*pairs, texts=texts), QUERY, texts)
    assert list(zip(result.indices, result.scores, strict=True)) == sorted(
        pairs, key=lambda pair: -pair[1]
    )


@pytest.mark.parametrize("document", [None, {}, {"text": None}, "Paris."])
def test_a_server_may_leave_the_texts_out(document):
    came = body((1, 0.9))
    came["results"][0]["document"] = document
    assert protocol.rerank_result(came, QUERY, TEXTS, 1).documents == ("Paris.",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda came: came["results"].pop(), "3 documents were sent, 3 results were expected"),
        (lambda came: came["results"][1].update(index=1), "got 1 twice"),
        (lambda came: came["results"][1].update(index=3), "from 0 to 2, got 3"),
        (lambda came: came["results"][1].update(index=-1), "from 0 to 2, got -1"),
        (lambda came: came["results"][1].update(index=True), "with an index"),
        (lambda came: came["results"].__setitem__(1, "0.5"), "with an index"),
        (lambda came: came["results"][1]["document"].update(text="Oslo."), "another text: 'Oslo.'"),
        (lambda came: came["results"][1].update(document="Oslo."), "another text: 'Oslo.'"),
        (lambda came: came["results"][1].update(relevance_score=None), "document 2 is None"),
        (lambda came: came["results"][1].update(relevance_score=float("nan")), "document 2 is nan"),
        (lambda came: came["results"][1].update(relevance_score=True), "document 2 is True"),
        (lambda came: came["results"][1].pop("relevance_score"), "document 2 is None"),
        (lambda came: came.update(results={}), "a list `results`"),
        (lambda came: came.pop("results"), "a list `results`"),
    ],
)
def test_an_answer_that_does_not_fit_the_request_is_refused(change, said):
    came = body((1, 0.9), (2, 0.5), (0, 0.1))
    change(came)
    with pytest.raises(ResponseError) as caught:
        protocol.rerank_result(came, QUERY, TEXTS)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("usage", "tokens", "shown"),
    [({"total_tokens": 7}, 7, "7 tokens"), (None, None, "unknown number of tokens")],
)
def test_a_ranking_is_kept_whatever_the_answer_says_of_its_tokens(usage, tokens, shown):
    came = body((1, 0.9), (2, 0.5), (0, 0.1)) | {"usage": usage}
    result = protocol.rerank_result(came, QUERY, TEXTS)
    assert (result.indices, result.prompt_tokens) == ((1, 2, 0), tokens)
    assert f"({shown})" in repr(result)


@pytest.mark.parametrize("top_n", [1, 3])
def test_more_or_fewer_results_than_asked_for_are_refused(top_n):
    with pytest.raises(ResponseError, match=f"{top_n} results were expected, and 2 came back"):
        protocol.rerank_result(body((1, 0.9), (2, 0.5)), QUERY, TEXTS, top_n)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["results", "index", "document", "usage"]), inner)
        ),
        max_leaves=6,
    )
)
def test_no_json_is_taken_for_an_answer_by_mistake(came):
    with pytest.raises(ResponseError):
        protocol.rerank_result(came, QUERY, TEXTS)


# -- how a result looks -------------------------------------------------------------------------


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InputError, match="2, 1 and 2"):
        RerankResult("q", ("a", "b"), (0,), (0.2, 0.1), "model", 7)


def test_a_result_is_frozen_and_equal_ones_hash_alike():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ranking(0.5).query = "another"
    assert hash(ranking(0.5)) == hash(ranking(0.5))


def test_a_result_becomes_a_frame_with_ranks_from_one():
    result = RerankResult("q", ("b", "a"), (4, 0), (0.5, 0.25), "model", 7)
    frame = result.to_frame()
    assert list(frame.columns) == ["rank", "index", "score", "document"]
    assert frame.to_numpy().tolist() == [[1, 4, 0.5, "b"], [2, 0, 0.25, "a"]]


def test_a_terminal_shows_aligned_columns():
    assert repr(ranking(10.25, -0.5, texts=["a", "b"])).splitlines() == [
        "2 documents ranked by model (7 tokens) for: capital of France?",
        "rank  index    score  document",
        "   1      0  10.2500  a",
        "   2      1  -0.5000  b",
    ]


def test_a_notebook_shows_texts_as_text_and_never_as_html():
    shown = ranking(0.5, texts=["<b>x</b>"], query="<i>q</i>")._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "&lt;i&gt;q&lt;/i&gt;" in shown
    assert "<b>" not in shown and "<i>" not in shown
    assert shown.count("<tr>") == 2
    assert "1 document ranked" in shown


@pytest.mark.parametrize("show", [repr, lambda result: result._repr_html_()])
def test_a_long_result_shows_its_first_rows_and_counts_the_rest(show):
    shown = show(ranking(*[0.5] * (ROWS_SHOWN + 30)))
    assert f"document {ROWS_SHOWN - 1}" in shown
    assert f"document {ROWS_SHOWN}" not in shown
    assert "30 more" in shown
