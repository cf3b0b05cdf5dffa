"""Draw what scores mean: the sigmoid, pairs by two scores, thresholds, calibration, differences.

A view here is given numbers; it never asks a server. Two groups differ by colour and by shape, so
that they can be told apart without seeing colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.views.charts import BAR, CONTRAST, GUIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHED = {"color": GUIDE, "linestyle": "--", "linewidth": 1}


def sigmoid_chart(logits: ArrayLike, title: str | None = None) -> Axes:
    """Draw the sigmoid, and on it the logits of real pairs.

    Args:
        logits: N numbers; each becomes a dot at its probability.
        title: A line above the curve.

    Returns:
        The axes, for whoever wants to add to them.
    """
    axes = _axes(title or "The sigmoid turns a logit into a probability", height=4)
    points = np.asarray(logits, dtype=float)
    reach = max(8.0, np.abs(points).max() + 1)
    line = np.linspace(-reach, reach, 400)
    axes.plot(line, _sigmoid(line), color=GUIDE, zorder=1)
    axes.scatter(points, _sigmoid(points), color=BAR, alpha=0.5, s=28, label="real pairs")
    axes.axhline(0.5, **DASHED)
    axes.axvline(0, **DASHED)
    axes.set(xlabel="logit", ylabel="probability", ylim=(-0.05, 1.05))
    axes.legend(loc="upper left", frameon=False)
    return axes


def pair_chart(
    x: ArrayLike, y: ArrayLike, relevant: ArrayLike, *, x_label: str, y_label: str
) -> Axes:
    """Draw each pair as a mark at its two scores, relevant pairs apart from the others.

    Args:
        x, y: N scores of one kind and N of another, of the same pairs in the same order.
        relevant: N times whether the pair is relevant.
        x_label, y_label: What the two scores are.

    Returns:
        The axes, for whoever wants to add to them.
    """
    axes = _axes("Each pair at its two scores", width=8, height=5)
    across, up, true = np.asarray(x), np.asarray(y), np.asarray(relevant, dtype=bool)
    shown = {"s": 18, "linewidths": 0.8}
    axes.scatter(
        across[~true],
        up[~true],
        color=CONTRAST,
        marker="x",
        alpha=0.5,
        label="not relevant",
        **shown,
    )
    axes.scatter(
        across[true], up[true], color=BAR, marker="o", alpha=0.6, label="relevant", **shown
    )
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return axes


def precision_recall_chart(
    precision: ArrayLike, recall: ArrayLike, marks: Mapping[str, tuple[float, float]] | None = None
) -> Axes:
    """Draw precision against recall, one point a threshold.

    Args:
        precision, recall: What scikit-learn's `precision_recall_curve` returns first and second.
        marks: Points to name, each as (recall, precision), such as a chosen threshold.

    Returns:
        The axes, for whoever wants to add to them.
    """
    axes = _axes("Precision and recall at every threshold", width=6.5, height=4.5)
    axes.plot(recall, precision, color=BAR, drawstyle="steps-post")
    for shape, (name, (across, up)) in zip(cycle("oDs^"), (marks or {}).items(), strict=False):
        axes.plot(across, up, shape, color=CONTRAST, markeredgecolor="k", markersize=9, label=name)
    if marks:
        axes.legend(loc="lower left", frameon=False)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return axes


def reliability_chart(curves: Mapping[str, pd.DataFrame]) -> Axes:
    """Draw how many pairs were relevant against how many should have been.

    Args:
        curves: A name, and what `helpers.search.reliability_bins` returns for it; several
            share one drawing. The area of a mark grows with its pairs.

    Returns:
        The axes, for whoever wants to add to them.
    """
    axes = _axes("Calibration: a probability against what happened", width=6.5, height=5)
    axes.plot([0, 1], [0, 1], label="perfect", **DASHED)
    looks = zip(cycle([CONTRAST, BAR]), cycle("so"), curves.items(), strict=False)
    for colour, shape, (name, bins) in looks:
        axes.plot(bins["predicted"], bins["relevant"], color=colour, linewidth=1.5)
        area = 25 + 300 * bins["pairs"] / bins["pairs"].sum()
        axes.scatter(
            bins["predicted"], bins["relevant"], s=area, color=colour, marker=shape, alpha=0.8
        )
        axes.plot([], [], shape, color=colour, label=name)  # a legend with marks of one size
    axes.set(
        xlabel="mean probability of the pairs in a bin",
        ylabel="share of them that is relevant",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    axes.legend(loc="upper left", frameon=False)
    return axes


def difference_chart(reference: ArrayLike, other: ArrayLike, tolerance: float) -> Axes:
    """Draw how far the scores of two programs lie apart, pair by pair.

    Args:
        reference: N scores from 0 to 1.
        other: N scores of the same pairs, in the same order.
        tolerance: Drawn as a band above and below 0.

    Returns:
        The axes, for whoever wants to add to them.
    """
    axes = _axes("Differences between two programs", height=4)
    base, gaps = np.asarray(reference), np.asarray(other) - np.asarray(reference)
    axes.axhspan(-tolerance, tolerance, color=GUIDE, alpha=0.15, label=f"within {tolerance:g}")
    axes.axhline(0, **DASHED)
    axes.scatter(base, gaps, color=BAR, s=20, alpha=0.6, label=f"{len(base)} pairs")
    reach = 1.25 * max(tolerance, np.abs(gaps).max())
    axes.set(xlabel="score in this process", ylabel="server − process", ylim=(-reach, reach))
    axes.legend(loc="upper right", frameon=False, ncols=2)
    return axes


def _axes(title: str, *, width: float = 9, height: float) -> Axes:
    from matplotlib import pyplot as plt  # here: `python -m helpers` need not wait for it

    _, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _sigmoid(numbers: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-numbers))
