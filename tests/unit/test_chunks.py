"""Long documents without vLLM: where they are cut, what is sent, what becomes of the scores."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd
import pytest
from fault_server import answer, good
from hypothesis import given
from hypothesis import strategies as st

from helpers.client import protocol
from helpers.client.chunks import Chunk, LongScoreResult, TokenizeResult, cut
from helpers.errors import BadRequestError, InputError, NotFoundError, ResponseError

QUERY = "Which country?"
CHUNKS = (
    Chunk("The river rises in a forest.", range(0, 6)),
    Chunk("forest. It ends in <Romania>.", range(5, 11)),
)


def tokens_of(text):
    """Split as a vocabulary does: pieces of at most three characters, punctuation alone."""
    return re.findall(r"\w{1,3}|[^\w\s]", text)


def count(text):
    return len(tokens_of(text))


def tokenizing(handler, payload):
    """Play vLLM's routes for tokens and for scores."""
    if handler.path != "/tokenize":
        return good(handler, payload)
    names = tokens_of(payload["prompt"])
    ids = list(range(len(names)))
    answered = {"count": len(ids), "max_model_len": 512, "tokens": ids, "token_strs": names}
    handler.send_json(200, answered)


def result_of(*scores, aggregate="max"):
    chunks = tuple(Chunk(f"chunk {row}", range(row, row + 1)) for row in range(len(scores)))
    return LongScoreResult(QUERY, chunks, scores, aggregate, "model", 7)


# -- cutting ------------------------------------------------------------------------------------


def test_a_document_that_fits_stays_whole():
    text = "  Two\n\nlines. "
    assert cut(text, count, chunk_tokens=4) == (Chunk(text, range(count(text))),)


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_a_document_of_blanks_is_one_chunk_without_tokens(text):
    # A tokenizer may well see tokens in blanks.
    assert cut(text, len, chunk_tokens=1, overlap_tokens=0) == (Chunk("", range(0)),)


def test_chunks_are_as_long_as_they_may_be_and_share_an_overlap():
    text = "one two\nthree four five six seven"
    words = cut(text, lambda part: len(part.split()), chunk_tokens=4, overlap_tokens=2)
    assert [chunk.text for chunk in words] == [
        "one two\nthree four",
        "three four five six",
        "five six seven",
    ]
    assert [chunk.tokens for chunk in words] == [range(0, 4), range(2, 6), range(4, 7)]


def test_without_an_overlap_the_chunks_are_the_document():
    text = "one two three four five six seven"
    chunks = cut(text, count, chunk_tokens=4, overlap_tokens=0)
    assert " ".join(chunk.text for chunk in chunks) == text
    assert [chunk.tokens.start for chunk in chunks[1:]] == [c.tokens.stop for c in chunks[:-1]]


def test_only_a_word_that_is_longer_than_a_chunk_is_broken():
    chunks = cut("short " + "x" * 40 + " words", count, chunk_tokens=5, overlap_tokens=0)
    assert chunks[0].text == "short"
    assert " ".join(chunk.text for chunk in chunks[1:]).replace("x ", "x") == "x" * 40 + "words"
    assert all(len(chunk.tokens) <= 5 for chunk in chunks)
    assert len(chunks) <= 6


def test_a_text_without_spaces_is_cut_between_characters():
    chunks = cut("東京" * 50, len, chunk_tokens=30, overlap_tokens=10)
    assert [chunk.tokens for chunk in chunks] == [
        range(0, 30),
        range(20, 50),
        range(40, 70),
        range(60, 90),
        range(80, 100),
    ]


def test_an_overlap_that_leaves_no_room_for_the_next_word_is_left_out():
    chunks = cut("aa bb cccccccccccc dd", count, chunk_tokens=4, overlap_tokens=3)
    assert [chunk.text for chunk in chunks] == ["aa bb", "cccccccccccc", "dd"]
    assert [chunk.tokens for chunk in chunks] == [range(0, 2), range(2, 6), range(6, 7)]


@given(
    st.lists(st.text("abé東.", min_size=1, max_size=30), min_size=1, max_size=60),
    st.integers(1, 30),
    st.data(),
)
def test_no_word_is_lost_or_broken_and_no_chunk_too_long(words, chunk_tokens, data):
    # A token is a character here, so that a span can be looked up.
    overlap_tokens = data.draw(st.integers(0, chunk_tokens - 1))
    chunks = cut(
        " ".join(words),
        lambda text: len(text.replace(" ", "")),
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
    )
    ends = list(accumulate(map(len, words)))
    inside = {
        place
        for end, word in zip(ends, words, strict=True)
        if len(word) > chunk_tokens
        for place in range(end - len(word), end)
    }
    for chunk in chunks:
        span = chunk.tokens
        assert chunk.text.replace(" ", "") == "".join(words)[span.start : span.stop]
        assert 0 < len(span) <= chunk_tokens
        assert {span.start, span.stop} <= {0, *ends} | inside
    for before, after in pairwise(chunks):
        assert before.tokens.start < after.tokens.start <= before.tokens.stop < after.tokens.stop
        assert before.tokens.stop - after.tokens.start <= overlap_tokens
    assert (chunks[0].tokens.start, chunks[-1].tokens.stop) == (0, ends[-1])


@given(st.lists(st.text("ab", min_size=1, max_size=12), min_size=200, max_size=400))
def test_a_chunk_costs_few_questions(words):
    asked = []
    chunks = cut(" ".join(words), lambda text: asked.append(text) or count(text))
    assert len(asked) <= 12 * len(chunks) + 1


def test_a_broken_word_of_any_length_costs_few_questions():
    asked = []
    text = "a " * 100 + "b" * 30_000
    chunks = cut(text, lambda part: asked.append(part) or count(part))
    assert len(asked) <= 12 * len(chunks) + 1


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"chunk_tokens": 0}, "chunk_tokens must be a whole number from 1"),
        ({"chunk_tokens": 2.5}, "chunk_tokens must be a whole number from 1"),
        ({"chunk_tokens": True}, "chunk_tokens must be a whole number from 1"),
        ({"overlap_tokens": -1}, "overlap_tokens must be a whole number from 0"),
        ({"chunk_tokens": 8, "overlap_tokens": 8}, "from 0 to 7"),
    ],
)
def test_sizes_that_lead_nowhere_are_refused(sizes, said):
    with pytest.raises(InputError, match=said):
        cut("a document", count, **sizes)


def test_sizes_may_be_numbers_of_numpy():
    text = "one two three four five six seven"
    sizes = {"chunk_tokens": np.int64(4), "overlap_tokens": np.int32(2)}
    assert cut(text, count, **sizes) == cut(text, count, chunk_tokens=4, overlap_tokens=2)


def test_a_chunk_that_can_not_hold_one_character_is_refused():
    with pytest.raises(InputError, match="chunk_tokens=3 is too small: the character '🗼'"):
        cut("🗼 tower", lambda text: len(text.encode()), chunk_tokens=3, overlap_tokens=0)


def test_a_document_that_is_no_text_is_refused():
    with pytest.raises(InputError, match="document is missing"):
        cut(None, count)


# -- the result ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("aggregate", "score"), [("max", 0.75), ("mean", 0.5), ("first", 0.25)])
def test_a_score_is_made_of_the_chunks_scores(aggregate, score):
    assert result_of(0.25, 0.75, 0.5, aggregate=aggregate).score == score
    assert result_of(0.25, 0.75, 0.5).aggregated(aggregate) == score


def test_the_best_chunk_is_the_first_with_the_highest_score():
    assert result_of(0.1, 0.9, 0.9).best.text == "chunk 1"


def test_a_frame_has_a_row_for_each_chunk():
    frame = LongScoreResult(QUERY, CHUNKS, (0.1, 0.9), "max", "model", 20).to_frame()
    expected = {"start": [0, 5], "stop": [6, 11], "score": [0.1, 0.9]}
    texts = [chunk.text for chunk in CHUNKS]
    pd.testing.assert_frame_equal(frame, pd.DataFrame({**expected, "text": texts}))


def test_a_result_shows_where_the_score_comes_from():
    result = LongScoreResult(QUERY, CHUNKS, (0.1, 0.9), "max", "model", 20)
    assert "0.9000 by max of 2 chunks" in repr(result)
    assert "5–11    0.9000  forest. It ends" in repr(result)
    page = result._repr_html_()
    assert "&lt;Romania&gt;" in page and "<Romania>" not in page


def test_a_server_that_does_not_count_its_tokens_is_shown_as_such():
    result = LongScoreResult(QUERY, CHUNKS, (0.1, 0.9), "max", "model", None)
    assert "(unknown number of tokens)" in repr(result)


@pytest.mark.parametrize("scores", [(), (0.1,), (0.1, 0.2, 0.3)])
def test_chunks_and_scores_must_fit(scores):
    with pytest.raises(InputError, match="one length"):
        LongScoreResult(QUERY, CHUNKS, scores, "max", "model", 20)


def test_an_unknown_aggregate_is_named_with_those_there_are():
    with pytest.raises(InputError, match="one of max, mean, first, not 'median'"):
        result_of(0.1).aggregated("median")


# -- the wire -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"tokens": [1], "max_model_len": 512},
        {"tokens": [1, 2], "token_strs": ["a"], "max_model_len": 512},
        {"tokens": [1], "token_strs": [None], "max_model_len": 512},
        {"tokens": ["1"], "token_strs": ["a"], "max_model_len": 512},
        {"tokens": [1], "token_strs": ["a"], "max_model_len": None},
    ],
)
def test_tokens_that_can_not_be_used_are_refused(body):
    with pytest.raises(ResponseError, match="Expected"):
        protocol.tokenize_result(body, "a")


# -- the client ---------------------------------------------------------------------------------


def test_tokens_are_asked_for_as_documented(serve, client_of):
    server = serve(tokenizing)
    result = client_of(server).tokenize("Romania")
    assert result == TokenizeResult("Romania", ("Rom", "ani", "a"), (0, 1, 2), 512)
    assert len(result) == 3
    assert server.paths[-1] == "/tokenize"
    assert server.payloads[-1]["prompt"] == "Romania"
    assert server.payloads[-1]["add_special_tokens"] is False


def test_a_long_document_is_scored_in_one_request(serve, client_of):
    server = serve(tokenizing)
    text = "one two three four five six seven"
    result = client_of(server).score_long(QUERY, text, chunk_tokens=4, overlap_tokens=0)
    chunks = cut(text, count, chunk_tokens=4, overlap_tokens=0)
    assert result.chunks == chunks
    assert server.paths.count("/score") == 1
    assert server.payloads[-1]["queries"] == QUERY
    assert server.payloads[-1]["documents"] == [chunk.text for chunk in chunks]
    assert result.score == max(result.scores)


def test_chunks_are_cut_once_for_many_queries(serve, client_of):
    server = serve(tokenizing)
    client = client_of(server)
    chunks = client.chunks("one two three four five", chunk_tokens=4, overlap_tokens=1)
    asked = server.paths.count("/tokenize")
    results = [client.score_long(query, chunks, aggregate="mean") for query in ("a", "b")]
    assert server.paths.count("/tokenize") == asked > 0
    assert [result.chunks for result in results] == [chunks] * 2
    assert [result.aggregate for result in results] == ["mean"] * 2


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((QUERY, "text"), {"aggregate": "median"}, "one of max, mean, first"),
        (([QUERY, QUERY], "text"), {}, "score_long takes one query"),
        ((QUERY, ["text", "text"]), {}, "once for each document"),
        ((QUERY, []), {}, "no chunks"),
        ((QUERY, None), {}, "text \\(str\\) or chunks"),
        ((QUERY, "text"), {"overlap_tokens": 500}, "overlap_tokens must be .* from 0 to 127"),
        ((QUERY, "text"), {"aggregate": ["max"]}, "one of max, mean, first"),
    ],
)
def test_what_can_not_be_scored_is_refused_before_anything_is_sent(
    serve, client_of, arguments, options, said
):
    server = serve(tokenizing)
    with pytest.raises(InputError, match=said):
        client_of(server).score_long(*arguments, **options)
    assert server.paths == []


def test_chunks_that_are_too_long_for_the_query_are_told_so(serve, client_of):
    refusal = {"error": {"message": "This model's maximum context length is 512 tokens."}}
    server = serve(answer(400, refusal))
    with pytest.raises(InputError, match=r"chunk of 6 tokens .* smaller chunk_tokens="):
        client_of(server).score_long(QUERY, CHUNKS)


def test_another_refusal_stays_what_it_is(serve, client_of):
    server = serve(answer(400, {"error": {"message": "No."}}))
    with pytest.raises(BadRequestError, match="No"):
        client_of(server).score_long(QUERY, CHUNKS)


def test_a_wrong_model_is_told_from_a_missing_route(serve, client_of):
    unknown = {"error": {"message": "The model `x` does not exist.", "code": 404}}
    server = serve(answer(404, unknown), answer(404, {"detail": "Not Found"}))
    client = client_of(server, model="x")
    with pytest.raises(NotFoundError, match="no model 'x'"):
        client.tokenize("text")
    with pytest.raises(NotFoundError, match="no route /tokenize"):
        client.tokenize("text")
