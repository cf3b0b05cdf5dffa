"""Drawings about scores label their axes and show exactly what they are given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from helpers.search.calibration import reliability_bins
from helpers.views.calibration_plots import (
    difference_chart,
    pair_chart,
    precision_recall_chart,
    reliability_chart,
    sigmoid_chart,
)


@pytest.fixture(autouse=True)
def no_drawing_is_left():
    yield
    plt.close("all")


def labels_of(legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def test_the_dots_of_a_sigmoid_lie_on_its_curve():
    axes = sigmoid_chart([-3.0, 0.0, 6.0])
    dots = axes.collections[0].get_offsets()
    assert np.allclose(dots, [(-3, 0.0474), (0, 0.5), (6, 0.9975)], atol=1e-4)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("logit", "probability")


def test_the_sigmoid_reaches_as_far_as_the_largest_logit():
    low, high = sigmoid_chart([-15.0, 2.0]).get_xlim()
    assert low < -15 and high > 15


def test_two_groups_of_pairs_differ_by_shape_and_not_by_colour_alone():
    axes = pair_chart(
        [0.1, 0.2, 0.3], [1, 2, 3], [False, True, False], x_label="cosine", y_label="logit"
    )
    others, relevant = axes.collections
    assert others.get_offsets().tolist() == [[0.1, 1], [0.3, 3]]
    assert relevant.get_offsets().tolist() == [[0.2, 2]]
    assert len(others.get_paths()[0]) != len(relevant.get_paths()[0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("cosine", "logit")
    assert labels_of(axes.get_legend()) == ["not relevant", "relevant"]


def test_the_diagonal_is_drawn_for_scores_of_one_kind_and_the_title_says_what_is_compared():
    look = {"x_label": "one way", "y_label": "the other", "diagonal": True}
    axes = pair_chart([0.1, 0.2], [0.2, 0.1], [False, True], **look)
    assert axes.figure.get_suptitle() == "Each pair by one way and the other"
    assert labels_of(axes.get_legend())[0] == "both the same"
    titled = pair_chart([0.1], [0.2], [True], x_label="$x$", y_label="y", title="Both ways")
    assert titled.figure.get_suptitle() == "Both ways"
    assert not titled.lines


def test_a_chosen_threshold_is_marked_by_name():
    axes = precision_recall_chart([0.5, 1.0], [1.0, 0.0], {"0.5": (0.8, 0.6), "best": (0.7, 0.9)})
    assert labels_of(axes.get_legend()) == ["0.5", "best"]
    assert [line.get_xydata().tolist() for line in axes.lines[1:]] == [[[0.8, 0.6]], [[0.7, 0.9]]]
    assert len({line.get_marker() for line in axes.lines[1:]}) == 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")


def test_a_curve_without_marks_has_no_legend():
    assert precision_recall_chart([0.5, 1.0], [1.0, 0.0]).get_legend() is None


def test_reliability_shows_each_bin_of_each_curve_and_more_area_for_more_pairs():
    few = pd.DataFrame({"pairs": [10, 90], "predicted": [0.2, 0.9], "relevant": [0.1, 0.7]})
    many = reliability_bins([0, 1], [0.3, 0.8])
    axes = reliability_chart({"as served": few, "after": many})
    first, second = axes.collections
    assert first.get_offsets().tolist() == [[0.2, 0.1], [0.9, 0.7]]
    assert second.get_offsets().tolist() == [[0.3, 0.0], [0.8, 1.0]]
    small, large = first.get_sizes()
    assert large > 3 * small
    assert labels_of(axes.get_legend()) == ["perfect", "as served", "after"]


@pytest.mark.parametrize("gap", [0.001, 0.3])
def test_differences_and_the_tolerance_are_always_in_sight(gap):
    axes = difference_chart([0.2, 0.8], [0.2, 0.8 + gap], 0.02)
    low, high = axes.get_ylim()
    assert low < -0.02 and high > max(0.02, gap)
    assert np.allclose(axes.collections[0].get_offsets(), [(0.2, 0), (0.8, gap)])
    assert labels_of(axes.get_legend()) == ["within 0.02", "2 pairs"]
