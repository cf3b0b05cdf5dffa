"""Draw scores as bars and as grids, and hold the style that all charts share.

A chart gets a result and never asks a server. It returns its axes, so that you can add to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from helpers.client import ScoreResult
from helpers.errors import InputError
from helpers.tables import display_width, shorten_apart, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

P = ParamSpec("P")
Drawn = TypeVar("Drawn")

BAR = "#2563eb"
# Orange stays apart from the blue of the bars for every common kind of colour blindness.
CONTRAST, GUIDE = "#d97706", "#6b7280"
BARS_SHOWN = 20
# More cannot be read: the values would touch each other.
HEAT_ROWS, HEAT_COLUMNS = 30, 15
WIDTH = 8.5  # inches: what a notebook shows in full beside the file browser of a small screen
LOOK = {
    # Names, queries and documents are texts, not formulas: "$5 to $10" stays as it is.
    "text.parse_math": False,
    "text.usetex": False,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.87",
    "legend.frameon": False,
}


def drawing(draw: Callable[P, Drawn]) -> Callable[P, Drawn]:
    """Let a function that draws, and returns axes, do so in one look, whatever the notebook set.

    The paper is white: on a dark page a drawing stands on a card of its own, so that its colours
    are the same everywhere.
    """

    @wraps(draw)
    def in_one_look(*args: P.args, **kwargs: P.kwargs) -> Drawn:
        from matplotlib import pyplot as plt  # here: `python -m helpers` need not wait for it
        from matplotlib.text import Text

        with plt.style.context(["default", LOOK]):
            axes = draw(*args, **kwargs)
            # The first drawing of a kernel loads its backend, which switches this on for all.
            interactive = plt.isinteractive()
        (plt.ion if interactive else plt.ioff)()
        texts = np.ravel(np.asarray(axes, dtype=object))[0].figure.findobj(Text)
        if any(display_width(text.get_text()) > len(text.get_text()) for text in texts):
            for text in texts:
                text.set_fontfamily(["sans-serif", *_east_asian_fonts()])
        return axes

    return in_one_look


@cache
def _east_asian_fonts() -> list[str]:
    """Return the name of an installed font for Chinese and Japanese; warn, once, if there is none.

    All files are looked at, since matplotlib's own list does not learn of a font installed later.
    """
    from matplotlib import font_manager

    for path in sorted(font_manager.findSystemFonts()):
        try:
            font = font_manager.get_font(path)
        except (OSError, RuntimeError):  # a file that it cannot read
            continue
        if all(font.get_char_index(ord(sign)) for sign in "中の"):
            font_manager.fontManager.addfont(path)
            return [font.family_name]
    # In place of a warning of matplotlib's for each sign.
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
    warnings.warn(
        "No font on this machine has Chinese, Japanese and Korean signs, so they are drawn as "
        "boxes. Install one, such as Debian's fonts-noto-cjk, and restart the kernel.",
        stacklevel=3,
    )
    return []


@drawing
def bar_chart(result: ScoreResult, title: str | None = None) -> Axes:
    """Draw the documents of one query as bars, best score on top.

    Args:
        result: Scores of one query against N documents; the best 20 are drawn.
        title: A line above the bars; by default the query.

    Raises:
        InputError: The result holds more than one query, so its bars could not be compared.
    """
    from matplotlib import pyplot as plt

    queries = set(result.queries)
    if len(queries) != 1:
        raise InputError(
            f"A bar chart compares the documents of one query, and this result has {len(queries)}."
            " Score one query against a list of documents, or draw result.to_frame() yourself."
        )
    best = result.ranked()
    scores = best.scores[:BARS_SHOWN]
    _, axes = plt.subplots(figsize=(WIDTH, 0.8 + 0.32 * len(scores)))
    bars = axes.barh(range(len(scores)), scores, color=BAR, height=0.7)
    axes.bar_label(bars, [f"{score:.2f}" for score in scores], padding=4)
    axes.set_yticks(range(len(scores)), shorten_apart(best.documents[:BARS_SHOWN], 60))
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("score")
    if min(scores) >= 0 and max(scores) <= 1:
        axes.set_xlim(0, 1.12)  # room for the label of a bar that ends at 1
    write_title(axes, title or queries.pop())
    return axes


@drawing
def heat_map(frame: pd.DataFrame, title: str | None = None) -> Axes:
    """Draw the scores of N queries by M documents as a grid of coloured, labelled cells.

    Args:
        frame: Scores, one row a query and one column a document; the labels are their texts.
        title: A line above the grid.

    Raises:
        InputError: The frame is empty, holds something else than numbers, or has more than 30 rows
            or 15 columns, so that its values could not be read.
    """
    from matplotlib import pyplot as plt

    values = heat_values(frame)
    n_rows, n_columns = values.shape
    # Wide cells where there are few, so that many still fit a page.
    width = 3.6 + n_columns * min(1.0, max(0.5, 4.9 / n_columns))
    figure, axes = plt.subplots(figsize=(max(width, 6), 2.2 + 0.5 * n_rows))
    low, high = heat_range(values)
    image = axes.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    for row, column in np.ndindex(n_rows, n_columns):
        value = values[row, column]
        dark = (value - low) / (high - low) > 0.55
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
    rows, columns = (_labels(axis, 32) for axis in (frame.index, frame.columns))
    axes.set_yticks(range(n_rows), rows)
    axes.set_xticks(range(n_columns), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set(xlabel="document", ylabel="query")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(0.5, n_columns - 1), minor=True)
    axes.set_yticks(np.arange(0.5, n_rows - 1), minor=True)
    axes.grid(which="minor", color="w", linewidth=2)
    axes.tick_params(which="both", length=0)
    figure.colorbar(image, ax=axes, label="score", shrink=0.9)
    write_title(axes, title)
    return axes


def _labels(texts: Iterable[object], width: int) -> list[str]:
    """Return texts as labels of two lines, different where the texts are."""
    labels = shorten_apart([str(text) for text in texts], 2 * width - 8)
    return [wrap(label, width, 2) for label in labels]


def write_title(axes: Axes, title: str | None) -> None:
    """Write a title at the left edge of a drawing, where long labels leave it room."""
    if title:
        axes.figure.suptitle(wrap(title, 90, 2), x=0.01, ha="left")


def heat_values(frame: pd.DataFrame) -> np.ndarray:
    """Return the numbers of a grid of scores; `InputError` if it cannot be shown."""
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


def heat_range(values: np.ndarray) -> tuple[float, float]:
    """Return the numbers of the lightest and the darkest cell: 0 and 1, or wider for logits."""
    if values.min() >= 0 and values.max() <= 1:
        return 0.0, 1.0
    return float(values.min()), float(max(values.max(), values.min() + 1))
