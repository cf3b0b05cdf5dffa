"""Draw results. A view here is given a result; it never asks a server."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from helpers.errors import InputError
from helpers.results import ScoreResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR = "#2563eb"
BARS_SHOWN = 20
LABEL_WIDTH = 60


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
