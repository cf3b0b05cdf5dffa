"""The plots of evaluation: what stands where, checked in the drawing itself."""

from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from helpers.errors import InputError
from helpers.views.evaluation_plots import cost_chart, interval_chart

matplotlib.use("Agg")

STAGES = ["BM25", "BM25 + reranker"]
COSTS = pd.DataFrame(
    {
        "stage": "hybrid",
        "depth": [0, 10, 50],
        "milliseconds": [0.0, 60.0, 300.0],
        "mean": [0.6, 0.7, 0.72],
        "low": [0.5, 0.6, 0.62],
        "high": [0.7, 0.8, 0.82],
    }
)


@pytest.fixture(autouse=True)
def close_figures():
    """End every figure with its test."""
    yield
    plt.close("all")


def summary(by, parts, queries=20):
    rows = [
        (stage, part, 0.5 + 0.1 * place, 0.4, 0.8, queries)
        for part in parts
        for place, stage in enumerate(STAGES)
    ]
    return pd.DataFrame(rows, columns=["stage", by, "mean", "low", "high", "queries"])


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_every_measure_has_a_panel_and_every_stage_a_row_from_the_top():
    axes = interval_chart(summary("measure", ["nDCG@10", "MRR@10"]), "Ladder")
    assert [panel.get_title(loc="left") for panel in axes] == ["nDCG@10", "MRR@10"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == STAGES
    assert axes[0].yaxis_inverted()
    assert texts(axes[0]) == texts(axes[1]) == ["0.50", "0.60"]
    assert axes[0].figure.get_suptitle() == "Ladder"


def test_an_interval_is_a_line_behind_its_mean_and_chosen_stages_are_filled():
    (axes,) = interval_chart(summary("measure", ["nDCG@10"]), filled=STAGES[1:])
    line, ring, _, point = axes.lines
    assert line.get_xdata().tolist() == [0.4, 0.8]
    assert ring.get_xdata().tolist() == [0.5]
    assert ring.get_markerfacecolor() == "w"
    assert point.get_markerfacecolor() == point.get_color()


def test_kinds_tell_how_many_queries_they_have():
    axes = interval_chart(summary("kind", ["keyword", "question"], queries=30))
    assert axes[0].get_title(loc="left") == "keyword (30 queries)"


def test_a_summary_without_rows_is_refused():
    with pytest.raises(InputError, match="no rows"):
        interval_chart(summary("measure", []))


def test_each_depth_is_a_labelled_point_of_the_curve():
    axes = cost_chart(COSTS, "Cost", knee=10)
    assert texts(axes) == ["K = 0", "K = 10", "K = 50"]
    curve, knee = axes.lines
    assert curve.get_xydata().tolist() == [[0, 0.6], [60, 0.7], [300, 0.72]]
    assert knee.get_xydata().tolist() == [[60, 0.7]]
    assert axes.get_xlabel() == "milliseconds a query for the reranker"


def test_without_a_knee_none_is_drawn_and_a_wrong_one_is_refused():
    assert len(cost_chart(COSTS).lines) == 1
    with pytest.raises(InputError, match="The knee 20 is none of the depths"):
        cost_chart(COSTS, knee=20)


def test_curves_differ_in_line_and_mark_and_are_named():
    axes = cost_chart(pd.concat([COSTS, COSTS.assign(stage="BM25")]))
    one, other = axes.lines
    assert one.get_linestyle() != other.get_linestyle()
    assert one.get_marker() != other.get_marker()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["hybrid", "BM25"]
    assert texts(axes) == ["K = 0", "K = 10", "K = 50"]


def test_more_curves_than_can_be_told_apart_are_refused():
    many = pd.concat([COSTS.assign(stage=f"stage {row}") for row in range(4)])
    with pytest.raises(InputError, match="4 curves can not be told apart"):
        cost_chart(many)
