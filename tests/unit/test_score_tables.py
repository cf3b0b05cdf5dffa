"""Tables of scores rank, colour and cut what they are given, and never take it for HTML."""

import pandas as pd

from helpers.client import ScoreResult
from helpers.views import HeatTable
from helpers.views.score_tables import bars_html, rows_html


def result_of(*scores: float) -> ScoreResult:
    """Scores of made-up documents: a table needs no server."""
    documents = tuple(f"document {i}" for i in range(len(scores)))
    return ScoreResult(("a query",) * len(scores), documents, scores, "model", 1)


def test_bars_are_ranked_and_cut_to_the_number_asked_for():
    html = bars_html(result_of(0.2, 0.9, 0.5), 2)
    assert html.index("document 1") < html.index("document 2")
    assert "document 0" not in html
    assert "width:90.0%" in html and "width:50.0%" in html


def test_bars_of_logits_share_one_zero():
    html = bars_html(result_of(-4.0, 4.0))
    assert "margin-left:50.0%;width:50.0%" in html
    assert "margin-left:0.0%;width:50.0%" in html


def test_bars_start_from_the_scores_that_were_there_before():
    html = bars_html(result_of(0.2, 0.9), before=result_of(0.7, 0.1))
    assert "width:90.0%;--from-left:0.0%;--from:10.0%" in html
    assert "width:20.0%;--from-left:0.0%;--from:70.0%" in html


def test_an_arrow_says_in_words_what_it_means():
    html = bars_html(result_of(0.9, 0.2), climbed={"document 0": 1, "document 1": -1})
    assert 'title="1 place higher than on the left">▲1' in html
    assert 'title="1 place lower than on the left">▼1' in html


def test_the_columns_of_bars_do_not_move_with_the_texts():
    one, two = result_of(0.5), result_of(9, 8)
    tables = [bars_html(one), bars_html(two), bars_html(two, climbed={"document 0": 1})]
    heads = {table.partition("<tbody>")[0] for table in tables}
    assert len(heads) == 1
    assert "table-layout:fixed" in heads.pop()


GRID = pd.DataFrame(
    [[0.9, 0.1], [0.3, 0.8]],
    index=["capital of France?", "currency <of> Japan?"],
    columns=["Paris.", "A document that is much too long for a column " * 3],
)


def test_a_heat_table_shows_the_whole_texts_on_hover_and_never_as_html():
    html = HeatTable(GRID)._repr_html_()
    assert 'title="0.3000\nquery: currency &lt;of&gt; Japan?\ndocument: Paris.' in html
    assert f"document: {GRID.columns[1]}" in html
    assert "<of>" not in html
    assert html.count("<td") == 4


def test_colours_of_a_heat_table_rise_with_the_score_and_stand_on_bare_rows():
    html = HeatTable(pd.DataFrame([[0.0, 0.25, 0.75, 1.0]]))._repr_html_()
    strengths = [float(part.split(")")[0]) for part in html.split("rgba(29,78,216,")[1:]]
    assert strengths == sorted(strengths) and strengths[0] == 0
    assert '<tr style="background-color:transparent">' in html


def test_a_heat_table_is_text_in_a_terminal():
    assert repr(HeatTable(GRID)).splitlines() == [
        "query                 Paris.  A document that is …",
        "capital of France?      0.90                  0.10",
        "currency <of> Japan?    0.30                  0.80",
    ]


def test_a_long_table_says_how_many_rows_it_leaves_out():
    frame = pd.DataFrame({"text": [f"row {i}" for i in range(30)], "score": 0.12345, "true": True})
    html = rows_html(frame, of=40)
    assert "30 of 40 rows, the first 20 shown" in html
    assert "row 19" in html and "row 20" not in html
    assert "0.1234" in html or "0.1235" in html
