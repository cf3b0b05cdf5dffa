"""A bar chart shows one query's documents, best first, with labels that can be read."""

import matplotlib
import pytest

matplotlib.use("Agg")

from helpers import InputError, ScoreResult, bar_chart


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
