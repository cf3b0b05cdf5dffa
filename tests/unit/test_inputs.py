"""What may be scored: texts, and the three forms of a request."""

from __future__ import annotations

import json
from collections import deque
from enum import StrEnum
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.bulk import score_pairs
from helpers.client.client import ScoreClient
from helpers.client.inputs import as_texts, positive_number, to_json, whole_number
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
    with pytest.raises(InputError, match=r"3 queries and 1 document cannot.*repeat the document"):
        client.score(["a", "b", "c"], document)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "document is missing"),
        (3, "document is of type int: expected a text (str)"),
        (2.5, "document is of type float"),
        (True, "document is of type bool"),
        (np.array(2.5), "document is of type float"),
        (float("nan"), "document is missing (nan)"),
        (pd.NA, "document is missing"),
        (b"bytes", 'document is of type bytes: expected a text (str); .decode("utf-8") makes'),
        (bytearray(b"bytes"), "document is of type bytearray"),
        ({"a": 1}, "document is of type dict"),
        ({"a"}, "document is of type set"),
        (pd.DataFrame({"a": ["b"]}), "document is a pandas DataFrame: give one of its columns"),
        (pa.table({"a": ["b"]}), "document is a pyarrow Table: give one of its columns"),
        (object(), "document is of type object"),
        ([], "documents is empty"),
        ((), "documents is empty"),
        (np.array([]), "documents is empty"),
        (pd.Series([], dtype=str), "documents is empty"),
        (["a", None], "documents[1] is missing"),
        (["a", 1], "documents[1] is of type int"),
        (["a", ["b"]], "documents[1] is of type list"),
        (["a", b"b"], "documents[1] is of type bytes"),
        (np.array([["a"], ["b"]]), "documents[0] is of type list"),
        (np.array([b"a", b"b"]), "documents[0] is of type bytes"),
        (pd.Series(["a", None]), "documents[1] is missing"),
        (pa.array(["a", None]), "documents[1] is missing (None)"),
        (np.array([1.5, 2.5]), "documents[0] is of type float"),
        ((text for text in ()), "documents is empty"),
        ((text for text in ("a", 1)), "documents[1] is of type int"),
        ("half \ud800", "document is not valid Unicode: character 5 is half of a surrogate pair"),
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


class Series:
    """A column as polars has it: it is no sequence, and only its own method makes a list of it."""

    def __init__(self, values):
        self._values = values

    def to_list(self):
        return list(self._values)


MANY = [
    ("a", "b"),
    np.array(["a", "b"]),
    np.array(["a", "b"], dtype=object),
    pd.Series(["a", "b"], index=[7, 8]),
    pd.Series(["a", "b"], dtype="category"),
    pd.Index(["a", "b"]),
    pd.array(["a", "b"], dtype="string"),
    pa.array(["a", "b"]),
    pa.chunked_array([["a"], ["b"]]),
    Series(["a", "b"]),
    deque(["a", "b"]),
    {"a": 1, "b": 2}.keys(),
    {1: "a", 2: "b"}.values(),
]


@pytest.mark.parametrize("documents", MANY, ids=lambda documents: type(documents).__name__)
def test_whatever_holds_texts_in_an_order_counts_as_a_list(client, documents):
    sent = client.payload("query", documents)["documents"]
    assert sent == ["a", "b"]
    assert {type(text) for text in sent} == {str}


def test_a_generator_counts_as_a_list(client):
    sent = client.payload((text for text in "cd"), (text for text in "ab"))
    assert (sent["queries"], sent["documents"]) == (["c", "d"], ["a", "b"])


@pytest.mark.parametrize("text", [np.array("Paris"), np.str_("Paris")], ids=["array", "str_"])
def test_a_text_of_numpy_is_a_single_text(client, text):
    assert as_texts(text, "document") == ["Paris"]


class City(StrEnum):
    PARIS = "Paris, in France"


@pytest.mark.parametrize("text", [np.str_("Paris, in France"), City.PARIS])
def test_a_subclass_of_str_travels_as_its_text(client, text):
    assert client.payload("query", [text])["documents"] == ["Paris, in France"]
    assert type(client.payload("query", text)["documents"]) is str


def test_an_empty_text_is_a_text(client):
    assert client.payload("", [""])["documents"] == [""]


def test_a_null_character_is_a_character_which_vllm_reads_as_well(client):
    assert client.payload("a\x00", "b")["queries"] == "a\x00"


@pytest.mark.parametrize(
    "options",
    [
        {"truncate_prompt_tokens": np.int64(8), "use_activation": np.bool_(False)},
        {"max_tokens_per_doc": pd.Series([5])[0], "priority": np.uint8(1)},
        {"chat_template_kwargs": {"a": np.float32(0.5), "b": np.array([1, 2])}},
        {"max_tokens_per_query": pd.DataFrame({"size": [4]}).iloc[0]["size"]},
        {"priority": pd.array([3], dtype="Int64")[0]},
    ],
)
def test_options_may_be_numbers_of_numpy_and_pandas(client, options):
    read = json.loads(to_json(client.payload("query", "document", **options)))
    expected = {
        "truncate_prompt_tokens": 8,
        "use_activation": False,
        "max_tokens_per_doc": 5,
        "chat_template_kwargs": {"a": 0.5, "b": [1, 2]},
        "max_tokens_per_query": 4,
    }
    for name in options:
        assert read[name] == expected.get(name, int(options.get("priority", 0)))
        assert type(read[name]) in (int, bool, dict)


ONE = [1, np.int64(1), np.uint8(1), np.array(1), pd.Series([1])[0], pd.array([1], dtype="Int64")[0]]


@pytest.mark.parametrize("number", ONE, ids=lambda number: type(number).__name__)
def test_a_whole_number_may_be_one_of_numpy_or_pandas(number):
    assert whole_number("it", number) == 1
    assert type(whole_number("it", number)) is int


@pytest.mark.parametrize(
    "wrong",
    [0, -1, 6, 1.0, np.float64(1), np.bool_(True), True, "1", None, pd.NA, [1], Fraction(1)],
)
def test_what_is_no_whole_number_of_the_span_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=r"^it must be a whole number from 1 to 5, not "):
        whole_number("it", wrong, 1, 5)


@pytest.mark.parametrize("number", [5, 5.0, np.float32(5), np.int64(5), np.float16(5), Fraction(5)])
def test_seconds_may_be_a_number_of_numpy_or_pandas(number):
    assert positive_number("it", number) == 5.0
    assert type(positive_number("it", number)) is float


@pytest.mark.parametrize(
    "wrong", [0, -1, np.float32("nan"), float("inf"), True, np.bool_(1), "5", None]
)
def test_what_is_no_number_of_seconds_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=r"^it must be a number of seconds above 0, not "):
        positive_number("it", wrong)


def test_zero_seconds_are_allowed_only_where_they_mean_something():
    assert positive_number("it", 0, zero=True) == 0.0
    with pytest.raises(InputError, match="from 0 up"):
        positive_number("it", -1, zero=True)


def test_an_option_that_json_can_not_hold_is_refused(client):
    with pytest.raises(InputError, match="JSON"):
        client.score("query", "document", chat_template_kwargs={"a": {1, 2}})
    with pytest.raises(InputError, match="JSON"):
        client.score("query", "document", chat_template_kwargs={"a": np.float32("nan")})


def test_an_unknown_option_is_an_error_of_python(client):
    with pytest.raises(TypeError, match=r"'softmax'.*use_activation"):
        client.score("query", "document", softmax=True)
    with pytest.raises(TypeError, match="'softmax'"):
        client.rerank("query", "document", softmax=True)
    with pytest.raises(TypeError, match="'softmax'"):
        client.payload("query", "document", softmax=True)
    with pytest.raises(TypeError, match="'softmax'"):
        score_pairs(client, ["query"], ["document"], softmax=True)
