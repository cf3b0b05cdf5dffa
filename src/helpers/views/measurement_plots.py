"""Draw measurements: how good the stages of a search are, what depth costs, what load does."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.errors import InputError
from helpers.views.charts import BAR, CONTRAST, GUIDE, WIDTH, drawing, write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Apart by colour, for every common kind of colour blindness, and by line and mark as well.
CURVES = (("-o", BAR), ("--s", CONTRAST), (":^", GUIDE))
PANELS_IN_A_ROW = 3  # more could not be read in the width of a notebook
LOADS = {"batch_size": "pairs in a request", "concurrency": "requests in flight"}
POINTS: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}  # places of labels
# Curves of a load stand a little apart, or their latencies would cover each other.
APART = 1.06


@drawing
def interval_chart(
    summary: pd.DataFrame, title: str | None = None, *, filled: Collection[str] = ()
) -> np.ndarray:
    """Draw means as points and their intervals as lines: a panel a measure or kind, a row a stage.

    Args:
        summary: What `helpers.search.summarize` returns.
        title: A line above the panels.
        filled: The stages whose points are filled, such as those with a reranker; the others are
            rings, which can be told apart without any colour.

    Returns:
        The axes of the panels, up to three in a row.

    Raises:
        InputError: The summary has no rows.
    """
    from matplotlib import pyplot as plt

    if summary.empty:
        raise InputError("There is nothing to draw: the summary has no rows.")
    by = summary.columns[1]
    names, stages = list(summary[by].unique()), list(summary.stage.unique())
    n_rows = math.ceil(len(names) / PANELS_IN_A_ROW)
    n_columns = math.ceil(len(names) / n_rows)
    _, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(WIDTH, 0.5 + n_rows * (0.8 + 0.4 * len(stages))),
        sharey=True,
        squeeze=False,
    )
    panels = grid.ravel()
    for unused in panels[len(names) :]:
        unused.remove()
    for name, axes in zip(names, panels, strict=False):
        rows = summary[summary[by] == name]
        for row in rows.itertuples():
            place = stages.index(row.stage)
            axes.plot([row.low, row.high], [place, place], color=BAR, linewidth=2)
            face = BAR if row.stage in filled else "w"
            axes.plot(row.mean, place, "o", color=BAR, markerfacecolor=face, markersize=7)
            axes.annotate(f"{row.mean:.2f}", (row.mean, place), (0, 7), fontsize=9, **POINTS)
        counts = rows.queries.unique()
        one = by == "kind" and len(counts) == 1
        axes.set_title(f"{name} ({counts[0]} queries)" if one else name)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_yticks(range(len(stages)), stages)
    panels[0].set_ylim(len(stages) - 0.5, -0.7)
    write_title(panels[0], title)
    return panels[: len(names)]


@drawing
def cost_chart(costs: pd.DataFrame, title: str | None = None, *, knee: int | None = None) -> Axes:
    """Draw quality against time: a curve a stage, a point for each number of reranked documents.

    Args:
        costs: One row a stage and number, with the columns stage, depth, milliseconds (a query),
            mean, low and high. Up to three stages.
        title: A line above the chart.
        knee: The depth that is marked on the first stage's curve, because more of it adds little.

    Raises:
        InputError: There are more than three stages, or `knee` is no depth of the first one.
    """
    from matplotlib import pyplot as plt

    stages = costs.stage.unique()
    _check_curves("stage", len(stages))
    first = costs[costs.stage == stages[0]]
    if knee is not None and knee not in first.depth.values:
        raise InputError(f"The knee {knee} is none of the depths {first.depth.tolist()}.")
    _, axes = plt.subplots(figsize=(WIDTH, 4.4))
    for stage, (form, color) in zip(stages, CURVES, strict=False):
        rows = costs[costs.stage == stage]
        axes.fill_between(rows.milliseconds, rows.low, rows.high, color=color, alpha=0.12, lw=0)
        axes.plot(rows.milliseconds, rows["mean"], form, color=color, label=stage)
    for row in first.itertuples():
        axes.annotate(f"K = {row.depth}", (row.milliseconds, row.mean), (0, -18), **POINTS)
    if knee is not None:
        row = first[first.depth == knee].iloc[0]
        axes.plot(
            row.milliseconds, row["mean"], "ko", label="knee", markerfacecolor="none", markersize=15
        )
    axes.set(xlabel="milliseconds a query for the reranker", ylabel="nDCG@10")
    axes.margins(x=0.06, y=0.1)
    axes.legend(loc="lower right", title="band: 95% interval")
    write_title(axes, title)
    return axes


@drawing
def load_chart(
    frame: pd.DataFrame, title: str | None = None, *, against: str = "batch_size"
) -> np.ndarray:
    """Draw pairs a second on the left and, on a logarithmic axis, latencies on the right.

    Args:
        frame: One row a measurement, as `Load.row` returns it. Latencies are milliseconds.
        title: A line above the panels.
        against: What stands on the horizontal axis, "batch_size" or "concurrency". The other one
            makes the curves; up to three.

    Returns:
        The axes of the two panels.

    Raises:
        InputError: There are no rows, more than three curves, or no such `against`.
    """
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    if against not in LOADS:
        raise InputError(f"against must be one of {', '.join(LOADS)}, not {against!r}.")
    (by,) = LOADS.keys() - {against}
    groups = list(frame.groupby(by))
    _check_curves(by, len(groups))
    _, (speed, latency) = plt.subplots(1, 2, figsize=(WIDTH, 3.7))
    middle = (len(groups) - 1) / 2
    for place, ((value, rows), (form, color)) in enumerate(zip(groups, CURVES, strict=False)):
        rows = rows.sort_values(against)
        speed.plot(rows[against], rows.pairs_per_second, form, color=color, label=f"{value}")
        x = rows[against] * APART ** (place - middle)
        latency.vlines(x, rows.p50, rows.p99, color=color, linewidth=1.2)
        latency.plot(x, rows.p50, form, color=color)
        latency.plot(x, rows.p95, "_", color=color, markersize=9, markeredgewidth=2)
    ticks = sorted(frame[against].unique())
    for axes in (speed, latency):
        axes.set_xscale("log", base=2)  # each doubling equally far, and only what was measured
        axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axes.set_xlabel(LOADS[against])
        axes.grid(axis="y")
    speed.set(title="speed", ylabel="pairs a second", ylim=(0, None))
    latency.set(title="latency: point p50, dash p95, end p99", ylabel="milliseconds a request")
    latency.set_yscale("log")
    latency.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    latency.yaxis.set_major_formatter("{x:,g}")
    for axes in (speed, latency):
        axes.minorticks_off()
    speed.legend(title=LOADS[by], fontsize=9)
    write_title(speed, title)
    return np.array([speed, latency])


def _check_curves(what: str, number: int) -> None:
    if not 1 <= number <= len(CURVES):
        raise InputError(
            f"A chart holds 1 to {len(CURVES)} curves, which can be told apart, and {what} has "
            f"{number}. Draw a part of the rows."
        )
