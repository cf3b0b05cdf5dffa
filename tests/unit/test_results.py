"""The result: what it holds, how it looks."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.client.results import ROWS_SHOWN, ScoreResult
from helpers.errors import InputError


def result(scores, documents=None, query="q"):
    documents = documents or [f"document {row}" for row in range(len(scores))]
    return ScoreResult((query,) * len(scores), tuple(documents), tuple(scores), "model", 7)


class Cells(HTMLParser):
    """Collect the tags and the text of a table as a browser would see them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_single_score_is_a_number():
    assert result([0.25]).score == 0.25


def test_several_scores_are_not_passed_off_as_one():
    with pytest.raises(InputError, match="3 scores"):
        _ = result([0.1, 0.2, 0.3]).score


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InputError, match="2, 1 and 2"):
        ScoreResult(("q", "q"), ("d",), (0.1, 0.2), "model", 7)


def test_a_result_can_be_counted_and_gone_through():
    assert len(result([0.1, 0.2])) == 2
    assert list(result([0.1, 0.2])) == [0.1, 0.2]


def test_a_result_becomes_a_frame():
    frame = result([0.5, 0.25]).to_frame()
    assert list(frame.columns) == ["query", "document", "score"]
    assert frame["document"].tolist() == ["document 0", "document 1"]
    assert frame["score"].tolist() == [0.5, 0.25]


@given(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 0.5, 1.0]), min_size=1))
def test_ranking_sorts_the_pairs_and_keeps_ties_in_order(scores):
    ranked = result(scores).ranked()
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    assert list(ranked.scores) == [scores[row] for row in order]
    assert list(ranked.documents) == [f"document {row}" for row in order]


def test_ranking_leaves_the_result_as_it_was():
    before = result([0.1, 0.9])
    before.ranked()
    assert before.scores == (0.1, 0.9)


def test_texts_are_shown_as_text_and_never_as_html():
    attack = "<script>alert('x')</script>"
    cells = Cells(result([0.5], [attack], query="a & b")._repr_html_())
    assert "script" not in cells.tags
    assert attack in cells.texts
    assert "a & b" in cells.texts


def test_a_table_has_four_digits_and_one_row_a_pair():
    cells = Cells(result([0.123456, 1.0])._repr_html_())
    assert cells.tags.count("tr") == 3
    assert {"0.1235", "1.0000"} <= set(cells.texts)


@pytest.mark.parametrize("show", [repr, lambda shown: shown._repr_html_()])
def test_a_long_result_shows_its_first_rows_and_counts_the_rest(show):
    text = show(result([0.5] * (ROWS_SHOWN + 30)))
    assert f"document {ROWS_SHOWN - 1}" in text
    assert f"document {ROWS_SHOWN}" not in text
    assert "30 more" in text


def test_a_terminal_shows_aligned_columns():
    lines = repr(result([0.5, -10.25], ["a", "b"])).splitlines()
    assert lines == [
        "2 pairs scored by model (7 tokens)",
        "   score  query  document",
        "  0.5000  q      a",
        "-10.2500  q      b",
    ]


def test_equal_results_are_equal_and_hash_alike():
    assert result([0.5]) == result([0.5])
    assert hash(result([0.5])) == hash(result([0.5]))
