"""The plots of measurements: what stands where, checked in the drawing itself."""

from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from helpers.errors import InputError
from helpers.views.measurement_plots import cost_chart, interval_chart, load_chart

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

LOAD = pd.DataFrame(
    [
        {
            "batch_size": size,
            "concurrency": flights,
            "pairs_per_second": 100.0 * size + flights,
            "p50": 10.0 * size,
            "p95": 15.0 * size,
            "p99": 20.0 * size,
        }
        for size in (8, 1, 32)
        for flights in (1, 4)
    ]
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


def test_more_than_three_panels_stand_in_rows_that_a_page_shows_in_full():
    kinds = ["keyword", "question", "paraphrase", "misspelled", "negated"]
    axes = interval_chart(summary("kind", kinds))
    assert [panel.get_title(loc="left").split()[0] for panel in axes] == kinds
    axes[0].figure.canvas.draw()
    heights = [round(panel.get_position().y0, 2) for panel in axes]
    assert heights[0] == heights[2] > heights[3] == heights[4]
    assert len(axes[0].figure.axes) == 5
    assert axes[0].figure.get_figwidth() <= 8.5


def test_names_with_dollar_signs_are_texts_and_not_formulas():
    axes = interval_chart(summary("measure", ["$a and $b", r"$\frac$"]).replace("BM25", "$x$"))
    axes[0].figure.canvas.draw()
    assert axes[1].get_title(loc="left") == r"$\frac$"
    assert not any(
        text.get_parse_math() for text in axes[0].figure.findobj(Text) if text.get_text()
    )


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
    with pytest.raises(InputError, match=r"1 to 3 curves.*stage has 4"):
        cost_chart(many)


def points(line):
    return [tuple(point) for point in line.get_xydata().tolist()]


def test_speed_is_a_curve_for_each_concurrency_over_rising_batch_sizes():
    speed, _ = load_chart(LOAD)
    one, four = speed.lines
    assert points(one) == [(1, 101), (8, 801), (32, 3201)]
    assert points(four) == [(1, 104), (8, 804), (32, 3204)]
    legend = speed.get_legend()
    assert legend.get_title().get_text() == "requests in flight"
    assert [text.get_text() for text in legend.get_texts()] == ["1", "4"]
    assert speed.get_xlabel() == "pairs in a request"


def test_the_other_way_round_batch_sizes_make_the_curves():
    speed, _ = load_chart(LOAD, against="concurrency")
    assert points(speed.lines[0]) == [(1, 101), (4, 104)]
    assert [text.get_text() for text in speed.get_legend().get_texts()] == ["1", "8", "32"]
    assert speed.get_xlabel() == "requests in flight"


def test_latencies_reach_from_the_median_to_the_99th_percentile():
    _, latency = load_chart(LOAD)
    median, dashes = latency.lines[:2]
    assert median.get_ydata().tolist() == [10, 80, 320]
    assert dashes.get_ydata().tolist() == [15, 120, 480]
    reach = [[end[1] for end in part.tolist()] for part in latency.collections[0].get_segments()]
    assert reach == [[10, 20], [80, 160], [320, 640]]


def test_curves_differ_in_colour_and_in_mark():
    speed, _ = load_chart(LOAD)
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in speed.lines]
    assert all(len(set(kind)) == 2 for kind in zip(*looks, strict=True))


def test_only_what_was_measured_is_marked_below_and_in_plain_numbers():
    for axis in load_chart(LOAD):
        axis.figure.canvas.draw()
        assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "8", "32"]
        assert all("^" not in label.get_text() for label in axis.get_yticklabels())


def test_both_axes_say_what_they_count():
    speed, latency = load_chart(LOAD)
    assert speed.get_ylabel() == "pairs a second"
    assert latency.get_ylabel() == "milliseconds a request"


def test_a_title_stands_above_both_panels():
    speed, _ = load_chart(LOAD, "A small server")
    assert speed.figure.get_suptitle() == "A small server"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="against"):
        load_chart(LOAD, against="pairs")
    with pytest.raises(InputError, match="concurrency has 0"):
        load_chart(LOAD[:0])
    with pytest.raises(InputError, match="has 4"):
        load_chart(pd.concat([LOAD.assign(concurrency=number) for number in range(4)]))
