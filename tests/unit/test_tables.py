"""Tables and lines of text show what they are given, as text, wherever it comes from."""

from __future__ import annotations

import doctest
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import tables
from helpers.tables import (
    MISSING,
    display_width,
    html_table,
    printable,
    shorten,
    shorten_apart,
    show_table,
    text_table,
    wrap,
)
from helpers.views import dashboard, widgets

SENTENCE = (
    "The Rhine rises in the Alps, flows through Basel and Cologne, and ends in the North Sea."
)
ESCAPE = "\x1b[31mred\x1b[0m"


class Cells(HTMLParser):
    """Collect the cells of a table as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[dict[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_data(self, data):
        if self.cells:
            self.cells[-1]["text"] += data

    def of(self, text: str) -> dict[str, str]:
        return next(cell for cell in self.cells if cell["text"] == text)


@pytest.mark.parametrize("module", [tables, dashboard, widgets])
def test_the_examples_of_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_numbers_stand_on_the_right_and_texts_on_the_left():
    table = Cells(html_table(pd.DataFrame({"score": [0.5], "text": ["Lyon."], "shown": ["1,024"]})))
    for text, side in {"score": "right", "0.5": "right", "text": "left", "Lyon.": "left"}.items():
        assert f"text-align:{side}" in table.of(text)["style"]
    assert "text-align:right" in table.of("1,024")["style"]


def test_the_heads_of_rows_and_columns_say_so_to_a_screen_reader():
    frame = pd.DataFrame({"score": [0.5]}, index=pd.Index(["Lyon"], name="city"))
    cells = Cells(html_table(frame, hide_index=False))
    assert (cells.of("score")["scope"], cells.of("Lyon")["scope"]) == ("col", "row")


def test_texts_are_shown_as_text_and_never_as_html():
    attack = "<script>alert('x')</script>"
    frame = pd.DataFrame({attack: [attack]}, index=[attack])
    html = html_table(frame, caption=attack, note=attack, hide_index=False, titles=frame)
    table = Cells(html)
    assert "script" not in table.tags
    assert [cell["text"] for cell in table.cells[1:3]] == [attack, attack]
    assert table.cells[-1]["title"] == attack


def test_only_columns_that_are_named_are_taken_as_html():
    html = html_table(pd.DataFrame({"bar": ["<b>bar</b>"], "text": ["<b>text</b>"]}), html=["bar"])
    assert "<b>bar</b>" in html and "<b>text" not in html


@pytest.mark.parametrize("write", [html_table, text_table])
def test_what_a_terminal_would_obey_is_replaced(write):
    frame = pd.DataFrame({ESCAPE: [ESCAPE]}, index=[ESCAPE])
    shown = write(frame, caption=ESCAPE, note=ESCAPE, hide_index=False)
    assert "\x1b" not in shown
    assert shown.count("\ufffd[31mred") >= 5


def test_a_text_that_is_cut_has_all_of_itself_in_its_title():
    table = Cells(html_table(pd.DataFrame({"text": [SENTENCE, "Short."]}), text_width=30))
    cut = table.of("The Rhine rises in the Alps, …")
    assert cut["title"] == SENTENCE
    assert "title" not in table.of("Short.")


def test_a_table_is_the_same_each_time_and_needs_no_style_sheet():
    frame = pd.DataFrame({"score": [0.5, 0.25]})
    styles = pd.DataFrame({"score": ["color:red", "color:blue"]})
    first, second = (html_table(frame, styles=styles) for _ in range(2))
    assert first == second
    assert "<style" not in first and "id=" not in first
    assert "table-layout:auto" in first


def test_coloured_cells_stand_on_rows_without_a_colour_of_their_own():
    styles = pd.DataFrame({"score": ["background-color:red"]})
    frame = pd.DataFrame({"score": [0.5]})
    assert '<tr style="background-color:transparent"><td' in html_table(frame, styles=styles)
    assert "<tr><td" in html_table(frame)


def test_columns_with_widths_stay_where_they_are():
    html = html_table(pd.DataFrame({"place": [1], "text": ["Lyon."]}), widths={"place": "4em"})
    assert "table-layout:fixed;width:100%" in html
    assert "width:4em" in Cells(html).of("place")["style"]
    assert "width:4em" not in Cells(html).of("text")["style"]


def test_columns_are_taken_by_place_so_names_may_repeat_and_be_numbers():
    frame = pd.DataFrame([[0.5, "a", 7]], columns=[0, 0, 1])
    assert text_table(frame).splitlines()[1].split() == ["0.5", "a", "7"]


def test_what_is_missing_is_a_dash():
    frame = pd.DataFrame({"score": [0.5, np.nan], "text": [None, "a"], "when": [pd.NaT, pd.NaT]})
    assert [line.split() for line in text_table(frame).splitlines()[1:]] == [
        ["0.5", MISSING, MISSING],
        [MISSING, "a", MISSING],
    ]


def test_a_column_of_floats_has_one_number_of_decimals():
    frame = pd.DataFrame({"a": [0.5, 0.25], "b": [1.0, 2.0], "c": [1 / 3, 1.0]})
    assert text_table(frame, formats={"b": ".3f"}).splitlines() == [
        "   a      b       c",
        "0.50  1.000  0.3333",
        "0.25  2.000  1.0000",
    ]


def test_wide_signs_do_not_push_the_columns_of_a_terminal_apart():
    lines = text_table(pd.DataFrame({"a": ["巴黎", "Paris"], "b": ["x", "y"]})).splitlines()
    assert {display_width(line) for line in lines[1:]} == {len("Paris  x")}


def test_a_table_without_rows_has_its_heads():
    assert "score" in html_table(pd.DataFrame({"score": []}))
    assert text_table(pd.DataFrame({"score": []})) == "score"


def test_sentences_are_shown_in_full():
    shown = show_table(pd.DataFrame({"text": [SENTENCE * 3]}))
    assert SENTENCE * 3 in shown._repr_html_()
    assert "white-space:normal" in shown._repr_html_()


@pytest.mark.parametrize(
    ("index", "heads"),
    [
        ([5, 3], ["text"]),
        (["x", "y"], ["", "text"]),
        (pd.Index([5, 3], name="number"), ["number", "text"]),
        (pd.MultiIndex.from_tuples([(1, "a"), (2, "b")]), ["", "", "text"]),
    ],
)
def test_the_index_is_shown_where_it_says_something(index, heads):
    table = Cells(show_table(pd.DataFrame({"text": ["a", "b"]}, index=index))._repr_html_())
    assert [cell["text"] for cell in table.cells if cell.get("scope") == "col"] == heads


def test_a_long_table_counts_the_rows_that_it_leaves_out():
    frame = pd.DataFrame({"text": [f"row {row}" for row in range(30)]})
    for shown in (repr(show_table(frame, rows=20)), show_table(frame, rows=20)._repr_html_()):
        assert "row 19" in shown and "row 20" not in shown
        assert "… and 10 more rows" in shown


@given(st.text(), st.integers(2, 40))
def test_a_shortened_text_is_one_printable_line_and_not_too_wide(text, width):
    short = shorten(text, width)
    assert display_width(short) <= width
    assert len(short.splitlines()) <= 1
    if display_width(text) <= width and text == " ".join(printable(text).split()):
        assert short == text


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("A word that is cut", "A word that …"),
        ("https://example.org/a", "https://exam…"),
        ("法国的首都是哪一座城市", "法国的首都是…"),
        ("e\u0301" * 20, "e\u0301" * 6 + "…"),  # accents stay on their letters
        ("👩\u200d👧" * 9, "👩\u200d👧" * 2 + "…"),  # and families together
    ],
)
def test_a_text_is_cut_after_a_word_or_else_between_two_signs(text, short):
    assert shorten(text, 14) == short


def test_texts_that_begin_alike_are_told_apart():
    start = "https://example.org/a/very/long/address/that/goes/on/and/on/"
    one, two, other = shorten_apart([f"{start}1.html", f"{start}2.html", "Paris."], 40)
    assert one != two and other == "Paris."
    assert max(map(display_width, (one, two))) <= 40
    assert shorten_apart(["same " * 20] * 2, 40) == [shorten("same " * 20, 40)] * 2


@given(st.text(), st.integers(8, 30), st.integers(1, 4))
def test_a_wrapped_text_has_so_many_lines_of_such_a_width(text, width, lines):
    wrapped = wrap(text, width, lines).split("\n")
    assert len(wrapped) <= lines
    assert all(display_width(line) <= width for line in wrapped)
