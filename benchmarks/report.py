"""Tables for a terminal or a Markdown page, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from matplotlib.figure import Figure

from aims import Ratio
from helpers.views.charts import BAR, GUIDE
from measurement import Measurement, Run
from workload import PASSAGES, SHORT

NOT_MEASURED = "–"
TITLES = {PASSAGES: "passages", SHORT: "short pairs"}


def measured_table(run: Run) -> str:
    """Write what was measured as a Markdown table: medians, with the spread of the rounds."""
    head = ["peer", "ready", *(f"{_titled(run, name)}, pairs/s" for name in TITLES), "one pair"]
    rows = [
        [
            m.peer,
            _seconds(m.ready),
            *(_rate(m, name) for name in TITLES),
            NOT_MEASURED if m.latency is None else f"{1000 * m.latency:.1f} ms",
        ]
        for m in run.measurements
        if not m.missing
    ]
    remarks = [f"{m.peer}: {m.note}" for m in run.measurements if m.note]
    remarks += [f"{m.peer}: not measured: {m.missing}" for m in run.measurements if m.missing]
    return "\n".join([_table(head, rows), *(f"\n{remark}" for remark in remarks)])


def ratio_table(ratios: list[Ratio]) -> str:
    """Write the ratios as a Markdown table, each with its aim."""
    words = {True: "met", False: "missed", None: NOT_MEASURED}
    rows = [
        [
            ratio.text,
            "not measured" if ratio.value is None else f"{ratio.value:.2f}",
            ratio.bound,
            words[ratio.met],
        ]
        for ratio in ratios
    ]
    return _table(["ours", "ratio", "aim", ""], rows)


def facts(run: Run) -> str:
    """Write in two lines what the figures were measured on."""
    versions: dict[str, str] = {}
    for m in run.measurements:
        for package, number in m.versions.items():
            versions.setdefault(package, number)
    return "\n".join(
        [
            f"{run.date[:10]}: " + ", ".join(run.hardware.values()),
            ", ".join(f"{package} {number}" for package, number in versions.items()),
        ]
    )


def draw(run: Run) -> Figure:
    """Draw pairs per second of both workloads, and the times to ready, peers as bars.

    A bar ends at the median; the whisker spans the rounds.
    """
    panels: list[tuple[str, Mapping[str, list[float]]]] = [
        (f"{_titled(run, name)}, pairs/s", _best_rates(run, name)) for name in TITLES
    ]
    ready = {m.peer: [m.ready] for m in run.measurements if m.ready is not None}
    panels.append(("time to ready, seconds", ready))
    panels = [(title, bars) for title, bars in panels if bars]
    longest = max(len(bars) for _, bars in panels)
    figure = Figure(figsize=(5 * len(panels), 1.2 + 0.45 * longest), layout="constrained")
    for axes, (title, bars) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        middle = [median(values) for values in bars.values()]
        spread = [
            [centre - min(values) for centre, values in zip(middle, bars.values(), strict=True)],
            [max(values) - centre for centre, values in zip(middle, bars.values(), strict=True)],
        ]
        colours = [BAR if peer == "ours" else GUIDE for peer in bars]
        drawn = axes.barh(list(bars), middle, xerr=spread, color=colours, ecolor="k", capsize=3)
        axes.bar_label(drawn, [_number(value) for value in middle], padding=6)
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_ylim(longest - 0.4, -0.6)  # bars of one thickness in all panels, the first on top
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _best_rates(run: Run, workload: str) -> dict[str, list[float]]:
    # The client's own comparison is one of a few percent: a bar does not show it.
    return {
        m.peer: best[1]
        for m in run.measurements
        if m.peer not in ("client", "raw-loop") and (best := m.best(workload))
    }


def _rate(measurement: Measurement, workload: str) -> str:
    best = measurement.best(workload)
    if best is None:
        return NOT_MEASURED
    setting, values = best
    return f"{_number(median(values))} ({_number(min(values))}–{_number(max(values))}; {setting})"


def _titled(run: Run, workload: str) -> str:
    return f"{TITLES[workload]} ({run.tokens[workload]:.0f} tokens)"


def _seconds(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.1f} s"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
