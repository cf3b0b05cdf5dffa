"""Draw what scores mean: the sigmoid, pairs by two scores, thresholds, calibration, differences.

A view here is given numbers; it never asks a server. Two groups differ by colour and by shape, so
that they can be told apart without seeing colours. scikit-learn's displays would not shorten this:
its calibration display counts bins anew from single pairs and cannot show how many are in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.views.charts import BAR, CONTRAST, GUIDE, WIDTH, drawing, write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHED: dict[str, Any] = {"color": GUIDE, "linestyle": "--", "linewidth": 1}


@drawing
def sigmoid_chart(logits: ArrayLike, title: str | None = None) -> Axes:
    """Draw the sigmoid, and on it the logits of real pairs.

    Args:
        logits: N numbers; each becomes a dot at its probability.
        title: A line above the curve.
    """
    from scipy.special import expit

    points = np.asarray(logits, dtype=float)
    axes = _axes(title or "The sigmoid turns a logit into a probability", WIDTH, 3.8)
    reach = max(8.0, np.abs(points).max() + 1)
    line = np.linspace(-reach, reach, 400)
    axes.plot(line, expit(line), color=GUIDE, zorder=1)
    axes.scatter(points, expit(points), color=BAR, alpha=0.5, s=28, label="real pairs")
    axes.axhline(0.5, **DASHED)
    axes.axvline(0, **DASHED)
    axes.set(xlabel="logit", ylabel="probability", ylim=(-0.05, 1.05))
    axes.legend(loc="upper left")
    return axes


@drawing
def pair_chart(
    x: ArrayLike,
    y: ArrayLike,
    relevant: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    diagonal: bool = False,
) -> Axes:
    """Draw each pair as a mark at its two scores, relevant pairs apart from the others.

    Args:
        x: N scores of one kind.
        y: N scores of another, of the same pairs in the same order.
        relevant: N times whether the pair is relevant.
        x_label: What the scores across are.
        y_label: What the scores upwards are.
        title: A line above; by default the two labels.
        diagonal: Whether to draw the line on which both scores are equal.
    """
    across, up, true = np.asarray(x), np.asarray(y), np.asarray(relevant, dtype=bool)
    axes = _axes(title or f"Each pair by {x_label} and {y_label}", WIDTH, 4.6)
    if diagonal:
        axes.axline((0, 0), slope=1, label="both the same", **DASHED)
    groups = (("not relevant", ~true, "x", CONTRAST), ("relevant", true, "o", BAR))
    for label, those, marker, color in groups:
        look: dict[str, Any] = {"s": 18, "linewidths": 0.8, "alpha": 0.6}
        axes.scatter(across[those], up[those], label=label, marker=marker, color=color, **look)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes


@drawing
def precision_recall_chart(
    precision: ArrayLike, recall: ArrayLike, marks: Mapping[str, tuple[float, float]] | None = None
) -> Axes:
    """Draw precision against recall, one point a threshold.

    Args:
        precision: What scikit-learn's `precision_recall_curve` returns first.
        recall: What it returns second.
        marks: Points to name, each as (recall, precision), such as a chosen threshold.
    """
    axes = _axes("Precision and recall at every threshold", 6.5, 4.5)
    axes.plot(recall, precision, color=BAR, drawstyle="steps-post")
    for shape, (name, point) in zip(cycle("oDs^"), (marks or {}).items(), strict=False):
        axes.plot(*point, shape, color=CONTRAST, markeredgecolor="k", markersize=9, label=name)
    if marks:
        axes.legend(loc="lower left")
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return axes


@drawing
def reliability_chart(curves: Mapping[str, pd.DataFrame]) -> Axes:
    """Draw how many pairs were relevant against how many should have been.

    Args:
        curves: A name, and what `helpers.search.reliability_bins` returns for it; several share
            one drawing. The area of a mark grows with its pairs.

    """
    axes = _axes("Calibration: a probability against what happened", 6.5, 5)
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
    axes.legend(loc="upper left")
    return axes


@drawing
def difference_chart(reference: ArrayLike, other: ArrayLike, tolerance: float) -> Axes:
    """Draw how far the scores of two programs lie apart, pair by pair.

    Args:
        reference: N scores from 0 to 1.
        other: N scores of the same pairs, in the same order.
        tolerance: Drawn as a band above and below 0.
    """
    base, gaps = np.asarray(reference), np.asarray(other) - np.asarray(reference)
    axes = _axes("Differences between two programs", WIDTH, 3.8)
    axes.axhspan(-tolerance, tolerance, color=GUIDE, alpha=0.15, label=f"within {tolerance:g}")
    axes.axhline(0, **DASHED)
    axes.scatter(base, gaps, color=BAR, s=20, alpha=0.6, label=f"{len(base)} pairs")
    reach = 1.25 * max(tolerance, np.abs(gaps).max())
    axes.set(xlabel="score in this process", ylabel="server − process", ylim=(-reach, reach))
    axes.legend(loc="upper right", ncols=2)
    return axes


def _axes(title: str, width: float, height: float) -> Axes:
    from matplotlib import pyplot as plt

    _, axes = plt.subplots(figsize=(width, height))
    write_title(axes, title)
    return axes
