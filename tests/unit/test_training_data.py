"""Bad training data is refused before a training starts, with what to do about it."""

import pytest

from helpers.errors import InputError
from helpers.search import JudgedSet, check_training_data

DOCUMENTS = {f"d{n}": f"document {n}" for n in range(6)}


def judged(*numbers, **changes):
    """Make a set in which query n is answered by document n."""
    parts = {
        "name": "made",
        "documents": DOCUMENTS,
        "queries": {f"q{n}": f"query {n}" for n in numbers},
        "judgments": {f"q{n}": {f"d{n}": 1} for n in numbers},
    }
    return JudgedSet(**(parts | changes))


def words(query, document):
    return len(query.split()) + len(document.split())


def check(train, held_out, max_tokens=100):
    return check_training_data(train, held_out, words, max_tokens)


def test_good_data_is_counted():
    found = check(judged(0, 1, 2), judged(3, 4))
    assert found.loc["train"].to_dict() == {
        "queries": 3,
        "relevant": 3,
        "too_long": 0,
        "tokens_cut": 0,
    }
    assert found.loc["held-out", "queries"] == 2


def test_texts_that_are_too_long_are_counted_with_what_is_cut():
    long = judged(0, 1, documents=DOCUMENTS | {"d1": "w " * 50})
    found = check(long, judged(3, 4), max_tokens=10)
    assert found.too_long.to_dict() == {"train": 1, "held-out": 0}
    assert found.loc["train", "tokens_cut"] == 42


@pytest.mark.parametrize("parts", [(judged(0), judged(1, 2)), (judged(1, 2), judged(0))])
def test_a_single_query_is_refused(parts):
    with pytest.raises(InputError, match="single query"):
        check(*parts)


def test_a_query_without_a_relevant_document_is_refused_and_named():
    train = judged(0, 1, judgments={"q0": {"d0": 0}, "q1": {"d1": 1}})
    with pytest.raises(InputError, match=r"1 of 2 queries of the part train .*'q0'"):
        check(train, judged(3, 4))


def test_grades_below_the_sets_own_bar_are_no_positives():
    with pytest.raises(InputError, match="grade 2 or more"):
        check(judged(0, 1, relevant_from=2), judged(3, 4))


def test_a_query_in_both_parts_is_refused_also_under_another_identifier():
    again = judged(3, 4, queries={"q3": " Query 0", "q4": "query 4"})
    with pytest.raises(InputError, match="1 queries are in both parts"):
        check(judged(0, 1), again)


def test_a_relevant_document_in_both_parts_is_refused():
    leaking = judged(3, 4, judgments={"q3": {"d0": 1}, "q4": {"d4": 1}})
    with pytest.raises(InputError, match=r"1 relevant documents are in both .*'document 0'"):
        check(judged(0, 1), leaking)


def test_a_judged_document_that_is_missing_is_refused():
    with pytest.raises(InputError, match="'elsewhere'"):
        check(judged(0, 1, judgments={"q0": {"elsewhere": 1}, "q1": {"d1": 1}}), judged(3, 4))
