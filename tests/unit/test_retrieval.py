"""Searching: by words, by vectors, merged, and in a reranker's order."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import InputError, ScoreError
from helpers.search.retrieval import (
    TEXTS_A_REQUEST,
    Bm25Index,
    VectorIndex,
    candidates,
    fuse,
    rerank,
)

DOCUMENTS = {
    "paris": "The capital of France is Paris.",
    "seine": "The Seine flows through Paris.",
    "whale": "Whales are mammals.",
}
RUNS = st.dictionaries(
    st.sampled_from("pq"), st.lists(st.sampled_from("abcdef"), unique=True), min_size=1
)


# -- words --------------------------------------------------------------------------------------


def test_words_find_the_documents_that_share_them_best_first():
    index = Bm25Index(DOCUMENTS)
    assert index.search({"q": "capital Paris"}) == {"q": ["paris", "seine"]}


def test_words_match_by_their_stems_and_little_words_do_not_count():
    index = Bm25Index(DOCUMENTS)
    assert index.search({"q": "is the flowing a whale?"})["q"] == ["seine", "whale"] or (
        index.search({"q": "is the flowing a whale?"})["q"] == ["whale", "seine"]
    )
    assert index.search({"q": "is of the"}) == {"q": []}


def test_what_shares_no_word_is_not_found_however_deep_the_search():
    found = Bm25Index(DOCUMENTS).search({"one": "mammals", "other": "Tokio"}, depth=99)
    assert found == {"one": ["whale"], "other": []}


def test_a_search_by_words_returns_no_more_than_its_depth():
    assert len(Bm25Index(DOCUMENTS).search({"q": "Paris"}, depth=1)["q"]) == 1


def test_documents_with_the_same_score_stand_in_their_own_order():
    texts = {f"d{n}": ("a river flows" if n % 2 else "a lake lies still") for n in range(200)}
    odd = [name for name in texts if int(name[1:]) % 2]
    assert Bm25Index(texts).search({"q": "river"}, depth=30)["q"] == odd[:30]
    assert Bm25Index(texts).search({"q": "river"}, depth=200)["q"] == odd


@pytest.mark.parametrize("texts", [[], [""], ["is of the", "the"]])
def test_documents_without_a_word_to_search_by_are_refused_with_their_number(texts):
    with pytest.raises(InputError, match=f"None of the {len(texts)} documents holds a word"):
        Bm25Index(dict(enumerate(texts)))


def test_an_empty_document_is_not_found_and_an_empty_query_finds_nothing():
    index = Bm25Index({**DOCUMENTS, "empty": ""})
    assert index.search({"none": "", "q": "whales"}) == {"none": [], "q": ["whale"]}
    assert index.search({}) == {}


@pytest.mark.parametrize("package", ["bm25s", "Stemmer"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ScoreError, match=f"{package}.*pip install bm25s PyStemmer"):
        Bm25Index(DOCUMENTS)


# -- vectors ------------------------------------------------------------------------------------


def by_letters(texts):
    """Return for each text how many a, b and c it has, and a 0.1 so that no vector is empty."""
    return np.array([[*(text.count(letter) for letter in "abc"), 0.1] for text in texts])


def test_vectors_find_by_direction_and_not_by_length():
    index = VectorIndex({"long": "a" * 50 + "c" * 40, "near": "aab", "far": "bbc"}, by_letters)
    assert index.search({"q": "a"}) == {"q": ["near", "long", "far"]}


def test_similarities_are_the_cosines_of_the_rows_in_their_order():
    index = VectorIndex(DOCUMENTS, by_letters)
    pairs = pd.DataFrame(
        [("p", "whale", "mammals"), ("q", "paris", "Seine"), ("p", "seine", "mammals")],
        columns=["query_id", "document_id", "query"],
    )
    expected = []
    for row in pairs.itertuples():
        one, other = by_letters([row.query, DOCUMENTS[row.document_id]])
        expected.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    np.testing.assert_allclose(index.similarities(pairs), expected)


def test_a_search_among_no_documents_is_refused_and_one_for_nothing_finds_nothing():
    with pytest.raises(InputError, match="no document to search in"):
        VectorIndex({}, by_letters)
    assert VectorIndex(DOCUMENTS, by_letters).search({}) == {}


def test_a_search_by_vectors_returns_the_nearest_up_to_its_depth():
    index = VectorIndex({"a": "a", "b": "b", "c": "c"}, by_letters)
    assert index.search({"one": "aab", "other": "ccb"}, depth=2) == {
        "one": ["a", "b"],
        "other": ["c", "b"],
    }


def test_equally_near_documents_keep_their_order():
    index = VectorIndex({f"d{row}": "ab" for row in range(30)}, by_letters)
    assert index.search({"q": "a"})["q"] == [f"d{row}" for row in range(30)]


def test_documents_are_embedded_once_and_in_parts():
    sizes = []

    def embed(texts):
        sizes.append(len(texts))
        return by_letters(texts)

    count = 2 * TEXTS_A_REQUEST + 1
    index = VectorIndex({str(row): "abc"[row % 3] for row in range(count)}, embed)
    assert sizes == [TEXTS_A_REQUEST, TEXTS_A_REQUEST, 1]
    found = index.search({"q": "b"}, depth=count)["q"]
    assert len(set(found)) == count
    assert found[0] == "1"
    assert sizes[3:] == [1]


def test_a_vector_of_zeros_is_near_to_nothing_and_breaks_nothing():
    index = VectorIndex({"empty": "", "full": "a"}, lambda texts: by_letters(texts)[:, :3])
    assert index.search({"q": "a"})["q"] == ["full", "empty"]


# -- both ---------------------------------------------------------------------------------------


def test_a_document_that_both_runs_found_comes_before_one_at_the_top_of_a_single_run():
    first, second = {"q": ["a", "b", "c"]}, {"q": ["d", "b", "e"]}
    assert fuse(first, second)["q"][0] == "b"


def test_points_are_those_of_the_paper():
    # c has 1/63 + 1/61 = 0.03227, a has 1/61 + 1/64 = 0.03202, b has 1/62.
    assert fuse({"q": ["a", "b", "c"]}, {"q": ["c", "x", "y", "a"]})["q"][:2] == ["c", "a"]
    # With the constant 0 the first place counts twice as much as the second.
    assert fuse({"q": ["a", "b"]}, {"q": ["c", "b"]}, constant=0)["q"] == ["a", "b", "c"]


def test_a_query_that_one_run_does_not_have_is_taken_from_the_other():
    assert fuse({"p": ["a"]}, {"q": ["b"], "p": []}) == {"p": ["a"], "q": ["b"]}


@given(RUNS, RUNS, st.integers(0, 8))
def test_fusion_invents_and_repeats_nothing(first, second, depth):
    fused = fuse(first, second, depth=depth)
    assert fused.keys() == first.keys() | second.keys()
    for query_id, found in fused.items():
        everything = {*first.get(query_id, []), *second.get(query_id, [])}
        assert len(found) == len(set(found)) == min(depth, len(everything))
        assert set(found) <= everything


@given(RUNS)
def test_a_run_merged_with_itself_stays_as_it_was(run):
    assert fuse(run, run) == run == fuse(run)


# -- the reranker's order -----------------------------------------------------------------------


def scored(**scores):
    """Return a frame of scores for the query "q"."""
    rows = [("q", document_id, score) for document_id, score in scores.items()]
    return pd.DataFrame(rows, columns=["query_id", "document_id", "score"])


def test_each_pair_of_several_runs_is_a_candidate_once_with_its_texts():
    first, second = {"q": ["paris", "seine", "whale"]}, {"q": ["seine", "paris"], "p": ["whale"]}
    frame = candidates({"q": "Paris?", "p": "Whale?"}, DOCUMENTS, first, second, depth=2)
    assert frame.to_numpy().tolist() == [
        ["q", "paris", "Paris?", DOCUMENTS["paris"]],
        ["q", "seine", "Paris?", DOCUMENTS["seine"]],
        ["p", "whale", "Whale?", DOCUMENTS["whale"]],
    ]


def test_no_candidates_are_an_empty_frame_with_its_columns():
    frame = candidates({"q": "?"}, DOCUMENTS, {"q": []}, depth=5)
    assert list(frame.columns) == ["query_id", "document_id", "query", "document"]
    assert frame.empty


def test_reranking_reorders_the_head_and_leaves_the_rest():
    run = {"q": ["a", "b", "c", "d"]}
    scores = scored(a=0.1, b=0.2, c=0.9, d=0.99)
    assert rerank(run, scores, depth=3) == {"q": ["c", "b", "a", "d"]}
    assert rerank(run, scores, depth=99) == {"q": ["d", "c", "b", "a"]}
    assert rerank(run, scores, depth=0) == run == {"q": ["a", "b", "c", "d"]}


def test_equal_scores_keep_the_order_in_which_the_documents_were_found():
    assert rerank({"q": ["b", "a", "c"]}, scored(a=1.0, b=1.0, c=2.0), 3) == {"q": ["c", "b", "a"]}


def test_a_candidate_without_a_score_is_named():
    with pytest.raises(InputError, match="Document b is among the first 2 of query q"):
        rerank({"q": ["a", "b"]}, scored(a=1.0), depth=2)
    assert rerank({"q": ["a", "b"]}, scored(a=1.0), depth=1) == {"q": ["a", "b"]}


@given(RUNS, st.integers(0, 8), st.randoms())
def test_reranking_neither_adds_nor_loses_a_document(run, depth, random):
    rows = [(q, d, random.random()) for q, found in run.items() for d in found]
    scores = pd.DataFrame(rows, columns=["query_id", "document_id", "score"])
    again = rerank(run, scores, depth)
    assert {q: sorted(found) for q, found in again.items()} == {
        q: sorted(found) for q, found in run.items()
    }
