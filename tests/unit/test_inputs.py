"""What may be scored: texts, and the three forms of a request."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.client.client import ScoreClient
from helpers.errors import InputError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SIDES = st.one_of(TEXTS, st.lists(TEXTS, max_size=4))


@pytest.fixture
def client():
    # Nothing listens on port 9: a test that sends something fails.
    return ScoreClient("http://127.0.0.1:9", model="model", retries=0, timeout=5)


@given(query=SIDES, document=SIDES)
def test_the_three_forms_pass_and_every_other_is_refused(query, document):
    client = ScoreClient("http://127.0.0.1:9", model="model")
    left = 1 if isinstance(query, str) else len(query)
    right = 1 if isinstance(document, str) else len(document)
    if left and right and left in (1, right):
        sent = client.payload(query, document)
        assert sent == {"model": "model", "queries": query, "documents": document}
    else:
        with pytest.raises(InputError):
            client.score(query, document)


def test_lengths_that_do_not_fit_are_named(client):
    with pytest.raises(InputError) as caught:
        client.score(["a", "b", "c"], ["d", "e"])
    assert "3 queries and 2 documents" in str(caught.value)
    assert "one query with any number of documents, or lists of equal length" in str(caught.value)


@pytest.mark.parametrize("document", ["d", ["d"]])
def test_many_queries_for_one_document_are_told_to_repeat_it(client, document):
    with pytest.raises(InputError, match=r"3 queries and 1 document can.*repeat the document"):
        client.score(["a", "b", "c"], document)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "document is missing"),
        (3, "document is a number (int)"),
        (2.5, "document is a number (float)"),
        (True, "document is a number (bool)"),
        (float("nan"), "document is missing (nan)"),
        (pd.NA, "document is missing"),
        (b"bytes", "document is bytes"),
        (bytearray(b"bytes"), "document is bytearray"),
        ({"a": 1}, "document is a dict"),
        ({"a"}, "document is a set"),
        ((text for text in "ab"), "document is a generator"),
        (pd.DataFrame({"a": ["b"]}), "document is a DataFrame"),
        (object(), "document is a object"),
        ([], "documents is empty"),
        ((), "documents is empty"),
        (np.array([]), "documents is empty"),
        (pd.Series([], dtype=str), "documents is empty"),
        (["a", None], "documents[1] is missing"),
        (["a", 1], "documents[1] is a number"),
        (["a", ["b"]], "documents[1] is a list"),
        (["a", b"b"], "documents[1] is bytes"),
        (np.array([["a"], ["b"]]), "documents[0] is a list"),
        (pd.Series(["a", None]), "documents[1] is missing"),
        (np.array([1.5, 2.5]), "documents[0] is a number"),
        ("half \ud800", "not valid Unicode"),
        (["fine", "half \udfff"], "documents[1] is not valid Unicode"),
    ],
)
def test_what_is_no_text_is_refused_by_its_name_before_anything_is_sent(client, value, said):
    with pytest.raises(InputError) as caught:
        client.score("query", value)
    assert said in str(caught.value)


def test_the_query_is_checked_like_the_document(client):
    with pytest.raises(InputError, match=r"queries\[1\] is missing"):
        client.score(["a", None], ["b", "c"])


@pytest.mark.parametrize(
    "documents",
    [
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        pd.Series(["a", "b"], index=[7, 8]),
        pd.Series(["a", "b"], dtype="category"),
        pd.Index(["a", "b"]),
        pd.array(["a", "b"], dtype="string"),
    ],
)
def test_tuples_arrays_and_series_count_as_lists(client, documents):
    sent = client.payload("query", documents)["documents"]
    assert sent == ["a", "b"]
    assert {type(text) for text in sent} == {str}


class City(StrEnum):
    PARIS = "Paris, in France"


@pytest.mark.parametrize("text", [np.str_("Paris, in France"), City.PARIS])
def test_a_subclass_of_str_travels_as_its_text(client, text):
    assert client.payload("query", [text])["documents"] == ["Paris, in France"]
    assert type(client.payload("query", text)["documents"]) is str


def test_an_empty_text_is_a_text(client):
    assert client.payload("", [""])["documents"] == [""]


def test_an_option_that_json_can_not_hold_is_refused(client):
    with pytest.raises(InputError, match="JSON"):
        client.score("query", "document", chat_template_kwargs={"a": {1, 2}})
    with pytest.raises(InputError, match="JSON"):
        client.score("query", "document", chat_template_kwargs={"a": float("nan")})


def test_an_unknown_option_is_an_error_of_python(client):
    with pytest.raises(TypeError, match="softmax"):
        client.score("query", "document", softmax=True)
