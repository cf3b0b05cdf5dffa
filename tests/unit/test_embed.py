"""Embeddings without vLLM: what is sent, what is refused, what an answer becomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fault_server import MODEL, answer
from hypothesis import given
from hypothesis import strategies as st

from helpers.client import protocol
from helpers.errors import InputError, NotFoundError, ResponseError

TEXTS = ["Lyon.", "Paris.", "Nice."]


def body(*vectors):
    """Return an answer as vLLM gives it."""
    data = [
        {"index": row, "object": "embedding", "embedding": list(vector)}
        for row, vector in enumerate(vectors)
    ]
    return {"id": "embd-1", "object": "list", "data": data, "usage": {"prompt_tokens": 7}}


def embedding(handler, payload):
    """Play vLLM's route for embeddings: the vector of a text is its length and a 1."""
    texts = [payload["input"]] if isinstance(payload["input"], str) else payload["input"]
    handler.send_json(200, body(*[(len(text), 1) for text in texts]))


# -- what is sent -------------------------------------------------------------------------------


def test_texts_are_sent_as_documented_and_their_vectors_come_back(serve, client_of):
    server = serve(embedding)
    vectors = client_of(server).embed(TEXTS)
    assert server.payloads == [{"model": MODEL, "input": TEXTS}]
    assert server.paths[-1] == "/v1/embeddings"
    assert vectors.tolist() == [[5, 1], [6, 1], [5, 1]]
    assert vectors.dtype == np.float32


def test_a_single_text_travels_as_a_text_and_gives_one_row(serve, client_of):
    server = serve(embedding)
    assert client_of(server).embed("Paris.").shape == (1, 2)
    assert server.payloads[0]["input"] == "Paris."


def test_a_limit_of_tokens_is_sent_only_if_given(serve, client_of):
    server = serve(embedding)
    client_of(server).embed(TEXTS, truncate_prompt_tokens=-1)
    assert server.payloads[0]["truncate_prompt_tokens"] == -1


@pytest.mark.parametrize("texts", [tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS)])
def test_texts_may_come_in_any_list_of_texts(serve, client_of, texts):
    server = serve(embedding)
    assert len(client_of(server).embed(texts)) == 3
    assert server.payloads[0]["input"] == TEXTS


@pytest.mark.parametrize(
    ("texts", "said"), [([], "documents is empty"), (["a", None], "documents[1] is missing")]
)
def test_what_is_no_text_is_refused_before_anything_is_sent(serve, client_of, texts, said):
    server = serve(embedding)
    with pytest.raises(InputError) as caught:
        client_of(server).embed(texts)
    assert said in str(caught.value)
    assert server.payloads == []


# -- what the server refuses --------------------------------------------------------------------


def test_a_reranker_is_told_to_be_no_bi_encoder(serve, client_of):
    server = serve(answer(404, {"detail": "Not Found"}), models=("reranker",))
    with pytest.raises(NotFoundError, match="no route /v1/embeddings") as caught:
        client_of(server).embed(TEXTS)
    assert "a bi-encoder; a reranker is none" in str(caught.value)
    assert "'reranker'" in str(caught.value)


def test_an_unknown_model_lists_the_served_ones(serve, client_of):
    server = serve(answer(404, {"error": {"message": "The model `nope` does not exist."}}))
    with pytest.raises(NotFoundError, match="no model 'nope'") as caught:
        client_of(server, model="nope").embed(TEXTS)
    assert repr(MODEL) in str(caught.value)


# -- what an answer becomes ---------------------------------------------------------------------


def test_vectors_in_another_order_are_put_back():
    came = body((1, 0), (2, 0), (3, 0))
    came["data"].reverse()
    assert protocol.embed_result(came, 3)[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda came: came["data"].pop(), "2 texts were sent and 1 vectors came back"),
        (lambda came: came["data"][1].update(index=0), "from 0 to 1, got the indices 0"),
        (lambda came: came["data"][1].update(index=True), "with an index"),
        (lambda came: came["data"].__setitem__(0, [0.5]), "with an index"),
        (lambda came: came["data"][1].update(embedding=[1.0]), "different sizes"),
        (lambda came: came["data"][1].update(embedding=[1.0, float("nan")]), "finite"),
        (lambda came: came["data"][1].update(embedding=[1.0, 1e300]), "finite"),
        (lambda came: came["data"][1].update(embedding=["1", "2"]), "vectors of numbers"),
        (lambda came: came["data"][1].update(embedding=[None, 1.0]), "vectors of numbers"),
        (lambda came: [entry.update(embedding=1.0) for entry in came["data"]], "of numbers"),
        (lambda came: [entry.update(embedding="AAAA") for entry in came["data"]], "of numbers"),
        (lambda came: came.pop("data"), "a list `data`"),
    ],
)
def test_an_answer_that_does_not_fit_the_request_is_refused(change, said):
    came = body((1.0, 0.5), (2.0, 0.25))
    change(came)
    with pytest.raises(ResponseError) as caught:
        protocol.embed_result(came, 2)
    assert said in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["data", "index", "embedding"]), inner)
        ),
        max_leaves=6,
    )
)
def test_no_json_is_taken_for_vectors_by_mistake(came):
    try:
        vectors = protocol.embed_result(came, 1)
    except ResponseError:
        return
    assert vectors.shape == (1, len(came["data"][0]["embedding"]))
    assert np.isfinite(vectors).all()
