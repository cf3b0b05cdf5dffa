"""Draw results. A view here is given a result; it never asks a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from textwrap import fill, shorten
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.client import ScoreResult
from helpers.client import shorten as one_line
from helpers.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR = "#2563eb"
# Orange stays apart from the blue of the bars for every common kind of colour blindness.
CONTRAST, GUIDE = "#d97706", "#6b7280"
BARS_SHOWN = 20
LABEL_WIDTH = 60
# More can not be read: the values would touch each other.
HEAT_ROWS, HEAT_COLUMNS = 30, 15
ROWS_SHOWN = 20
LEFT = 'style="text-align:left"'
# A view may stand on white or on black: what is drawn is blue, and text keeps the page's colour.
MOVE = "<style>@keyframes score-bar-move{from{margin-left:var(--from-left);width:var(--from)}}"
MOVE += "@media(prefers-reduced-motion:no-preference)"
MOVE += "{.score-bar-moves{animation:score-bar-move .5s ease-out}}</style>"


def bar_chart(result: ScoreResult, title: str | None = None) -> Axes:
    """Draw the documents of one query as bars, best score on top.

    Args:
        result: Scores of one query against N documents; the best 20 are drawn.
        title: A line above the bars; by default the query.

    Returns:
        The axes, for whoever wants to add to them.

    Raises:
        InputError: The result holds more than one query, so its bars could not be compared.
    """
    from matplotlib import pyplot as plt  # here: `python -m helpers` need not wait for it

    queries = set(result.queries)
    if len(queries) != 1:
        raise InputError(
            f"A bar chart compares the documents of one query, and this result has {len(queries)}."
            " Score one query against a list of documents, or draw result.to_frame() yourself."
        )
    best = result.ranked()
    scores = best.scores[:BARS_SHOWN]
    labels = [shorten(text, LABEL_WIDTH, placeholder=" …") for text in best.documents[:BARS_SHOWN]]

    _, axes = plt.subplots(figsize=(9, 0.8 + 0.4 * len(scores)), layout="constrained")
    bars = axes.barh(range(len(scores)), scores, color=BAR)
    axes.bar_label(bars, [f"{score:.2f}" for score in scores], padding=4)
    axes.set_yticks(range(len(scores)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("score")
    axes.set_title(title or next(iter(queries)), loc="left", fontweight="bold")
    if min(scores) >= 0 and max(scores) <= 1:
        axes.set_xlim(0, 1.12)  # room for the label of a bar that ends at 1
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def bars_html(
    result: ScoreResult,
    top_n: int = BARS_SHOWN,
    *,
    before: ScoreResult | None = None,
    climbed: Mapping[str, int] | None = None,
) -> str:
    """Write the best documents of one query as an HTML table with a bar in each row.

    Args:
        result: Scores of one query against N documents.
        top_n: How many rows.
        before: The result that stood here until now: the bars move from its scores to the new ones.
        climbed: By how many places each document climbed; shown as an arrow beside its place.

    Returns:
        HTML that is legible on light and on dark pages.
    """
    best = result.ranked()
    old = dict(zip(before.documents, before.scores, strict=True)) if before else {}
    # One scale for old and new bars; scores between 0 and 1 always have the same.
    ends = [0.0, 1.0, *result.scores, *old.values()]
    low, span = min(ends), max(ends) - min(ends)

    def place_of(score: float) -> tuple[float, float]:
        return 100 * (min(score, 0.0) - low) / span, max(100 * abs(score) / span, 0.3)

    rows = []
    for place in range(min(top_n, len(best))):
        score, document = best.scores[place], best.documents[place]
        left, width = place_of(score)
        style = f"margin-left:{left:.1f}%;width:{width:.1f}%"
        moving = ""
        if before:
            from_left, from_width = place_of(old.get(document, 0.0))
            style += f";--from-left:{from_left:.1f}%;--from:{from_width:.1f}%"
            moving = ' class="score-bar-moves"'
        rows.append(
            f'<tr><td style="text-align:right;white-space:nowrap">{place + 1}'
            f"{_arrow(climbed, document)}</td>"
            f'<td style="text-align:right;padding:2px 8px">{score:.2f}</td>'
            f'<td style="width:35%"><div{moving} style="height:14px;border-radius:2px;'
            f'background-color:{BAR};{style}"></div></td>'
            f'<td dir="auto" title="{escape(document)}" style="text-align:left;padding:2px 8px;'
            f'white-space:normal">{escape(one_line(document, 120))}</td></tr>'
        )
    return (
        f'{MOVE if before else ""}<table style="width:100%;border-collapse:collapse;'
        'line-height:1.35"><thead><tr><th scope="col" style="text-align:right">place</th>'
        '<th scope="col" style="text-align:right;padding:2px 8px">score</th><th></th>'
        '<th scope="col" style="text-align:left;padding:2px 8px">document</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def heat_map(frame: pd.DataFrame, title: str | None = None) -> Axes:
    """Draw the scores of N queries by M documents as a grid of coloured, labelled cells.

    Args:
        frame: Scores, one row a query and one column a document; the labels are their texts.
        title: A line above the grid.

    Returns:
        The axes, for whoever wants to add to them.

    Raises:
        InputError: The frame is empty, holds something else than numbers, or has more than 30 rows
            or 15 columns, so that its values could not be read.
    """
    from matplotlib import pyplot as plt

    values = _heat_values(frame)
    n_rows, n_columns = values.shape
    width, height = 3.8 + 1.1 * n_columns, 2.2 + 0.55 * n_rows
    figure, axes = plt.subplots(figsize=(max(width, 6), height), layout="constrained")
    low, high = _heat_range(values)
    image = axes.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    for row, column in np.ndindex(n_rows, n_columns):
        value = values[row, column]
        dark = (value - low) / (high - low) > 0.55
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
    axes.set_yticks(range(n_rows), [_label(text, 36, 2) for text in frame.index])
    columns = [_label(text, 24, 3) for text in frame.columns]
    axes.set_xticks(range(n_columns), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlabel("document")
    axes.set_ylabel("query")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(0.5, n_columns - 1), minor=True)
    axes.set_yticks(np.arange(0.5, n_rows - 1), minor=True)
    axes.grid(which="minor", color="w", linewidth=2)
    axes.tick_params(which="minor", length=0)
    if title:
        axes.set_title(title, loc="left", fontweight="bold")
    figure.colorbar(image, ax=axes, label="score", shrink=0.9)
    return axes


@dataclass(frozen=True, repr=False)
class HeatTable:
    """Show scores of N queries by M documents as a table whose cells tell all on hover.

    frame: scores, one row a query and one column a document; the labels are their texts.

    A mouse that rests on a cell shows query, document and score in full. For paper and for pages
    without a mouse there is `heat_map`. Raises `InputError` as `heat_map` does.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        """Refuse a frame that can not be shown."""
        _heat_values(self.frame)

    def __repr__(self) -> str:
        """Show the frame in a terminal."""
        return self.frame.round(2).to_string()

    def _repr_html_(self) -> str:
        """Show coloured cells in a notebook."""
        values = _heat_values(self.frame)
        low, high = _heat_range(values)
        head = "".join(
            f'<th scope="col" dir="auto" title="{escape(str(text))}" style="text-align:left;'
            'vertical-align:bottom;white-space:normal;max-width:11em">'
            f"{escape(one_line(str(text), 48))}</th>"
            for text in self.frame.columns
        )
        body = []
        for query, row in zip(self.frame.index, values, strict=True):
            cells = []
            for document, value in zip(self.frame.columns, row, strict=True):
                share = (value - low) / (high - low)
                # A veil of the bars' blue over the page: its text colour stays legible below 0.5.
                ink = ";color:#fff" if share > 0.5 else ""
                tip = escape(f"{value:.4f}\nquery: {query}\ndocument: {document}")
                cells.append(
                    f'<td title="{tip}" style="text-align:center;padding:6px 10px;'
                    f'background-color:{_veil(share)}{ink}">{value:.2f}</td>'
                )
            body.append(
                f'<tr><th scope="row" dir="auto" title="{escape(str(query))}" style="text-align:'
                'left;white-space:normal;max-width:18em">'
                f"{escape(one_line(str(query), 60))}</th>{''.join(cells)}</tr>"
            )
        return (
            f'<table style="border-collapse:collapse"><thead><tr><th scope="col" {LEFT}>query</th>'
            f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        )


def table_html(frame: pd.DataFrame, of: int) -> str:
    """Write the first 20 rows of a table as HTML, with a line on how many of `of` there are."""
    numbers = frame.select_dtypes("number").columns
    align = {name: "right" if name in numbers else "left" for name in frame.columns}
    head = "".join(
        f'<th scope="col" style="text-align:{align[name]};padding:2px 8px">{escape(str(name))}</th>'
        for name in frame.columns
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td dir="auto" title="{escape(str(value))}" style="text-align:{align[name]};padding:'
            f'2px 8px;white-space:normal">{escape(_cell(value))}</td>'
            for name, value in zip(frame.columns, row, strict=True)
        )
        + "</tr>"
        for row in frame.head(ROWS_SHOWN).itertuples(index=False, name=None)
    )
    shown = f", the first {ROWS_SHOWN} shown" if len(frame) > ROWS_SHOWN else ""
    return (
        f"<p>{len(frame):,} of {of:,} rows{shown}</p>"
        '<table style="width:100%;border-collapse:collapse;line-height:1.35">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _arrow(climbed: Mapping[str, int] | None, document: str) -> str:
    if climbed is None or not (places := climbed.get(document, 0)):
        return ""
    up = places > 0
    steps = "1 place" if abs(places) == 1 else f"{abs(places)} places"
    words = f"{steps} {'higher' if up else 'lower'} than on the left"
    return f' <span title="{words}">{"▲" if up else "▼"}{abs(places)}</span>'


def _heat_values(frame: pd.DataFrame) -> np.ndarray:
    n_rows, n_columns = frame.shape
    if not (1 <= n_rows <= HEAT_ROWS and 1 <= n_columns <= HEAT_COLUMNS):
        raise InputError(
            f"A heat map holds 1 to {HEAT_ROWS} queries and 1 to {HEAT_COLUMNS} documents, and "
            f"this frame has {n_rows} rows and {n_columns} columns. Draw a part of it, such as "
            f"frame.iloc[:{HEAT_ROWS}, :{HEAT_COLUMNS}]."
        )
    try:
        values = frame.to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            "A heat map needs numbers only. Keep the texts in the index (queries) and in the "
            "column labels (documents)."
        ) from None
    if not np.isfinite(values).all():
        raise InputError("A heat map needs a number in each cell, and this frame has gaps (NaN).")
    return values


def _heat_range(values: np.ndarray) -> tuple[float, float]:
    """Return the numbers of the lightest and the darkest cell: 0 and 1, or wider for logits."""
    if values.min() >= 0 and values.max() <= 1:
        return 0.0, 1.0
    return float(values.min()), float(max(values.max(), values.min() + 1))


def _veil(share: float) -> str:
    return f"rgba(29,78,216,{0.6 + 0.4 * share if share > 0.5 else 0.7 * share:.2f})"


def _label(text: object, width: int, lines: int) -> str:
    return fill(str(text), width, max_lines=lines, placeholder=" …")


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else one_line(str(value), 160)
