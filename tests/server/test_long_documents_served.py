"""Tokens, truncation and chunks against a real server."""

from __future__ import annotations

import pytest

from helpers import corpus
from helpers.client.chunks import CHUNK_TOKENS
from helpers.errors import InputError

# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.01

STORIES = list(corpus.long_documents().itertuples())
STORY = STORIES[5]
CUT = {"truncate_prompt_tokens": -1}


def test_the_tokens_of_a_text_are_those_of_the_model(client):
    result = client.tokenize("Unbelievably long texts")
    assert result.tokens[:2] == ("un", "##bel")
    assert len(result) == len(result.ids) == len(result.tokens)
    assert result.max_model_len == 512
    assert len(client.tokenize("Unbelievably", add_special_tokens=True)) == 5 + 2


def test_the_tokens_of_a_pair_are_those_of_its_texts_and_three_more(client):
    parts = [len(client.tokenize(text)) for text in (STORY.query, STORY.answer)]
    assert client.score(STORY.query, STORY.answer).prompt_tokens == sum(parts) + 3


@pytest.mark.parametrize("row", [STORIES[0], STORY], ids=lambda row: row.document_id)
def test_chunks_add_up_to_the_document(client, row):
    chunks = client.chunks(row.text)
    assert len(chunks) > 1
    assert chunks[-1].tokens.stop == len(client.tokenize(row.text))
    for chunk in chunks:
        assert chunk.text in row.text
        assert len(chunk.tokens) == len(client.tokenize(chunk.text)) <= CHUNK_TOKENS


@pytest.mark.parametrize(
    "text",
    [
        "東京は日本の首都です。" * 40,
        "a\x00b " * 200,
        "🗼 é ﬁ \u202e " * 80,
        "x" * 2_000,
        "\u00a0" * 99,
    ],
    ids=["without spaces", "control characters", "unknown tokens", "one word", "blanks"],
)
def test_odd_texts_are_cut_and_scored(client, text):
    result = client.score_long("query", text, chunk_tokens=40, overlap_tokens=8)
    assert all(len(chunk.tokens) <= 40 for chunk in result.chunks)
    assert 0 <= result.score <= 1


def test_a_chunk_has_the_score_that_it_has_alone(client):
    result = client.score_long(STORY.query, STORY.text)
    alone = client.score(STORY.query, [chunk.text for chunk in result.chunks])
    assert result.scores == pytest.approx(alone.scores, abs=CLOSE)
    assert result.prompt_tokens == alone.prompt_tokens


def test_query_and_chunk_that_are_too_long_together_are_refused(client):
    with pytest.raises(InputError, match="smaller chunk_tokens="):
        client.score_long("word " * 100, STORY.text, chunk_tokens=500)


def test_an_answer_at_the_end_is_lost_by_truncation_and_noticed_by_chunks(client):
    truncated, best = [], []
    for row in STORIES:
        without = row.text.replace(row.answer, "")
        with_answer, without_answer = client.score(row.query, [row.text, without], **CUT)
        truncated.append(with_answer - without_answer)
        scores = [client.score_long(row.query, text).score for text in (row.text, without)]
        best.append(scores[0] - scores[1])
    assert max(map(abs, truncated)) < CLOSE, "the end was read"
    assert sum(drop > CLOSE for drop in best) >= 8, best


def test_left_truncation_loses_the_query_of_a_cross_encoder(client):
    # What the notebook warns of. When it fails, vLLM keeps the query: say so there.
    queries = [STORY.query, "How do bees keep warm?"]
    left = client.score(queries, [STORY.text] * 2, truncation_side="left", **CUT).scores
    right = client.score(queries, [STORY.text] * 2, **CUT).scores
    assert left[0] == pytest.approx(left[1], abs=CLOSE)
    assert right[0] != pytest.approx(right[1], abs=CLOSE)
