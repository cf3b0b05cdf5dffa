"""The views answer to typing, sliding and choosing, and read well where there is no kernel."""

import threading

import pandas as pd
import pytest

from helpers import InputError, UnreachableError
from helpers.client import ScoreResult
from helpers.views.widgets import Playground, QueryComparison, ScoreTable

PATIENCE = 30  # seconds; only a test that fails waits so long
WIDGET = "application/vnd.jupyter.widget-view+json"
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
    fields = [view._ranking._status, view._ranking._bars]
    return "".join(field.value for field in fields)


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
    assert "score-pale" in view._ranking._bars._dom_classes
    view.top_n.value = 1  # returns although the request does not
    view.query.value = "yellow"
    go_on.set()
    view.wait(PATIENCE)
    assert view.result.queries[0] == "yellow"
    assert "score-pale" not in view._ranking._bars._dom_classes


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
    button = view.widget.children[2].children[1]
    button.click()
    view.wait(PATIENCE)
    assert asked == ["figs", "figs"]


def test_texts_are_shown_as_texts_and_never_as_html():
    view = Playground(shared_words, "<b>bold</b>", ["<script>alert(1)</script>"], pause=0)
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
    assert "▲" not in view._rankings[1]._bars.value
    view.documents.value = "Red figs.\nPears."
    view.wait(PATIENCE)
    assert view.results[0].documents == view.results[1].documents == ("Red figs.", "Pears.")


@pytest.fixture
def table() -> ScoreTable:
    """A table of three fruits."""
    return ScoreTable(pd.DataFrame({"text": FRUIT, "score": [0.25, 0.5, 0.75]}))


def test_a_table_is_sorted_by_score_at_first_and_by_any_column_afterwards(table):
    assert table.rows["score"].tolist() == [0.75, 0.5, 0.25]
    table.sort_by.value, table.order.value = "text", True
    assert table.rows["text"].tolist() == FRUIT
    assert table._rows.value.index("Apples") < table._rows.value.index("Figs")


def test_a_table_is_filtered_by_text_and_score(table):
    table.contains.value = "ARE"
    table.between.value = (0.3, 1.0)
    assert table.rows["text"].tolist() == [FRUIT[1]]
    assert "1 of 3 rows" in table._rows.value


def test_a_column_that_can_not_be_sorted_gives_a_message():
    table = ScoreTable(pd.DataFrame({"mixed": ["a", 1], "score": [0.1, 0.2]}))
    table.sort_by.value = "mixed"
    assert 'role="alert"' in table._rows.value
    assert "TypeError" in table._rows.value


def test_a_table_needs_no_scores():
    table = ScoreTable(pd.DataFrame({"name": ["b", "a"]}), sort_by="name")
    assert table.between is None
    assert table.rows["name"].tolist() == ["b", "a"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Playground(shared_words, "yellow", FRUIT),
        lambda: QueryComparison(shared_words, "yellow", "figs", FRUIT),
        lambda: ScoreTable(pd.DataFrame({"text": FRUIT, "score": [0.25, 0.5, 0.75]})),
    ],
    ids=["playground", "comparison", "table"],
)
def test_each_view_carries_what_it_shows_for_a_page_without_a_kernel(make):
    bundle = make()._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"]
    for form in ("text/html", "text/plain"):
        assert all(text in bundle[form] for text in FRUIT)
    assert "@keyframes" not in bundle["text/html"]
