"""The chart of a load: what stands where, checked in the drawing itself."""

from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from helpers.errors import InputError
from helpers.views.load_plots import load_chart

matplotlib.use("Agg")

FRAME = pd.DataFrame(
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


def points(line):
    return [tuple(point) for point in line.get_xydata().tolist()]


def test_speed_is_a_curve_for_each_concurrency_over_rising_batch_sizes():
    speed, _ = load_chart(FRAME)
    one, four = speed.lines
    assert points(one) == [(1, 101), (8, 801), (32, 3201)]
    assert points(four) == [(1, 104), (8, 804), (32, 3204)]
    legend = speed.get_legend()
    assert legend.get_title().get_text() == "requests in flight"
    assert [text.get_text() for text in legend.get_texts()] == ["1", "4"]
    assert speed.get_xlabel() == "pairs in a request"


def test_the_other_way_round_batch_sizes_make_the_curves():
    speed, _ = load_chart(FRAME, against="concurrency")
    assert points(speed.lines[0]) == [(1, 101), (4, 104)]
    assert [text.get_text() for text in speed.get_legend().get_texts()] == ["1", "8", "32"]
    assert speed.get_xlabel() == "requests in flight"


def test_latencies_reach_from_the_median_to_the_99th_percentile():
    _, latency = load_chart(FRAME)
    median, dashes = latency.lines[:2]
    assert median.get_ydata().tolist() == [10, 80, 320]
    assert dashes.get_ydata().tolist() == [15, 120, 480]
    reach = [[end[1] for end in part.tolist()] for part in latency.collections[0].get_segments()]
    assert reach == [[10, 20], [80, 160], [320, 640]]


def test_curves_differ_in_colour_and_in_mark():
    speed, _ = load_chart(FRAME)
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in speed.lines]
    assert all(len(set(kind)) == 2 for kind in zip(*looks, strict=True))


def test_only_what_was_measured_is_marked_below_and_in_plain_numbers():
    for axis in load_chart(FRAME):
        axis.figure.canvas.draw()
        assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "8", "32"]
        assert all("^" not in label.get_text() for label in axis.get_yticklabels())


def test_a_title_stands_above_both_panels():
    speed, _ = load_chart(FRAME, "A small server")
    assert speed.figure.get_suptitle() == "A small server"


def test_what_can_not_be_drawn_is_refused():
    with pytest.raises(InputError, match="against"):
        load_chart(FRAME, against="pairs")
    with pytest.raises(InputError, match="has 0"):
        load_chart(FRAME[:0])
    with pytest.raises(InputError, match="has 4"):
        load_chart(pd.concat([FRAME.assign(concurrency=number) for number in range(4)]))
