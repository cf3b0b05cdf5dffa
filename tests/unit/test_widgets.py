"""The views answer to typing, sliding and choosing, and read well where there is no kernel."""

import re
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ipywidgets.widgets.widget import _instances

from helpers import InputError, UnreachableError
from helpers.client import ScoreResult
from helpers.views import Playground, QueryComparison, ScoreTable, widgets
from helpers.views.widgets import WIDGET_VIEW, View

PATIENCE = 30  # seconds; only a test that fails waits so long
FRUIT = ["Apples are red.", "Bananas are yellow and long.", "Figs."]


def shared_words(query: str, documents: list[str]) -> ScoreResult:
    """Score a document by the share of the query's words in it."""
    wanted = query.casefold().split()
    scores = tuple(
        sum(word in document.casefold() for word in wanted) / len(wanted) for document in documents
    )
    return ScoreResult((query,) * len(documents), tuple(documents), scores, "words", 5)


def live_html(view: Playground) -> str:
    """What stands in the HTML fields of a view now."""
    return "".join(field.value for field in (*view._status, *view._bars))


def outputs_of(view: View, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a notebook stores of a view, output by output."""
    outputs: list[dict[str, Any]] = []
    monkeypatch.setattr(widgets, "display", lambda data, *, raw: outputs.append(data))
    view._ipython_display_()
    return outputs


@pytest.fixture
def playground() -> Playground:
    """A playground that has answered its first query."""
    return Playground(shared_words, "yellow bananas", FRUIT, pause=0)


def test_a_playground_shows_its_first_ranking_at_once(playground):
    assert playground.result.ranked().documents[0] == FRUIT[1]
    html = live_html(playground)
    assert html.index(FRUIT[1]) < html.index(FRUIT[0])
    assert "3 documents scored by words" in html


def test_a_new_query_moves_the_bars(playground):
    playground.query.value = "figs"
    playground.wait(PATIENCE)
    html = live_html(playground)
    assert html.index(FRUIT[2]) < html.index(FRUIT[1])
    # The bar of the figs grows from where it was, almost nothing, to its full length.
    assert "width:100.0%;--from-left:0.0%;--from:0.3%" in html


def test_documents_are_taken_one_a_line(playground):
    playground.documents.value = "One.\n\nTwo bananas.\n"
    playground.wait(PATIENCE)
    assert playground.result.documents == ("One.", "Two bananas.")
    assert playground.top_n.max == 2


def test_a_line_break_inside_a_document_does_not_make_two_of_it():
    view = Playground(shared_words, "a", ["one\ntwo", "three"], pause=0)
    assert view.documents.value == "one two\nthree"


def test_a_single_text_instead_of_a_list_of_documents_is_refused():
    with pytest.raises(InputError, match="expected a list of texts"):
        Playground(shared_words, "a", "one document")


def test_the_slider_cuts_the_bars_without_asking_anew():
    asked = []
    view = Playground(
        lambda q, d: asked.append(q) or shared_words(q, d), "yellow", FRUIT, top_n=3, pause=0
    )
    view.top_n.value = 1
    assert live_html(view).count("background-color:#2563eb") == 1
    view.top_n.value = 2
    assert live_html(view).count("background-color:#2563eb") == 2
    assert asked == ["yellow"]


def test_the_view_stays_usable_while_a_request_is_under_way_and_shows_that_it_runs():
    began, go_on = threading.Semaphore(0), threading.Event()

    def slow(query, documents):
        if query == "slow":
            began.release()
            assert go_on.wait(PATIENCE)
        return shared_words(query, documents)

    view = Playground(slow, "figs", FRUIT, pause=0)
    view.query.value = "slow"
    assert began.acquire(timeout=PATIENCE)
    assert "Scoring 3 documents" in live_html(view)
    assert "score-pale" in view._bars[0]._dom_classes
    view.top_n.value = 1  # returns although the request does not
    view.query.value = "yellow"
    go_on.set()
    view.wait(PATIENCE)
    assert view.result.queries[0] == "yellow"
    assert "score-pale" not in view._bars[0]._dom_classes


def test_an_error_is_shown_as_a_message_in_the_view():
    def gone(query, documents):
        raise UnreachableError("No server listens at <here>.")

    view = Playground(gone, "figs", FRUIT, pause=0)
    assert view.result is None
    assert "No server listens at &lt;here&gt;." in live_html(view)
    assert "Traceback" not in live_html(view)
    assert repr(view) == "No server listens at <here>."


def test_score_again_asks_for_the_same_texts_once_more():
    asked = []
    view = Playground(lambda q, d: asked.append(q) or shared_words(q, d), "figs", FRUIT, pause=0)
    view._controls.children[1].click()
    view.wait(PATIENCE)
    assert asked == ["figs", "figs"]


def test_texts_are_shown_as_texts_and_never_as_html_or_as_orders_to_a_terminal():
    view = Playground(shared_words, "<b>bold</b>\x1b[31m", ["<script>\x1b[0m"], pause=0)
    for shown in (live_html(view), view.to_html(), repr(view)):
        assert "\x1b" not in shown
    for html in (live_html(view), view.to_html()):
        assert "<script>" not in html and "<b>bold" not in html


def test_two_queries_are_ranked_side_by_side_and_arrows_show_what_moved():
    view = QueryComparison(shared_words, "yellow", "figs", FRUIT, pause=0)
    left, right = view.results
    assert left.ranked().documents == (FRUIT[1], FRUIT[0], FRUIT[2])
    assert right.ranked().documents == (FRUIT[2], FRUIT[0], FRUIT[1])
    assert "▲2" in view.to_html() and "▼2" in view.to_html()


def test_a_change_on_the_left_redraws_the_arrows_on_the_right():
    view = QueryComparison(shared_words, "yellow", "figs", FRUIT, pause=0)
    view.left.value = "figs"
    assert [state.phase.value for state in view.wait(PATIENCE)] == ["done", "done"]
    assert "▲" not in view._bars[1].value
    view.documents.value = "Red figs.\nPears."
    view.wait(PATIENCE)
    assert view.results[0].documents == view.results[1].documents == ("Red figs.", "Pears.")


def test_score_again_asks_for_both_sides_of_a_comparison():
    asked = []
    view = QueryComparison(
        lambda q, d: asked.append(q) or shared_words(q, d), "yellow", "figs", FRUIT, pause=0
    )
    view._controls.children[1].click()
    view.wait(PATIENCE)
    assert sorted(asked) == ["figs", "figs", "yellow", "yellow"]


FRAME = pd.DataFrame(
    {
        "text": ["Rhine", "Seine", "the rhine?", "Elbe", "unscored"],
        "score": [0.9, 0.1, 0.5, 0.5, np.nan],
    },
    index=[10, 11, 12, 13, 14],
)


@pytest.fixture
def table() -> ScoreTable:
    """A table of five rivers, one without a score."""
    return ScoreTable(FRAME)


def test_a_table_is_sorted_by_score_at_first_and_equal_rows_keep_their_order(table):
    assert table.rows.index.tolist() == [10, 12, 13, 11, 14]
    table.sort_by.value, table.order.value = "text", True
    assert table.rows["text"].tolist() == ["Elbe", "Rhine", "Seine", "the rhine?", "unscored"]
    assert table._rows.value.index("Elbe") < table._rows.value.index("Seine")


def test_rows_are_found_by_a_text_in_upper_or_lower_case_and_by_no_pattern(table):
    table.contains.value = " rHINE "
    assert table.rows.index.tolist() == [10, 12]
    assert "2 of 5 rows" in table._rows.value
    table.contains.value = "?"
    assert table.rows.index.tolist() == [12]


def test_rows_are_cut_by_score_with_both_ends_included(table):
    table.between.value = (0.1, 0.5)
    assert table.rows.index.tolist() == [12, 13, 11]
    table.contains.value = "seine"
    table.between.value = (0.2, 1.0)
    assert table.rows.empty


def test_a_row_without_a_score_is_shown_until_the_slider_is_moved(table):
    assert "unscored" in table._rows.value
    table.between.value = (0.0, 0.95)
    assert "unscored" not in table._rows.value
    table.between.value = (0.0, 1.0)
    assert "unscored" in table._rows.value


@pytest.mark.parametrize("scores", [[np.nan] * 2, [-np.inf, 3.5], ["good", "bad"]])
def test_scores_that_are_no_numbers_between_zero_and_one_do_not_stop_a_table(scores):
    table = ScoreTable(pd.DataFrame({"score": scores}))
    assert len(table.rows) == 2
    if table.between is not None:
        assert (table.between.min, table.between.max) in [(0, 1), (0, 3.5)]


def test_columns_may_be_named_by_numbers():
    table = ScoreTable(pd.DataFrame([[1, "b"], [2, "a"]]), sort_by=0)
    assert table.rows[0].tolist() == [2, 1]
    table.sort_by.value = 1
    assert table.rows[1].tolist() == ["b", "a"]
    assert [name for name, _ in table.sort_by.options] == ["0", "1"]


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"no column 'grade'. It has \['text', 'score'\]"):
        ScoreTable(FRAME, sort_by="grade")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"mixed": ["a", 1], "score": [0.1, 0.2]}),
        pd.DataFrame([[1, 2, 0.1], [3, 4, 0.2]], columns=["mixed", "mixed", "score"]),
    ],
    ids=["of mixed types", "twice there"],
)
def test_a_column_that_cannot_be_sorted_gives_a_message(frame):
    table = ScoreTable(frame)
    table.sort_by.value = "mixed"
    assert 'role="alert"' in table._rows.value


def test_a_table_needs_no_scores():
    table = ScoreTable(pd.DataFrame({"name": ["b", "a"]}), sort_by="name")
    assert table.between is None
    assert table.rows["name"].tolist() == ["b", "a"]


VIEWS = {
    "playground": lambda: Playground(shared_words, "yellow", FRUIT),
    "comparison": lambda: QueryComparison(shared_words, "yellow", "figs", FRUIT),
    "table": lambda: ScoreTable(pd.DataFrame({"text": FRUIT, "score": [0.25, 0.5, 0.75]})),
}


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_a_view_is_its_plain_form_and_then_a_widget_that_hides_it(make, monkeypatch):
    view = make()
    plain, live = outputs_of(view, monkeypatch)
    for form in ("text/html", "text/plain"):
        assert all(text in plain[form] for text in FRUIT)
    assert "@keyframes" not in plain["text/html"]
    assert WIDGET_VIEW not in plain
    assert live[WIDGET_VIEW]["model_id"]
    assert live["text/html"] == ""  # for pages without widgets, which show the plain form
    (name,) = set(re.findall(r"score-view-\w+", plain["text/html"]))
    box = _instances[live[WIDGET_VIEW]["model_id"]]
    assert f"#{name}{{display:none}}" in box.children[0].value
    assert box.children[1] is view.widget
    assert "prefers-reduced-motion" in view.widget.children[0].value


def test_the_stored_form_of_a_view_is_the_same_in_each_run(monkeypatch):
    first, second = (outputs_of(VIEWS["table"](), monkeypatch)[0] for _ in range(2))
    assert first == second
