"""The judged set of notebook 15 is as its data card says."""

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
    assert (len(data.documents), len(data.queries)) == (210, 180)
    assert len(set(data.documents.values())) == 210 and len(set(data.queries.values())) == 180
    assert len({word_of(identifier) for identifier in data.documents}) == 30


def test_each_query_has_one_answer_and_each_answer_one_query(data):
    answers = list(data.judgments.values())
    assert all(list(grades.values()) == [1] for grades in answers)
    assert len({document for grades in answers for document in grades}) == 180
    for query_id, grades in data.judgments.items():
        assert list(grades) == [query_id.replace("-q", "-")]


def test_queries_avoid_the_house_word_and_their_answers_use_it(data):
    for query_id, grades in data.judgments.items():
        word = word_of(query_id).rstrip("y")  # ribbon, ribbons; the plural of auntie is not used
        assert word not in data.queries[query_id].lower()
        assert word in data.documents[next(iter(grades))].lower()


def test_each_house_word_has_six_answers_and_one_decoy_that_answers_nothing(data):
    by_word = defaultdict(set)
    for identifier in data.documents:
        by_word[word_of(identifier)].add(identifier.rpartition("-")[2])
    assert set(map(frozenset, by_word.values())) == {frozenset("0123456")}
    judged = {document for grades in data.judgments.values() for document in grades}
    assert not any(identifier.endswith("-0") for identifier in judged)
