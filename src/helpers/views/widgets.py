"""Show scores in views that react to typing, sliding and choosing.

A view never talks to a server: you give it the function that scores, such as `client.score`. What
to score is decided in `latest`, how it looks in `score_tables`.

`ScoreTable` is not itables: that keeps its selection in JavaScript, where no code of a notebook can
read it, and to work without a network it stores 0.6 MB of script in the notebook, which JupyterLab
does not run in a notebook that it does not trust, so that nothing is seen.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from html import escape

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import display
from pandas.api.types import is_numeric_dtype

from helpers.client import ScoreResult
from helpers.errors import InputError
from helpers.tables import printable, text_table
from helpers.views.charts import BAR
from helpers.views.latest import PAUSE, LatestRequest, Phase, Score, State, message_of, moves
from helpers.views.score_tables import ROWS_SHOWN, bars_html, rows_html

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Its width is what the box around it leaves: with 100 % the margins would cut its right edge.
WIDE = {"width": "auto"}
# Side by side where each has its 340 px, else one below the other.
WRAPPING = {**WIDE, "flex_flow": "row wrap"}
SIDE = {"flex": "1 1 340px", "padding": "0 6px"}
FIELD = {"width": "auto", "max_width": "32em"}
NAMED = {"description_width": "6em"}
# What only a living view needs: pale bars, bars and lines that move, and room for the two ends of a
# range, which ipywidgets writes to the edge of their frame.
LIVE = """<style>
.score-pale{opacity:.45}
.score-range .widget-readout{min-width:7em;text-align:center}
@media(prefers-reduced-motion:no-preference){
  .score-bar-moves{animation:score-bar-move .5s ease-out}
  .score-slides{animation:score-slide .8s ease-in-out infinite alternate}
}
@keyframes score-bar-move{from{margin-left:var(--from-left);width:var(--from)}}
@keyframes score-slide{from{margin-left:0}to{margin-left:75%}}
</style>"""


class View:
    """Show a widget while its kernel lives, and what it showed first where there is none.

    In a reopened notebook, JupyterLab would show only "model not found" in place of a widget. So a
    view is two outputs: its plain form, which a style inside the widget hides, and the widget,
    whose output is hidden for as long as no widget is in it.

    Attributes:
        widget: The outermost ipywidget, to be placed among others.
    """

    widget: ipywidgets.DOMWidget

    def to_html(self) -> str:
        """Return what the view shows now as HTML that needs no kernel."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        plain = self.to_html()
        name = f"score-view-{hashlib.sha256(plain.encode()).hexdigest()[:12]}"  # no random number
        output = ".jp-OutputArea-child"  # JupyterLab's; elsewhere the rules with it do nothing
        empty = f"{output}:has(#{name})+{output}:not(:has(.jupyter-widgets>*))"
        plain = f'<style>{empty}{{display:none}}</style><div id="{name}">{plain}</div>'
        display({"text/html": plain, "text/plain": repr(self)}, raw=True)
        hide = f"<style>#{name}{{display:none}}{output}:has(#{name}){{display:none}}</style>"
        live = {"version_major": 2, "version_minor": 0}  # of the protocol of ipywidgets 7 and 8
        live["model_id"] = _box(self.widget, style=hide).model_id
        display({WIDGET_VIEW: live, "text/html": ""}, raw=True)


def _box(*parts: ipywidgets.DOMWidget, style: str = LIVE) -> ipywidgets.VBox:
    """Put parts one below the other, with a style that comes and goes with them."""
    return ipywidgets.VBox(
        [ipywidgets.HTML(style, layout={"display": "none"}), *parts], layout=WIDE
    )


class _Rankings(View):
    """Rank the same documents for one query or several: fields to type in, and bars for each."""

    def __init__(
        self,
        score: Score,
        queries: Mapping[str, str],
        documents: Sequence[str],
        top_n: int,
        pause: float,
    ) -> None:
        if isinstance(documents, str):
            raise InputError("documents is a single text: expected a list of texts.")
        # One document a line, so a line break inside a document has to go.
        lines = [" ".join(document.split()) for document in documents]
        self.documents = ipywidgets.Textarea(
            value="\n".join(lines),
            description="Documents",
            placeholder="one document a line",
            rows=min(max(len(lines), 3), 8),
            style=NAMED,
            layout=WIDE,
        )
        most = max(len(lines), 1)
        self.top_n = ipywidgets.IntSlider(
            value=min(top_n, most), min=1, max=most, description="top_n", style=NAMED
        )
        again = ipywidgets.Button(description="Score again", icon="refresh")
        self._controls = ipywidgets.HBox([self.top_n, again], layout=WRAPPING)
        self._queries = [
            ipywidgets.Text(value=query, description=name, style=NAMED, layout=WIDE)
            for name, query in queries.items()
        ]
        sides = range(len(queries))
        self._status = [ipywidgets.HTML(layout=WIDE) for _ in sides]
        self._bars = [ipywidgets.HTML(layout=WIDE) for _ in sides]
        self._drawn: list[ScoreResult | None] = [None for _ in sides]
        # Answers arrive in threads of their own, while the slider redraws from the kernel's.
        self._lock = threading.RLock()
        self._requests = [
            LatestRequest(score, partial(self._show, side), pause=pause, lock=self._lock)
            for side in sides
        ]
        for query, request in zip(self._queries, self._requests, strict=True):
            request.ask_and_wait(query.value, lines)
        for field in (*self._queries, self.documents):
            field.observe(lambda _: self._ask(), "value")
        self.top_n.observe(lambda _: self._draw(*sides), "value")
        again.on_click(lambda _: self._ask(again=True))

    def to_html(self) -> str:
        """Return queries and bars as HTML that needs no kernel."""
        sides = "".join(
            f'<div style="flex:1 1 340px;padding:0 6px"><p dir="auto"><strong>'
            f"{escape(printable(query.value))}</strong></p>"
            f"{_status_html(self._requests[side].state)}{self._bars_html(side)}</div>"
            for side, query in enumerate(self._queries)
        )
        return f'<div style="display:flex;flex-wrap:wrap">{sides}</div>'

    def __repr__(self) -> str:
        """Show the rankings, or what stands in their place, as text."""
        states = [request.state for request in self._requests]
        return "\n\n".join(
            printable(state.message)
            if state.result is None or state.phase is Phase.FAILED
            else repr(state.result.ranked())
            for state in states
        )

    def _ask(self, *, again: bool = False) -> None:
        documents = self.documents.value.splitlines()
        self.top_n.max = max(1, sum(bool(document.strip()) for document in documents))
        for query, request in zip(self._queries, self._requests, strict=True):
            request.ask(query.value, documents, again=again)

    def _show(self, side: int, state: State) -> None:
        self._status[side].value = _status_html(state)
        # What is about to be replaced, or could not be, must not look like the answer.
        pale = state.busy or state.phase is Phase.FAILED
        bars = self._bars[side]
        (bars.add_class if pale else bars.remove_class)("score-pale")
        if state.result is not self._drawn[side]:
            before, self._drawn[side] = self._drawn[side], state.result
            bars.value = self._bars_html(side, before)
            if side == 0:  # which the arrows of the others compare with
                self._draw(*range(1, len(self._bars)))

    def _draw(self, *sides: int) -> None:
        with self._lock:
            for side in sides:
                self._bars[side].value = self._bars_html(side)

    def _bars_html(self, side: int, before: ScoreResult | None = None) -> str:
        first, result = self._drawn[0], self._drawn[side]
        if result is None:
            return ""
        climbed = moves(first, result) if side and first else None
        return bars_html(result, self.top_n.value, before=before, climbed=climbed)


class Playground(_Rankings):
    """Let a learner type a query and documents, and watch the ranking follow.

    An error of the scoring is shown as a message in the view.

    Args:
        score: Gives the scores of one query and a list of documents, for instance `client.score`.
        query: What stands in the field at first; it is scored before the view appears.
        documents: The same for the documents.
        top_n: How many bars; the slider changes this without a new request.
        pause: Seconds that the typing must pause before something is sent.

    >>> from helpers.client import ScoreResult
    >>> def longest(query, documents):
    ...     scores = tuple(len(text) / 10 for text in documents)
    ...     return ScoreResult((query,) * len(documents), tuple(documents), scores, "length", 0)
    >>> view = Playground(longest, "Which is longer?", ["Short.", "Not short."])
    >>> view.result.ranked().documents
    ('Not short.', 'Short.')
    """

    def __init__(
        self,
        score: Score,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int = 5,
        pause: float = PAUSE,
    ) -> None:
        """Build the view, and score what it begins with."""
        super().__init__(score, {"Query": query}, documents, top_n, pause)
        (self.query,) = self._queries
        fields = self.query, self.documents, self._controls
        self.widget = _box(*fields, *self._status, *self._bars)

    @property
    def result(self) -> ScoreResult | None:
        """Return the newest answer, or None if there is nothing to score."""
        return self._requests[0].state.result

    def wait(self, timeout: float = 120.0) -> State:
        """Return the state as soon as the last change is answered, for use in code."""
        return self._requests[0].wait(timeout)


class QueryComparison(_Rankings):
    """Rank the same documents for two queries, side by side.

    On the right an arrow says by how many places a document stands higher or lower than on the
    left. The other arguments are those of `Playground`.

    Args:
        left: The one query.
        right: The other query.
    """

    def __init__(
        self,
        score: Score,
        left: str,
        right: str,
        documents: Sequence[str],
        *,
        top_n: int = 5,
        pause: float = PAUSE,
    ) -> None:
        """Build the view, and score what it begins with."""
        super().__init__(score, {"Left": left, "Right": right}, documents, top_n, pause)
        self.left, self.right = self._queries
        columns = zip(self._queries, self._status, self._bars, strict=True)
        sides = [ipywidgets.VBox(column, layout=SIDE) for column in columns]
        beside = ipywidgets.HBox(sides, layout=WRAPPING)
        self.widget = _box(self.documents, self._controls, beside)

    @property
    def results(self) -> tuple[ScoreResult | None, ScoreResult | None]:
        """Return the newest answers, left and right."""
        left, right = self._requests
        return left.state.result, right.state.result

    def wait(self, timeout: float = 120.0) -> tuple[State, State]:
        """Return both states as soon as the last changes are answered, for use in code."""
        left, right = self._requests
        return left.wait(timeout), right.wait(timeout)


class ScoreTable(View):
    """Show a table that sorts and filters.

    Args:
        frame: Any table; numbers of its column `score`, if it has one, can be cut with a slider.
            Rows without a number are shown until it is moved.
        sort_by: The name of the column by which the rows are sorted at first, largest first.
        score: The name of the column with the scores.

    Raises:
        InputError: There is no column `sort_by`.
    """

    def __init__(
        self, frame: pd.DataFrame, *, sort_by: Hashable = "score", score: Hashable = "score"
    ) -> None:
        """Build the view."""
        if sort_by not in frame.columns:
            raise InputError(f"The table has no column {sort_by!r}. It has {[*frame.columns]}.")
        self._frame, self._score = frame, score
        self.contains = ipywidgets.Text(
            description="Contains", placeholder="any text", style=NAMED, layout=FIELD
        )
        names = [(str(name), name) for name in frame.columns]
        self.sort_by = ipywidgets.Dropdown(
            options=names, value=sort_by, description="Sort by", style=NAMED
        )
        self.order = ipywidgets.ToggleButtons(
            options=[("largest first", False), ("smallest first", True)],
            tooltips=["9 to 0, Z to A", "0 to 9, A to Z"],
        )
        order = ipywidgets.HBox([self.sort_by, self.order], layout=WRAPPING)
        controls: list[ipywidgets.DOMWidget] = [self.contains, order]
        self.between: ipywidgets.FloatRangeSlider | None = None
        if score in frame.columns and is_numeric_dtype(frame[score]) and len(frame):
            numbers = [0.0, 1.0, *frame[score][np.isfinite(frame[score])]]
            low, high = min(numbers), max(numbers)
            self.between = ipywidgets.FloatRangeSlider(
                value=(low, high),
                min=low,
                max=high,
                step=0.01,
                description="Score",
                style=NAMED,
                layout=FIELD,
            )
            self.between.add_class("score-range")
            controls.insert(1, self.between)
        self._rows = ipywidgets.HTML(layout=WIDE)
        self.widget = _box(*controls, self._rows)
        for control in filter(None, (self.contains, self.sort_by, self.order, self.between)):
            control.observe(lambda _: self._draw(), "value")
        self._draw()

    @property
    def rows(self) -> pd.DataFrame:
        """Return the rows that are selected now, in their order."""
        frame, slider = self._frame, self.between
        if wanted := self.contains.value.strip().casefold():
            frame = frame[frame.map(lambda cell: wanted in str(cell).casefold()).any(axis=1)]
        if slider is not None and slider.value != (slider.min, slider.max):
            frame = frame[frame[self._score].between(*slider.value)]
        order = {"ascending": self.order.value, "kind": "stable"}  # equal cells keep their order
        return frame.sort_values(self.sort_by.value, **order)

    def to_html(self) -> str:
        """Return the selected rows as HTML that needs no kernel."""
        return rows_html(self.rows, len(self._frame))

    def __repr__(self) -> str:
        """Show the selected rows as text."""
        return text_table(self.rows.head(ROWS_SHOWN))

    def _draw(self) -> None:
        try:
            self._rows.value = self.to_html()
        except (TypeError, ValueError) as error:  # a column that cannot be sorted
            self._rows.value = _message_html(message_of(error))


def _status_html(state: State) -> str:
    if state.phase is Phase.FAILED:
        return _message_html(state.message)
    line = ""
    if state.scored:
        line = f'<div style="width:{100 * state.scored / state.total:.0f}%;'
    elif state.busy:
        line = '<div class="score-slides" style="width:25%;'
    if line:
        line += f'height:3px;background-color:{BAR}"></div>'
    return (
        f'<div role="status"><div style="height:3px">{line}</div>'
        f'<span style="opacity:.75">{escape(printable(state.message))}</span></div>'
    )


def _message_html(message: str) -> str:
    return (
        '<div role="alert" style="border-left:4px solid #dc2626;background-color:'
        'rgba(220,38,38,0.12);padding:6px 10px;line-height:1.4;white-space:pre-wrap">'
        f"{escape(printable(message))}</div>"
    )
