"""Draw how good the stages of a search engine are, and what a deeper reranking costs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.errors import InputError
from helpers.views.charts import BAR, CONTRAST, GUIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Apart by colour, for every common kind of colour blindness, and by line and mark as well.
CURVES = (("-o", BAR), ("--s", CONTRAST), (":^", GUIDE))


def interval_chart(
    summary: pd.DataFrame, title: str | None = None, *, filled: Collection[str] = ()
) -> np.ndarray:
    """Draw means as points and their intervals as lines: a panel a measure or kind, a row a stage.

    Args:
        summary: What `evaluation.summarize` returns.
        title: A line above the panels.
        filled: The stages whose points are filled, such as those with a reranker; the others are
            rings, which can be told apart without any colour.

    Returns:
        The axes of the panels.

    Raises:
        InputError: The summary has no rows.
    """
    from matplotlib import pyplot as plt

    if summary.empty:
        raise InputError("There is nothing to draw: the summary has no rows.")
    by = summary.columns[1]
    panels, stages = summary[by].unique(), list(summary.stage.unique())
    width = max(6.5, 2.2 + 2.5 * len(panels))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(width, 1.3 + 0.42 * len(stages)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, rows in summary.groupby(by, sort=False):
        axis = axes[0, list(panels).index(panel)]
        for row in rows.itertuples():
            place = stages.index(row.stage)
            axis.plot([row.low, row.high], [place, place], color=BAR, linewidth=2)
            face = BAR if row.stage in filled else "w"
            axis.plot(row.mean, place, "o", color=BAR, markerfacecolor=face, markersize=7)
            axis.annotate(
                f"{row.mean:.2f}", (row.mean, place), (0, 7), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
        counts = rows.queries.unique()
        shown = f"{panel} ({counts[0]} queries)" if by == "kind" and len(counts) == 1 else panel
        axis.set_title(shown, loc="left", fontsize=10)
        axis.set_xlim(-0.03, 1.03)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.grid(axis="x", color="0.85")
        axis.set_axisbelow(True)
        axis.tick_params(length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].set_yticks(range(len(stages)), stages)
    axes[0, 0].set_ylim(len(stages) - 0.5, -0.7)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return axes[0]


def cost_chart(costs: pd.DataFrame, title: str | None = None, *, knee: int | None = None) -> Axes:
    """Draw quality against time: a curve a stage, a point for each number of reranked documents.

    Args:
        costs: One row a stage and number, with the columns stage, depth, milliseconds (a query),
            mean, low and high. Up to three stages.
        title: A line above the chart.
        knee: The depth that is marked on the first stage's curve, because more of it adds little.

    Returns:
        The axes, for whoever wants to add to them.

    Raises:
        InputError: There are more than three stages, or `knee` is no depth of the first one.
    """
    from matplotlib import pyplot as plt

    stages = costs.stage.unique()
    first = costs[costs.stage == stages[0]]
    if len(stages) > len(CURVES):
        raise InputError(f"{len(stages)} curves can not be told apart: draw {len(CURVES)} at most.")
    if knee is not None and knee not in first.depth.values:
        raise InputError(f"The knee {knee} is none of the depths {first.depth.tolist()}.")
    _, axes = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for stage, (form, color) in zip(stages, CURVES, strict=False):
        rows = costs[costs.stage == stage]
        axes.fill_between(rows.milliseconds, rows.low, rows.high, color=color, alpha=0.12, lw=0)
        axes.plot(rows.milliseconds, rows["mean"], form, color=color, label=stage)
    for row in first.itertuples():
        axes.annotate(
            f"K = {row.depth}",
            (row.milliseconds, row.mean),
            (0, -18),
            textcoords="offset points",
            ha="center",
        )
    if knee is not None:
        row = first[first.depth == knee].iloc[0]
        mark = {"color": "k", "markerfacecolor": "none", "markersize": 15, "linestyle": "none"}
        axes.plot(row.milliseconds, row["mean"], "o", label="knee", **mark)
    axes.set_xlabel("milliseconds a query for the reranker")
    axes.set_ylabel("nDCG@10")
    axes.margins(x=0.06, y=0.1)
    axes.legend(loc="lower right", frameon=False, title="band: 95% interval")
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, loc="left", fontweight="bold")
    return axes
