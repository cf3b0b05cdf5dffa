"""Bars, grids and tables of scores have labels that can be read, and show what they are given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from helpers import InputError
from helpers.client import ScoreResult
from helpers.views import bar_chart
from helpers.views.charts import HeatTable, bars_html, heat_map, table_html


def result_of(*scores: float, queries: tuple[str, ...] | None = None) -> ScoreResult:
    """Scores of made-up documents: a drawing needs no server."""
    documents = tuple(f"document {i}" for i in range(len(scores)))
    return ScoreResult(queries or ("a query",) * len(scores), documents, scores, "model", 1)


def test_the_best_document_is_drawn_on_top():
    axes = bar_chart(result_of(0.2, 0.9, 0.5))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["document 1", "document 2", "document 0"]
    assert axes.yaxis_inverted()


def test_axes_and_bars_are_labelled():
    axes = bar_chart(result_of(0.25, 0.75))
    assert axes.get_xlabel() == "score"
    assert axes.get_title(loc="left") == "a query"
    assert [text.get_text() for text in axes.texts] == ["0.75", "0.25"]


def test_logits_are_not_squeezed_between_zero_and_one():
    low, high = bar_chart(result_of(-4.0, 6.0)).get_xlim()
    assert low <= -4 and high >= 6


def test_a_long_list_is_cut_to_the_best_twenty():
    axes = bar_chart(result_of(*(i / 100 for i in range(30))))
    assert len(axes.patches) == 20
    assert axes.patches[0].get_width() == 0.29


def test_more_than_one_query_is_refused_by_name():
    with pytest.raises(InputError, match="this result has 2"):
        bar_chart(result_of(0.1, 0.2, queries=("one", "two")))


def test_html_bars_are_ranked_and_cut_to_the_number_asked_for():
    html = bars_html(result_of(0.2, 0.9, 0.5), 2)
    assert html.index("document 1") < html.index("document 2")
    assert "document 0" not in html
    assert "width:90.0%" in html and "width:50.0%" in html


def test_html_bars_of_logits_share_one_zero():
    html = bars_html(result_of(-4.0, 4.0))
    assert "margin-left:50.0%;width:50.0%" in html
    assert "margin-left:0.0%;width:50.0%" in html


def test_html_bars_start_from_the_scores_that_were_there_before():
    html = bars_html(result_of(0.2, 0.9), before=result_of(0.7, 0.1))
    assert "width:90.0%;--from-left:0.0%;--from:10.0%" in html
    assert "width:20.0%;--from-left:0.0%;--from:70.0%" in html
    assert "prefers-reduced-motion" in html


def test_html_bars_say_in_words_what_an_arrow_means():
    html = bars_html(result_of(0.9, 0.2), climbed={"document 0": 1, "document 1": -1})
    assert 'title="1 place higher than on the left">▲1' in html
    assert 'title="1 place lower than on the left">▼1' in html


GRID = pd.DataFrame(
    [[0.9, 0.1, 0.2], [0.3, 0.8, 0.4]],
    index=["capital of France?", "currency <of> Japan?"],
    columns=[
        "Paris.",
        "The yen.",
        "A document that is much too long for the label of a column " * 3,
    ],
)


def test_a_heat_map_labels_its_rows_columns_and_cells():
    axes = heat_map(GRID, "A title")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(GRID.index)
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns[:2] == ["Paris.", "The yen."]
    assert columns[2].endswith(" …") and columns[2].count("\n") == 2
    values = [text.get_text() for text in axes.texts]
    assert values == ["0.90", "0.10", "0.20", "0.30", "0.80", "0.40"]
    assert axes.get_title(loc="left") == "A title"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("document", "query")


def test_the_colours_of_scores_always_span_zero_to_one():
    assert heat_map(GRID).images[0].get_clim() == (0, 1)
    low, high = heat_map(GRID * 10 - 5).images[0].get_clim()
    assert (low, high) == (-4, 4)


def test_a_heat_table_shows_the_whole_texts_on_hover_and_never_as_html():
    html = HeatTable(GRID)._repr_html_()
    assert 'title="0.4000\nquery: currency &lt;of&gt; Japan?\ndocument: A document' in html
    assert "<of>" not in html
    assert html.count("<td") == 6


@pytest.mark.parametrize("draw", [heat_map, HeatTable])
@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame(), "0 rows and 0 columns"),
        (pd.DataFrame(np.zeros((31, 2))), r"31 rows and 2 columns.*frame.iloc\[:30, :15\]"),
        (pd.DataFrame({"document": ["text"]}), "needs numbers only"),
        (pd.DataFrame({"a": [1.0, np.nan]}), "has gaps"),
    ],
)
def test_a_grid_that_can_not_be_read_is_refused(draw, frame, words):
    with pytest.raises(InputError, match=words):
        draw(frame)


def test_a_long_table_says_how_many_rows_it_leaves_out():
    frame = pd.DataFrame({"text": [f"row {i}" for i in range(30)], "score": 0.12345, "true": True})
    html = table_html(frame, of=40)
    assert "30 of 40 rows, the first 20 shown" in html
    assert "row 19" in html and "row 20" not in html
    assert "0.1235" in html or "0.1234" in html
