"""Show scores as HTML tables: ranked documents with bars, a coloured grid, the rows of a table.

A view may stand on white or on black: what is drawn is blue, and text keeps the page's colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.client import ScoreResult
from helpers.tables import html_table, text_table
from helpers.views.charts import BAR, BARS_SHOWN, heat_range, heat_values

ROWS_SHOWN = 20


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
        before: The result that stood here until now: where a style animates the class
            `score-bar-moves`, the bars move from its scores to the new ones.
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
        style, moving = f"margin-left:{left:.1f}%;width:{width:.1f}%", ""
        if before:
            from_left, from_width = place_of(old.get(document, 0.0))
            style += f";--from-left:{from_left:.1f}%;--from:{from_width:.1f}%"
            moving = ' class="score-bar-moves"'
        bar = f'<div{moving} style="height:14px;margin-top:2px;border-radius:2px;'
        bar += f'background-color:{BAR};{style}"></div>'
        rows.append((f"{place + 1}{_arrow(climbed, document)}", score, bar, document))
    return html_table(
        pd.DataFrame(rows, columns=["place", "score", "", "document"]),
        formats={"score": ".2f"},
        html=["place", ""],
        # Fixed, or the bars would begin elsewhere after each answer.
        widths={"place": "4em", "score": "4em", "": "24%"},
        text_width=120,
    )


def _arrow(climbed: Mapping[str, int] | None, document: str) -> str:
    if climbed is None or not (places := climbed.get(document, 0)):
        return ""
    up = places > 0
    steps = "1 place" if abs(places) == 1 else f"{abs(places)} places"
    words = f"{steps} {'higher' if up else 'lower'} than on the left"
    return f' <span title="{words}">{"▲" if up else "▼"}{abs(places)}</span>'


@dataclass(frozen=True, repr=False)
class HeatTable:
    """Show scores of N queries by M documents as a table whose cells tell all on hover.

    A mouse that rests on a cell shows query, document and score in full. For paper and for pages
    without a mouse there is `heat_map`.

    Attributes:
        frame: Scores, one row a query and one column a document; the labels are their texts.

    Raises:
        InputError: As for `heat_map`.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        """Refuse a frame that cannot be shown."""
        heat_values(self.frame)

    def __repr__(self) -> str:
        """Show the frame in a terminal."""
        return text_table(**self._shown(), text_width=24)

    def _repr_html_(self) -> str:
        """Show coloured cells in a notebook."""
        values = heat_values(self.frame)
        low, high = heat_range(values)
        titles, styles = pd.DataFrame(values).astype(object), pd.DataFrame(values).astype(object)
        for (row, column), value in np.ndenumerate(values):
            query, document = self.frame.index[row], self.frame.columns[column]
            titles.iat[row, column] = f"{value:.4f}\nquery: {query}\ndocument: {document}"
            styles.iat[row, column] = _veil((value - low) / (high - low))
        return html_table(**self._shown(), titles=titles, styles=styles, text_width=60)

    def _shown(self) -> dict[str, Any]:
        frame = self.frame.astype(float).rename_axis(index="query")
        return {"frame": frame, "formats": dict.fromkeys(frame, ".2f"), "hide_index": False}


def _veil(share: float) -> str:
    """Return a blue over the page; up to the middle its own text colour stays legible on it."""
    strength = 0.6 + 0.4 * share if share > 0.5 else 0.7 * share
    ink = ";color:#fff" if share > 0.5 else ""
    return f"padding:6px 8px;background-color:rgba(29,78,216,{strength:.2f}){ink}"


def rows_html(frame: pd.DataFrame, of: int) -> str:
    """Write the first 20 rows of a table as HTML, with a line on how many of `of` there are."""
    shown = f", the first {ROWS_SHOWN} shown" if len(frame) > ROWS_SHOWN else ""
    caption = f"{len(frame):,} of {of:,} rows{shown}"
    return html_table(frame.head(ROWS_SHOWN), caption=caption, text_width=160)
