"""The judged set of notebook 15 is as its data card says."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from helpers.search import load_judged

FOLDER = Path(__file__).parents[2] / "notebooks" / "data" / "northlight"


@pytest.fixture(scope="module")
def data():
    return load_judged(FOLDER)


def word_of(identifier):
    return identifier.rpartition("-")[0]


def test_the_numbers_are_those_of_the_card(data):
    assert (len(data.documents), len(data.queries)) == (240, 210)
    assert len(set(data.documents.values())) == 240 and len(set(data.queries.values())) == 210
    assert len({word_of(identifier) for identifier in data.documents}) == 30


def answers_of(data):
    """The documents of grade 2, for each query."""
    return {q: [d for d, grade in g.items() if grade == 2] for q, g in data.judgments.items()}


def test_each_query_has_one_answer_and_each_answer_one_query(data):
    answers = answers_of(data)
    assert len({document for found in answers.values() for document in found}) == 210
    assert all(found == [query_id.replace("-q", "-")] for query_id, found in answers.items())


def test_the_other_documents_of_the_house_word_have_grade_1(data):
    for query_id, grades in data.judgments.items():
        word, own = word_of(query_id), query_id.replace("-q", "-")
        others = {f"{word}-{number}" for number in range(1, 8)} - {own}
        assert {document for document, grade in grades.items() if grade == 1} == others
        assert len(grades) == 7


def test_queries_avoid_the_house_word_and_their_answers_use_it(data):
    for query_id, grades in data.judgments.items():
        word = word_of(query_id).rstrip("y")  # ribbon, ribbons; the plural of auntie is not used
        assert word not in data.queries[query_id].lower()
        assert all(word in data.documents[document].lower() for document in grades)


def plain_words(texts):
    """The words, without an s at their end, that all queries of a house word share."""
    shared = (
        {
            word.rstrip("s")
            for word in re.findall("[a-z]+", text.lower().replace("lorries", "lorry"))
        }
        for text in texts
    )
    return set.intersection(*shared) - {"", "a", "for", "in", "of", "the", "with", "without"}


def test_answers_avoid_the_plain_words_and_the_decoy_uses_them(data):
    for word in {word_of(identifier) for identifier in data.documents}:
        shared = plain_words(t for q, t in data.queries.items() if word_of(q) == word)
        assert shared
        for identifier, text in data.documents.items():
            if word_of(identifier) == word:
                found = shared & plain_words([text])
                assert bool(found) == identifier.endswith("-0"), (identifier, found)


def test_each_house_word_has_seven_answers_and_one_decoy_that_answers_nothing(data):
    by_word = defaultdict(set)
    for identifier in data.documents:
        by_word[word_of(identifier)].add(identifier.rpartition("-")[2])
    assert set(map(frozenset, by_word.values())) == {frozenset("01234567")}
    judged = {document for grades in data.judgments.values() for document in grades}
    assert not any(identifier.endswith("-0") for identifier in judged)
