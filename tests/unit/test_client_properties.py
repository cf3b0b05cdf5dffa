"""What holds for the client whatever it is given and whatever comes back: generated cases."""

from __future__ import annotations

import json
import logging
import math
import pickle
import random
import traceback
from collections.abc import Iterator

import nbformat
import pytest
from fault_server import (
    FaultServer,
    answer,
    changed,
    expected_score,
    good,
    good_answer,
    half_closed,
    killed,
    reset,
    truncated,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

from helpers.bulk.scoring import score_pairs
from helpers.client import transport
from helpers.client.client import ScoreClient
from helpers.client.results import ScoreResult
from helpers.errors import InputError, ScoreError

KEY = "sk-known-key-5f4dcc3b5aa765d6"

TEXT = st.text(max_size=8)
TEXTS = st.lists(TEXT, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# Neither a text nor a list of texts.
JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=4)
    | st.dictionaries(TEXT, TEXT, max_size=2)
    | st.sets(TEXT, max_size=2)
    | st.lists(st.none() | st.integers() | st.lists(TEXT), min_size=1, max_size=3)
    | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)
)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: FaultServer) -> Iterator[ScoreClient]:
    with ScoreClient(server.url, retries=0, model="m") as client:
        yield client


@pytest.fixture(scope="module")
def short_pauses() -> Iterator[None]:
    """Let a client that tries again do so almost at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "FIRST_PAUSE", 0.001)
        yield


# -- shapes -------------------------------------------------------------------------------------


@given(query=TEXT | TEXTS, document=TEXT | TEXTS)
def test_every_shape_is_scored_in_order_or_refused_unsent(server, client, query, document):
    server.play(good)
    queries = [query] if isinstance(query, str) else query
    documents = [document] if isinstance(document, str) else document
    fits = documents and len(queries) in (1, len(documents))
    if not fits:
        with pytest.raises(InputError):
            client.score(query, document)
        assert server.payloads == []
        return
    result = client.score(query, document)
    pairs = list(zip(queries * (len(documents) // len(queries)), documents, strict=True))
    assert list(zip(result.queries, result.documents, strict=True)) == pairs
    assert result.scores == tuple(expected_score(*pair) for pair in pairs)
    assert server.payloads == [{"model": "m", "queries": query, "documents": document}]


@given(junk=JUNK, fine=TEXT | st.lists(TEXT, min_size=1, max_size=3), swapped=st.booleans())
def test_what_is_no_text_is_refused_unsent(server, client, junk, fine, swapped):
    server.play(good)
    with pytest.raises(InputError):
        client.score(*((fine, junk) if swapped else (junk, fine)))
    with pytest.raises(InputError):
        client.rerank(*(("query", junk) if swapped else (junk, fine)))
    assert server.payloads == []


# -- answers ------------------------------------------------------------------------------------


@given(documents=st.lists(TEXT, min_size=1, max_size=8), seed=st.integers(0, 99))
def test_scores_find_their_pairs_in_whatever_order_they_come(server, client, documents, seed):
    server.play(changed(lambda body: random.Random(seed).shuffle(body["data"])))
    result = client.score("query", documents)
    assert result.scores == tuple(expected_score("query", document) for document in documents)


@given(
    scores=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=8),
    top_n=st.integers(0, 9) | st.none(),
    seed=st.integers(0, 99),
)
def test_a_ranking_falls_and_names_each_document_once(server, client, scores, top_n, seed):
    documents = [f"document {row}" for row in range(len(scores))]
    best = sorted(range(len(scores)), key=lambda row: -scores[row])[: top_n or None]
    entries = [
        {"index": row, "relevance_score": scores[row], "document": {"text": documents[row]}}
        for row in best
    ]
    random.Random(seed).shuffle(entries)
    server.play(answer(200, {"results": entries, "usage": {"prompt_tokens": 1}}))
    result = client.rerank("query", documents, top_n=top_n)
    assert sorted(result.indices) == sorted(best)
    assert list(result.scores) == sorted(result.scores, reverse=True)
    assert [scores[row] for row in result.indices] == list(result.scores)
    assert [documents[row] for row in result.indices] == list(result.documents)


def places(value, path=()):
    """Return the way to every part of a JSON value."""
    if not isinstance(value, (dict, list)):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(place for key, part in items for place in places(part, (*path, key)))]


def with_part(value, path, part):
    """Return a copy of a JSON value with one part replaced, or dropped if `part` is `...`."""
    if not path:
        return None if part is ... else part
    copied = value.copy()
    if len(path) == 1 and part is ...:
        del copied[path[0]]
    else:
        copied[path[0]] = with_part(value[path[0]], path[1:], part)
    return copied


@settings(max_examples=300)
@given(data=st.data(), part=JSON | st.just(...))
def test_a_spoilt_answer_is_an_error_of_ours_or_still_a_score_for_each_pair(
    server, client, data, part
):
    documents = ["a", "b", "c"]
    whole = good_answer({"model": "m", "queries": "q", "documents": documents})
    place = data.draw(st.sampled_from(places(whole)))
    server.play(answer(200, with_part(whole, place, part)))
    try:
        result = client.score("q", documents)
    except ScoreError:
        return
    assert len(result) == 3
    assert all(type(score) is float and math.isfinite(score) for score in result)
    assert isinstance(repr(result), str)


@settings(max_examples=200)
@given(
    status=st.sampled_from([200, 201, 301, 400, 401, 404, 418, 422, 429, 500, 503, 599]),
    body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_body_with_any_status_is_an_error_of_ours(server, client, status, body):
    server.play(lambda handler, payload: handler.send_bytes(status, body))
    with pytest.raises(ScoreError) as caught:
        client.score("query", "document")
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# -- batches ------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    count=st.integers(1, 30),
    batch_size=st.integers(1, 8),
    concurrency=st.integers(1, 5),
    faults=st.lists(
        st.sampled_from(
            [good, reset, half_closed, truncated, answer(503, {}), answer(429, {}, Retry_After="0")]
        ),
        max_size=8,
    ),
)
def test_every_pair_is_scored_once_in_batches_whatever_fails_on_the_way(
    short_pauses, count, batch_size, concurrency, faults
):
    queries = [f"query {row}" for row in range(count)]
    documents = [f"document {row}" for row in range(count)]
    with (
        FaultServer(*faults, good) as server,
        ScoreClient(server.url, retries=len(faults)) as client,
    ):
        scores = score_pairs(
            client,
            queries,
            documents,
            batch_size=batch_size,
            concurrency=concurrency,
            progress=False,
        )
    assert scores.tolist() == [
        expected_score(*pair) for pair in zip(queries, documents, strict=True)
    ]
    batches = {tuple(payload["documents"]) for payload in server.payloads}
    # Each batch is a run of rows, and sent again it is the same batch.
    assert batches == {
        tuple(documents[start : start + batch_size]) for start in range(0, count, batch_size)
    }
    failed = sum(fault is not good for fault in faults[: len(server.payloads)])
    assert len(server.payloads) == len(batches) + failed


# -- the key ------------------------------------------------------------------------------------


FAILURES = {
    "refused": answer(401, {"error": "Unauthorized"}),
    "bad": answer(400, {"error": {"message": "no"}}),
    "busy": answer(503, {}),
    "broken": answer(500, {}),
    "redirected": answer(307, {}, Location="http://127.0.0.1:9"),
    "half": truncated,
    "reset": reset,
    "killed": killed,
}


@pytest.mark.parametrize("fault", FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_bulk_run_leaves_the_key_nowhere(serve, tmp_path, caplog, capfd, fault):
    caplog.set_level(logging.DEBUG)
    server = serve(good, fault)
    client = ScoreClient(server.url, api_key=KEY, retries=1)
    kept = tmp_path / "kept.sqlite"
    rows = [f"row {number}" for number in range(40)]
    with client, pytest.raises(ScoreError) as caught:
        score_pairs(client, rows, rows, batch_size=2, concurrency=1, checkpoint=kept, patience=0.01)
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    told = [repr(client), str(vars(client)), caplog.text, *capfd.readouterr()]
    told += traceback.format_exception(caught.value)
    told += [repr(link) + str(vars(link)) for link in links(caught.value)]
    assert KEY not in "\n".join(told)
    assert KEY.encode() not in kept.read_bytes() + pickle.dumps(caught.value)


def links(error: BaseException | None) -> list[BaseException]:
    """Return an error with everything that led to it."""
    if error is None:
        return []
    return [error, *links(error.__cause__), *links(error.__context__)]


def test_a_notebook_that_fails_stores_no_key(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_API_KEY", KEY)
    server = serve(FAILURES["refused"])
    cells = [
        "from helpers import ScoreClient, score_pairs",
        f"client = ScoreClient({server.url!r}); client",
        "client.score('a', 'b')",
        "score_pairs(client, ['a'], ['b'], checkpoint='kept.sqlite')",
        "%xmode Verbose\nclient.score('a', 'b')",
        "vars(client)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(
        notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": tmp_path}}
    ).execute()
    stored = nbformat.writes(notebook)
    assert stored.count("AuthenticationError") >= 3
    assert "Bearer" not in stored
    assert KEY not in stored


def test_a_result_holds_no_key(serve):
    with ScoreClient(serve().url, api_key=KEY) as client:
        result = client.score("query", ["a", "b"])
    assert isinstance(result, ScoreResult)
    assert KEY not in repr(result) + str(result.raw) + result._repr_html_()
