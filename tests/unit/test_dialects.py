"""Reranking with servers other than vLLM.

Cohere's, Jina's, TEI's and NIM's are played: what they take and what they answer is held against
the schemas that their makers publish, in `published_schemas.py`. A real Infinity is asked in
`tests/server/test_infinity.py`; here it is played too. A second witness is a client of another
maker, LiteLLM, which speaks to all five: it has to send what we send.
"""

from __future__ import annotations

import json
import os
import subprocess

import jsonschema
import pytest
from fault_server import answer
from published_schemas import ANSWERS, REQUESTS, ROUTES

import side_environment
from floors import REPOSITORY, Refusal
from helpers import BadRequestError, InputError, ResponseError, ScoreClient
from helpers.client.dialects import DIALECTS
from setup_env import Environment

QUERY, TEXTS = "capital of France?", ["Lyon.", "Paris.", "Nice."]
SCORES = {1: 0.9, 2: 0.3, 0: 0.1}


def results(score="relevance_score"):
    return [{"index": index, score: value} for index, value in SCORES.items()]


PLAIN = {"model": "m", "query": QUERY, "documents": TEXTS}
SPELLINGS = {
    "cohere": ("/v2/rerank", PLAIN, {"results": results(), "meta": {}}),
    "jina": (
        "/v1/rerank",
        PLAIN,
        {"model": "m", "results": results(), "usage": {"total_tokens": 9}},
    ),
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
OPTIONS = {
    "cohere": [],
    "jina": [],
    "infinity": [{"use_activation": False}, {"truncate_prompt_tokens": -1}],
    "tei": [{"use_activation": False}, {"truncate_prompt_tokens": -1}],
    "nim": [{"use_activation": False}, {"truncate_prompt_tokens": -1}],
}
each = pytest.mark.parametrize("dialect", SPELLINGS)
published = pytest.mark.parametrize("dialect", ROUTES)


def strict(dialect):
    """Answer as the schema says, and only a request that the schema allows."""
    _, _, said = SPELLINGS[dialect]

    def step(handler, payload):
        try:
            jsonschema.validate(payload, REQUESTS[dialect])
        except jsonschema.ValidationError as error:
            return handler.send_json(422, {"error": error.message})
        limit = payload.get("top_n", len(TEXTS))
        body = {**said, "results": said["results"][:limit]} if "results" in said else said
        jsonschema.validate(body, ANSWERS[dialect])
        handler.send_json(200, body)

    return step


@published
def test_what_is_sent_keeps_to_the_published_schema_with_every_option(dialect, serve) -> None:
    server = serve(strict(dialect))
    client = ScoreClient(server.url, model="m", dialect=dialect)
    every = [{}, *OPTIONS[dialect], {k: v for some in OPTIONS[dialect] for k, v in some.items()}]
    for options in every:
        for top_n in (None, 2):
            ranked = client.rerank(QUERY, TEXTS, top_n=top_n, **options)
            assert ranked.indices == (1, 2, 0)[:top_n]
            assert ranked.scores == (0.9, 0.3, 0.1)[:top_n]
    assert set(server.paths) == {ROUTES[dialect]}


@published
def test_the_played_server_refuses_what_the_schema_does_not_allow(dialect, serve) -> None:
    server = serve(strict(dialect))
    other = {"tei": "jina"}.get(dialect, "tei")
    _, payload, _ = SPELLINGS[other]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(payload, REQUESTS[dialect])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SPELLINGS[dialect][1], "use_activation": False}, REQUESTS[dialect])
    assert server.paths == []


@pytest.fixture(scope="module")
def litellm():
    """Give a function that reranks with LiteLLM, in its own environment, with each address."""
    try:
        side_environment.build("clients", REPOSITORY)  # notebook 17 wants it too
    except Refusal as refusal:
        pytest.skip(f"LiteLLM cannot be installed here: {refusal}")
    python = Environment(REPOSITORY / ".envs" / "clients").python
    code = (
        "import json, sys, litellm\n"
        "query, texts, asked = json.load(sys.stdin)\n"
        "for model, url in asked.items():\n"
        "    found = litellm.rerank(model, query=query, documents=texts, api_base=url,\n"
        "                           api_key='none', return_documents=None)\n"
        "    print('ranked', json.dumps([[r['index'], r['relevance_score']] "
        "for r in found.results]))\n"
    )

    def ask(asked):
        done = subprocess.run(
            [python, "-c", code],
            input=json.dumps([QUERY, TEXTS, asked]),
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        lines = [line for line in done.stdout.splitlines() if line.startswith("ranked ")]
        return [json.loads(line.removeprefix("ranked ")) for line in lines]

    return ask


def test_a_client_of_another_maker_sends_the_same_and_reads_the_same(litellm, serve) -> None:
    names = {
        "cohere": "cohere/m",
        "jina": "jina_ai/m",
        "infinity": "infinity/m",
        "tei": "huggingface/m",
        "nim": "nvidia_nim/ranking/m",
    }
    servers = {dialect: serve(answer(200, SPELLINGS[dialect][2])) for dialect in names}
    ranked = litellm({names[dialect]: server.url for dialect, server in servers.items()})
    # What LiteLLM always sends to TEI: the defaults of these two fields.
    defaults = {"raw_scores": False, "truncation_direction": "Right"}
    for (dialect, server), ranking in zip(servers.items(), ranked, strict=True):
        path, payload, _ = SPELLINGS[dialect]
        assert server.paths == [path]
        (sent,) = server.payloads
        assert {k: v for k, v in sent.items() if defaults.get(k) != v} == payload
        assert ranking == [[index, score] for index, score in SCORES.items()]


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


@each
def test_the_options_tested_here_are_all_that_a_dialect_has(dialect) -> None:
    tested = {option for options in OPTIONS[dialect] for option in options.items()}
    assert set(DIALECTS[dialect].options) == tested


def test_an_option_that_the_server_lacks_is_refused_and_not_dropped(serve) -> None:
    server = serve()
    client = ScoreClient(server.url, model="m", dialect="cohere")
    with pytest.raises(InputError, match="nothing like use_activation=False"):
        client.rerank(QUERY, TEXTS, use_activation=False)
    assert server.paths == []


@pytest.mark.parametrize(
    ("dialect", "status", "body", "words"),
    [
        # As TEI publishes its errors: it takes 32 texts in a request unless told otherwise.
        (
            "tei",
            422,
            {"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"},
            "maximum allowed batch size 32",
        ),
        ("cohere", 400, {"id": "1", "message": "invalid request: top_n"}, "invalid request: top_n"),
        ("nim", 422, {"detail": [{"loc": ["body", "top_k"], "msg": "Extra"}]}, "Extra"),
    ],
)
def test_what_a_server_says_when_it_refuses_reaches_the_reader(
    dialect, status, body, words, serve
) -> None:
    client = ScoreClient(serve(answer(status, body)).url, model="m", dialect=dialect)
    with pytest.raises(BadRequestError, match=words):
        client.rerank(QUERY, TEXTS)


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
