"""Reranking with servers other than vLLM. None of them runs here.

The server is played: what it takes and what it answers is written down from the schemas that their
makers publish. These tests hold our side of it, not theirs.
"""

from __future__ import annotations

import pytest
from fault_server import answer

from helpers import InputError, ResponseError, ScoreClient

QUERY, TEXTS = "capital of France?", ["Lyon.", "Paris.", "Nice."]
SCORES = {1: 0.9, 2: 0.3, 0: 0.1}


def results(score="relevance_score"):
    return [{"index": index, score: value} for index, value in SCORES.items()]


PLAIN = {"model": "m", "query": QUERY, "documents": TEXTS}
SPELLINGS = {
    "cohere": ("/v2/rerank", PLAIN, {"results": results(), "meta": {}}),
    "jina": ("/v1/rerank", PLAIN, {"results": results(), "usage": {"total_tokens": 9}}),
    "infinity": ("/rerank", PLAIN, {"object": "rerank", "results": results(), "model": "m"}),
    "tei": ("/rerank", {"query": QUERY, "texts": TEXTS}, results("score")),
    "nim": (
        "/v1/ranking",
        {
            "model": "m",
            "query": {"text": QUERY},
            "passages": [{"text": text} for text in TEXTS],
        },
        {"rankings": results("logit")},
    ),
}
each = pytest.mark.parametrize("dialect", SPELLINGS)


@each
def test_a_dialect_sends_its_own_names_and_reads_its_own_answer(dialect, serve) -> None:
    path, payload, said = SPELLINGS[dialect]
    server = serve(answer(200, said))
    client = ScoreClient(server.url, model="m", dialect=dialect)
    ranked = client.rerank(QUERY, TEXTS)
    assert (server.paths, server.payloads) == ([path], [payload])
    assert ranked.indices == (1, 2, 0)
    assert ranked.scores == (0.9, 0.3, 0.1)
    assert ranked.documents == ("Paris.", "Nice.", "Lyon.")


@each
def test_the_best_only_come_back_whether_the_server_cuts_or_not(dialect, serve) -> None:
    _, _, said = SPELLINGS[dialect]
    cuts = dialect not in ("tei", "nim")
    if cuts:
        said = {**said, "results": said["results"][:2]}
    server = serve(answer(200, said))
    client = ScoreClient(server.url, model="m", dialect=dialect)
    assert client.rerank(QUERY, TEXTS, top_n=2).indices == (1, 2)
    assert server.payloads[0].get("top_n") == (2 if cuts else None)


@pytest.mark.parametrize(
    ("dialect", "options", "sent"),
    [
        ("tei", {"use_activation": False}, {"raw_scores": True}),
        ("tei", {"truncate_prompt_tokens": -1}, {"truncate": True}),
        ("infinity", {"use_activation": False}, {"raw_scores": True}),
        ("nim", {"truncate_prompt_tokens": -1}, {"truncate": "END"}),
    ],
)
def test_options_are_translated(dialect, options, sent, serve) -> None:
    _, payload, said = SPELLINGS[dialect]
    server = serve(answer(200, said))
    ScoreClient(server.url, model="m", dialect=dialect).rerank(QUERY, TEXTS, **options)
    assert server.payloads == [{**payload, **sent}]


def test_an_option_that_the_server_lacks_is_refused_and_not_dropped(serve) -> None:
    server = serve()
    client = ScoreClient(server.url, model="m", dialect="cohere")
    with pytest.raises(InputError, match="nothing like use_activation=False"):
        client.rerank(QUERY, TEXTS, use_activation=False)
    assert server.paths == []


@pytest.mark.parametrize("said", [{"error": "busy"}, [1, 2], {"rankings": 3}, "text"])
def test_an_answer_of_another_shape_is_an_error_of_ours(said, serve) -> None:
    for dialect in SPELLINGS:
        client = ScoreClient(serve(answer(200, said)).url, model="m", dialect=dialect)
        with pytest.raises(ResponseError):
            client.rerank(QUERY, TEXTS)


def test_what_only_vllm_can_do_is_refused_before_anything_is_sent(serve) -> None:
    server = serve()
    client = ScoreClient(server.url, model="m", dialect="infinity")
    with pytest.raises(InputError, match="Only a vLLM server has /score"):
        client.score(QUERY, TEXTS)
    with pytest.raises(InputError, match="name of its model as model="):
        ScoreClient(server.url, dialect="infinity").rerank(QUERY, TEXTS)
    assert server.paths == []


def test_an_unknown_dialect_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="The dialects: vllm, cohere, jina, infinity, tei, nim"):
        ScoreClient(dialect="latin")
