"""More than a thousand bad requests, generated: a real server answers each and stays well.

Small on purpose, so that all of them take seconds. The seed is fixed, so every run sends the same.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.client.client import ScoreClient
from helpers.errors import InputError, ScoreError
from helpers.server.server import ScoreServer

RAW, TYPED = 800, 500
SECONDS = 120  # for one request: far more than any of them needs
ROUTES = ["/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank", "/tokenize"]
REFUSED_OR_SCORED = {200, 400, 404, 405, 411, 413, 415, 422}

TEXT = st.text(max_size=12) | st.sampled_from(["", "\x00", "\u202e", "a" * 600, "🗼", "\ufffe"])
NUMBER = st.integers(-(2**70), 2**70) | st.integers(-3, 3) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TEXTS = TEXT | st.lists(TEXT, max_size=4)
OPTIONS = {
    "use_activation": st.booleans() | JSON,
    "truncate_prompt_tokens": st.integers(-2, 600) | JSON,
    "truncation_side": st.sampled_from(["left", "right", "middle"]) | JSON,
    "max_tokens_per_query": st.integers(-2, 600) | JSON,
    "max_tokens_per_doc": st.integers(-2, 600) | JSON,
    "instruction": TEXT | JSON,
    "chat_template_kwargs": st.dictionaries(TEXT, JSON, max_size=2) | JSON,
    "priority": JSON,
    "request_id": JSON,
    "user": JSON,
}
FIELDS = {
    **{name: TEXTS | JSON for name in ("query", "queries", "text_1", "data_1")},
    **{name: TEXTS | JSON for name in ("documents", "items", "text_2", "data_2")},
    **OPTIONS,
    "top_n": JSON,
    "prompt": TEXT | JSON,
    "unknown": JSON,
}
PAYLOAD = st.fixed_dictionaries({}, optional=FIELDS).map(
    lambda fields: dict(list(fields.items())[:6])
)
ENCODED = (PAYLOAD | JSON).map(lambda value: json.dumps(value).encode())
BODY = (
    ENCODED
    | st.tuples(ENCODED, st.floats(0, 1)).map(lambda cut: cut[0][: int(cut[1] * len(cut[0]))])
    | st.binary(max_size=60)
    | st.sampled_from(
        [
            b"",
            b'{"queries": "a", "documents": "\\ud800"}',
            b'{"queries": "a", "documents": "b", "request_id": "\\ud800"}',
            b'{"queries": "a", "queries": ["b", "c"], "documents": "d"}',
            b'{"queries": 1e999, "documents": NaN}',
            b'\xef\xbb\xbf{"queries": "a", "documents": "b"}',
            '{"queries": "a", "documents": "b"}'.encode("utf-16"),
            b"[" * 3000,
            b'{"a":' * 3000,
            b'{"queries": ' + b"9" * 5000 + b"}",
        ]
    )
)
CONTENT = st.sampled_from(
    ["application/json"] * 6 + ["text/plain", "application/x-www-form-urlencoded", "", "a/b/c"]
)


def generated(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def steady(server: ScoreServer) -> Iterator[ScoreClient]:
    """Give one client for all generated calls."""
    with ScoreClient(server.url, model=server.model, timeout=SECONDS, retries=0) as client:
        yield client


def assert_well(server: ScoreServer, pid: int | None) -> None:
    assert server.running
    assert server.pid == pid
    with server.client() as client:
        assert 0 <= client.score("What is red?", "A rose is red.").score <= 1


def test_generated_bodies_are_all_answered(server):
    pid, statuses = server.pid, Counter()
    with requests.Session() as session:

        @generated(RAW)
        @given(route=st.sampled_from(ROUTES), body=BODY, content=CONTENT, model=st.booleans())
        def post(route, body, content, model):
            if model and body[:2] == b'{"':
                body = b'{"model": ' + json.dumps(server.model).encode() + b", " + body[1:]
            response = session.post(
                server.url + route, data=body, headers={"Content-Type": content}, timeout=SECONDS
            )
            statuses[response.status_code] += 1
            if response.status_code not in REFUSED_OR_SCORED:
                # vLLM 0.32 cannot send half a surrogate pair back, in whatever field it came.
                assert response.status_code == 500 and b"\\ud" in body, response.text
                assert session.get(f"{server.url}/health", timeout=SECONDS).ok
            if response.status_code == 200 and route.endswith("score"):
                scores = [entry["score"] for entry in response.json()["data"]]
                assert scores and all(map(math.isfinite, scores))

        post()
    assert statuses.total() >= RAW
    assert statuses[400] > RAW / 4, "too few of them were bad"
    assert_well(server, pid)


def test_generated_arguments_end_in_a_result_or_an_error_of_ours(server, steady):
    pid, outcomes = server.pid, Counter()
    odd = JSON | st.binary(max_size=4) | st.text(st.characters(categories=["Cs"]), max_size=2)

    @generated(TYPED)
    @given(
        ranks=st.booleans(),
        query=TEXTS | odd,
        documents=TEXTS | odd,
        options=st.fixed_dictionaries({}, optional=OPTIONS).map(
            lambda options: dict(list(options.items())[:2])
        ),
    )
    def ask(ranks, query, documents, options):
        try:
            result = (steady.rerank if ranks else steady.score)(query, documents, **options)
        except ScoreError as error:
            outcomes[type(error)] += 1
            assert str(error)
        else:
            outcomes[type(result)] += 1
            assert all(map(math.isfinite, result.scores))

    ask()
    assert outcomes.total() >= TYPED
    assert outcomes[InputError] and len(outcomes) >= 3, outcomes
    assert_well(server, pid)
