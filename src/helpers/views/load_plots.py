"""Draw how a server did under load: pairs a second, and the latencies of its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.errors import InputError
from helpers.views.evaluation_plots import CURVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {"batch_size": "pairs in a request", "concurrency": "requests in flight"}
# Curves stand a little apart, or their latencies would cover each other.
APART = 1.06


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

    if against not in NAMES:
        raise InputError(f"against must be one of {', '.join(NAMES)}, and is {against!r}.")
    (by,) = NAMES.keys() - {against}
    groups = list(frame.groupby(by))
    if not 1 <= len(groups) <= len(CURVES):
        raise InputError(f"A chart holds 1 to {len(CURVES)} curves, and {by} has {len(groups)}.")
    figure, (speed, latency) = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
    middle = (len(groups) - 1) / 2
    for place, ((value, rows), (form, color)) in enumerate(zip(groups, CURVES, strict=False)):
        rows = rows.sort_values(against)
        speed.plot(rows[against], rows.pairs_per_second, form, color=color, label=f"{value}")
        x = rows[against] * APART ** (place - middle)
        latency.vlines(x, rows.p50, rows.p99, color=color, linewidth=1.2)
        latency.plot(x, rows.p50, form, color=color)
        latency.plot(x, rows.p95, "_", color=color, markersize=9, markeredgewidth=2)
    speed.set_title("pairs a second", loc="left", fontsize=10)
    latency.set_title("ms a request: point p50, dash p95, end p99", loc="left", fontsize=10)
    for axis in (speed, latency):
        _measured_only(axis, sorted(frame[against].unique()))
        axis.set_xlabel(NAMES[against])
    speed.set_ylim(bottom=0)
    _plain_logarithms(latency)
    speed.legend(title=NAMES[by], frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return np.array([speed, latency])


def _measured_only(axis: Axes, ticks: list[int]) -> None:
    """Mark on the horizontal axis only what was measured, each doubling equally far."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.grid(axis="y", color="0.88")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _plain_logarithms(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.minorticks_off()
