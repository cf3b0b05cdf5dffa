"""The wire: answers are checked, errors become one sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.client import protocol, refusals
from helpers.errors import ResponseError

# As vLLM 0.32 answered to {"queries": 1, "documents": ["a"], "truncation_side": "middle"}.
NESTED = {
    "error": {
        "message": "6 validation errors:\n"
        "  {'type': 'literal_error', 'loc': 'body.truncation_side', 'msg': "
        "\"Input should be 'left' or 'right'\", 'input': 'middle', "
        "'ctx': {'expected': \"'left' or 'right'\"}}\n"
        "  {'type': 'string_type', 'loc': 'body.queries', 'msg': "
        "'Input should be a valid string', 'input': '1'}\n"
        "  {'type': 'literal_error', 'loc': 'body.truncation_side', 'msg': "
        "\"Input should be 'left' or 'right'\", 'input': 'middle', "
        "'ctx': {'expected': \"'left' or 'right'\"}}\n"
        "  {'type': 'missing', 'loc': 'body.items', 'msg': 'Field required', "
        "'input': '<dict of 4 items>'}\n"
        "  {'type': 'missing', 'loc': 'body.data_1', 'msg': 'Field requ...[truncated]\n"
        "  ...and 1 more errors",
        "type": "Bad Request",
        "param": "body.truncation_side",
        "code": 400,
    }
}

# As FastAPI writes it by itself, and older vLLM with it.
OLDER = {
    "detail": [
        {"type": "missing", "loc": ["body", "ScoreTextRequest", "text_1"], "msg": "Field required"},
        {"type": "int_type", "loc": ["body", "ScoreTextRequest", "priority"], "msg": "Not an int"},
    ]
}


def test_nested_mistakes_become_one_sentence_that_names_each_once():
    assert refusals.error_sentence(NESTED) == (
        "truncation_side: Input should be 'left' or 'right' (it was 'middle'); "
        "queries: Input should be a valid string (it was '1')"
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (OLDER, "priority: Not an int"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"object": "error", "message": "too long", "code": 400}, "too long"),
        ({"error": {"code": 500}}, '{"error": {"code": 500}}'),
        ("<html>\n<b>Bad Gateway</b>\n</html>", "<html> <b>Bad Gateway</b> </html>"),
        ("", ""),
    ],
)
def test_every_form_of_an_error_body_has_its_sentence(body, sentence):
    assert refusals.error_sentence(body) == sentence


def test_a_broken_json_request_is_told_why():
    message = (
        "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.1', 'msg': "
        "'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}"
    )
    assert refusals.error_sentence({"error": {"message": message}}) == (
        "JSON decode error (Expecting value)"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(["error", "message", "detail", "msg", "loc", "ctx", "input", "data"])


@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON) | st.lists(JSON), max_size=4))
def test_no_error_body_is_too_strange_for_one_line(body):
    sentence = refusals.error_sentence(body)
    assert len(sentence) <= refusals.LONGEST_MESSAGE
    assert "\n" not in sentence


def answer(*scores):
    data = [{"index": row, "object": "score", "score": score} for row, score in enumerate(scores)]
    return {"id": "score-1", "model": "model", "data": data, "usage": {"prompt_tokens": 7}}


def test_scores_are_sorted_by_their_index():
    shuffled = answer(0.1, 0.2, 0.3)
    shuffled["data"] = [shuffled["data"][row] for row in (2, 0, 1)]
    result = protocol.score_result(shuffled, ["q"] * 3, ["a", "b", "c"])
    assert result.scores == (0.1, 0.2, 0.3)
    assert result.raw is shuffled
    assert (result.model, result.prompt_tokens, result.request_id) == ("model", 7, "score-1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body["data"].pop(), "2 pairs were sent and 1 scores came back"),
        (lambda body: body["data"].append(body["data"][0]), "2 pairs were sent and 3 scores"),
        (lambda body: body["data"][1].update(index=0), "indices 0"),
        (lambda body: body["data"][1].update(index=2), "indices 0, 2"),
        (lambda body: body["data"][1].update(index=True), "with an index"),
        (lambda body: body["data"][1].update(index="1"), "with an index"),
        (lambda body: body["data"].__setitem__(1, "0.5"), "with an index"),
        (lambda body: body["data"][1].update(score=float("nan")), "pair 1 is nan"),
        (lambda body: body["data"][1].update(score=float("inf")), "pair 1 is inf"),
        (lambda body: body["data"][1].update(score=10**400), "not a number"),
        (lambda body: body["data"][1].update(score=None), "pair 1 is None"),
        (lambda body: body["data"][1].update(score="0.5"), "pair 1 is '0.5'"),
        (lambda body: body["data"][1].update(score=True), "pair 1 is True"),
        (lambda body: body["data"][1].pop("score"), "pair 1 is None"),
        (lambda body: body.update(data={}), "a list `data`"),
        (lambda body: body.pop("data"), "a list `data`"),
    ],
)
def test_an_answer_that_does_not_fit_the_request_is_refused(change, said):
    body = answer(0.1, 0.2)
    change(body)
    with pytest.raises(ResponseError) as caught:
        protocol.score_result(body, ["q", "q"], ["a", "b"])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 9}, 7),
        ({"total_tokens": 7}, 7),
        ({"prompt_tokens": None, "total_tokens": 7}, 7),
        ({"prompt_tokens": "7"}, None),
        ({"billed_units": {"search_units": 1}}, None),
        ({}, None),
        (None, None),
        ([7], None),
        (..., None),
    ],
)
def test_scores_are_kept_whatever_the_answer_says_of_its_tokens(usage, tokens):
    body = answer(0.1, 0.2) | {"usage": usage}
    if usage is ...:
        del body["usage"]
    result = protocol.score_result(body, ["q", "q"], ["a", "b"])
    assert (result.scores, result.prompt_tokens) == ((0.1, 0.2), tokens)
    shown = "unknown number of tokens" if tokens is None else "7 tokens"
    assert f"({shown})" in repr(result)
    assert f"({shown})" in result._repr_html_()


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        ({"error": {"message": "The model `x` does not exist.", "code": 404}}, True),
        ({"error": {"message": "model 'x' not found"}}, True),
        ({"error": {"message": "Not Found", "type": "NotFoundError", "code": 404}}, False),
        ({"detail": "Not Found"}, False),
        ({"error": "Not Found"}, False),
        ("<html>404 page not found: no such model</html>", False),
    ],
)
def test_a_404_for_a_model_is_told_from_a_404_for_a_route(body, unknown):
    assert refusals.is_unknown_model(body) is unknown


@given(JSON)
def test_no_json_is_taken_for_an_answer_by_mistake(body):
    with pytest.raises(ResponseError):
        protocol.score_result(body, ["q"], ["d"])
    with pytest.raises(ResponseError):
        protocol.server_version(body)


@given(JSON | st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON))))
def test_the_names_of_models_are_names_or_an_error_of_ours(body):
    try:
        names = protocol.served_models(body)
    except ResponseError:
        return
    assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize("content", [b"", b"<html>", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_an_error_of_ours(content):
    with pytest.raises(ResponseError, match="Expected JSON"):
        protocol.parse_json(content)
