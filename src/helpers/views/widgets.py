"""Show scores that answer to typing, sliding and choosing.

A view never talks to a server: it is given the function that scores, for a server's client
`client.score`. What to score and what to show is decided in `playground`, what it looks like in
`plots`. Each view also stores what it showed first as plain HTML, for readers without a kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets
import pandas as pd

from helpers.client import ScoreResult
from helpers.errors import InputError, ScoreError
from helpers.views.charts import bars_html, table_html
from helpers.views.latest import (
    PAUSE,
    LatestRequest,
    Phase,
    Score,
    State,
    message_of,
    moves,
    select_rows,
)

# Its width is what the box around it leaves: with 100 % the margins would cut its right edge.
WIDE = {"width": "auto"}
# Side by side where the page has room, else one below the other.
WRAPPING = {**WIDE, "flex_flow": "row wrap"}
FIELD = {"width": "32em", "max_width": "100%"}
NAMED = {"description_width": "6em"}
PALE = "<style>.score-pale{opacity:.45}</style>"
SLIDE = (
    "<style>@keyframes score-slide{from{margin-left:0}to{margin-left:75%}}"
    ".score-slides{animation:score-slide .8s ease-in-out infinite alternate}</style>"
)


class View:
    """Show a widget where there is a kernel, and its first state as HTML where there is none.

    widget: the outermost ipywidget, to be placed among others.
    """

    widget: ipywidgets.DOMWidget

    def to_html(self) -> str:
        """Return what the view shows now as HTML that needs no kernel."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the widget together with its plain form; the page takes what it can show."""
        live = self.widget._repr_mimebundle_(**kwargs)
        return {**live, "text/html": self.to_html(), "text/plain": repr(self)}


class RankedBars(View):
    """Show one request and its ranked bars: a line of progress, then a bar for each document.

    score: gives the scores of one query and a list of documents.
    pause: seconds that the typing must pause before something is sent.
    lock: is held while something is drawn; rankings that draw on each other share one.
    on_result: is called when a new answer is shown.
    """

    def __init__(
        self,
        score: Score,
        *,
        top_n: int,
        pause: float = PAUSE,
        lock: threading.RLock | None = None,
        on_result: Callable[[], None] = lambda: None,
    ) -> None:
        """Build the two lines; nothing is asked yet."""
        self.top_n = top_n
        self.compared_with: ScoreResult | None = None
        # Answers arrive in threads of their own, while the slider redraws from the kernel's.
        self._lock = lock or threading.RLock()
        self._on_result = on_result
        self._shown: ScoreResult | None = None
        self._status = ipywidgets.HTML(layout=WIDE)
        self._bars = ipywidgets.HTML(layout=WIDE)
        self.widget = ipywidgets.VBox([self._status, self._bars], layout=WIDE)
        self.request = LatestRequest(score, self._show, pause=pause, lock=self._lock)

    @property
    def result(self) -> ScoreResult | None:
        """Return the newest answer, or None if there is nothing to score."""
        return self.request.state.result

    def redraw(self) -> None:
        """Draw the newest answer again, with the `top_n` and the comparison of now."""
        with self._lock:
            self._bars.value = self._draw(self.result, before=None)

    def to_html(self) -> str:
        """Return message and bars as HTML that needs no kernel."""
        return _status_html(self.request.state) + self._draw(self.result, before=None)

    def _draw(self, result: ScoreResult | None, *, before: ScoreResult | None) -> str:
        if result is None:
            return ""
        climbed = moves(self.compared_with, result) if self.compared_with else None
        return bars_html(result, self.top_n, before=before, climbed=climbed)

    def _show(self, state: State) -> None:
        self._status.value = PALE + _status_html(state)
        # What is about to be replaced, or could not be, must not look like the answer.
        pale = state.busy or state.phase is Phase.FAILED
        (self._bars.add_class if pale else self._bars.remove_class)("score-pale")
        if state.result is not self._shown:
            before, self._shown = self._shown, state.result
            self._bars.value = self._draw(state.result, before=before)
            self._on_result()


class Playground(View):
    """Let a learner type a query and documents, and watch the ranking follow.

    score: gives the scores of one query and a list of documents, for instance `client.score`.
    query, documents: what stands in the fields at first; it is scored before the view appears.
    top_n: how many bars; the slider changes it without asking anew.
    pause: seconds that the typing must pause before something is sent.

    An error of the scoring is shown as a message in the view.

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
        self.query = _query_field("Query", query)
        self.documents = _documents_field(documents)
        self.top_n = _top_n_slider(top_n, len(documents))
        again = ipywidgets.Button(description="Score again", icon="refresh")
        self._ranking = RankedBars(score, top_n=self.top_n.value, pause=pause)
        self.widget = ipywidgets.VBox(
            [
                self.query,
                self.documents,
                ipywidgets.HBox([self.top_n, again]),
                self._ranking.widget,
            ],
            layout=WIDE,
        )
        self._ranking.request.ask_and_wait(query, documents)
        self.query.observe(self._typed, "value")
        self.documents.observe(self._typed, "value")
        self.top_n.observe(self._slid, "value")
        again.on_click(lambda _: self._ranking.request.ask(*self._fields(), again=True))

    @property
    def result(self) -> ScoreResult | None:
        """Return the newest answer, or None if there is nothing to score."""
        return self._ranking.result

    def wait(self, timeout: float = 120.0) -> State:
        """Return the state as soon as the last change is answered, for use in code."""
        return self._ranking.request.wait(timeout)

    def to_html(self) -> str:
        """Return query and bars as HTML that needs no kernel."""
        return _query_html(self.query.value) + self._ranking.to_html()

    def __repr__(self) -> str:
        """Show the ranking, or what stands in its place, as text."""
        return _as_text(self._ranking.request.state)

    def _fields(self) -> tuple[str, list[str]]:
        return self.query.value, self.documents.value.splitlines()

    def _typed(self, change: object) -> None:
        query, documents = self._fields()
        _fit_slider(self.top_n, documents)
        self._ranking.request.ask(query, documents)

    def _slid(self, change: object) -> None:
        self._ranking.top_n = self.top_n.value
        self._ranking.redraw()


class QueryComparison(View):
    """Rank the same documents for two queries, side by side.

    score, documents, top_n, pause: as for `Playground`.
    left, right: the two queries. In the right ranking an arrow says by how many places a document
        stands higher or lower than on the left.
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
        self.left = _query_field("Left", left)
        self.right = _query_field("Right", right)
        self.documents = _documents_field(documents)
        self.top_n = _top_n_slider(top_n, len(documents))
        shared = {"top_n": self.top_n.value, "pause": pause, "lock": threading.RLock()}
        self._rankings = (
            RankedBars(score, **shared, on_result=self._compare),
            RankedBars(score, **shared),
        )
        columns = [
            ipywidgets.VBox(
                [field, ranking.widget], layout={"flex": "1 1 22em", "padding": "0 6px"}
            )
            for field, ranking in zip((self.left, self.right), self._rankings, strict=True)
        ]
        self.widget = ipywidgets.VBox(
            [self.documents, self.top_n, ipywidgets.HBox(columns, layout=WRAPPING)], layout=WIDE
        )
        for ranking, query in zip(self._rankings, (left, right), strict=True):
            ranking.request.ask_and_wait(query, documents)
        for field in (self.left, self.right, self.documents):
            field.observe(self._typed, "value")
        self.top_n.observe(self._slid, "value")

    @property
    def results(self) -> tuple[ScoreResult | None, ScoreResult | None]:
        """Return the newest answers, left and right."""
        return self._rankings[0].result, self._rankings[1].result

    def wait(self, timeout: float = 120.0) -> tuple[State, State]:
        """Return both states as soon as the last changes are answered, for use in code."""
        return tuple(ranking.request.wait(timeout) for ranking in self._rankings)

    def to_html(self) -> str:
        """Return both queries and their bars as HTML that needs no kernel."""
        halves = "".join(
            '<td style="width:50%;vertical-align:top;text-align:left;white-space:normal">'
            f"{_query_html(field.value)}{ranking.to_html()}</td>"
            for field, ranking in zip((self.left, self.right), self._rankings, strict=True)
        )
        return f'<table style="width:100%"><tbody><tr>{halves}</tr></tbody></table>'

    def __repr__(self) -> str:
        """Show both rankings as text."""
        return "\n\n".join(_as_text(ranking.request.state) for ranking in self._rankings)

    def _typed(self, change: object) -> None:
        documents = self.documents.value.splitlines()
        _fit_slider(self.top_n, documents)
        for field, ranking in zip((self.left, self.right), self._rankings, strict=True):
            ranking.request.ask(field.value, documents)

    def _slid(self, change: object) -> None:
        for ranking in self._rankings:
            ranking.top_n = self.top_n.value
            ranking.redraw()

    def _compare(self) -> None:
        """Draw the arrows of the right ranking anew, since the left one has changed."""
        left, right = self._rankings
        right.compared_with = left.result
        right.redraw()


class ScoreTable(View):
    """Show a table that sorts and filters.

    frame: any table; numbers of its column `score`, if it has one, can be cut with a slider.
    sort_by: the column by which the rows are sorted at first, largest first.
    """

    def __init__(self, frame: pd.DataFrame, *, sort_by: str = "score", score: str = "score"):
        """Build the view."""
        self._frame, self._score = frame, score
        columns = [str(name) for name in frame.columns]
        if sort_by not in columns:
            raise InputError(f"The table has no column {sort_by!r}. Its columns: {columns}.")
        self.contains = ipywidgets.Text(
            description="Contains", placeholder="any text", style=NAMED, layout=FIELD
        )
        self.sort_by = ipywidgets.Dropdown(
            options=columns, value=sort_by, description="Sort by", style=NAMED
        )
        self.order = ipywidgets.ToggleButtons(
            options=[("largest first", False), ("smallest first", True)],
            tooltips=["9 to 0, Z to A", "0 to 9, A to Z"],
        )
        self._rows = ipywidgets.HTML(layout=WIDE)
        controls = [self.contains, ipywidgets.HBox([self.sort_by, self.order], layout=WRAPPING)]
        self.between = None
        if score in columns and len(frame):
            low, high = min(0.0, frame[score].min()), max(1.0, frame[score].max())
            self.between = ipywidgets.FloatRangeSlider(
                value=(low, high),
                min=low,
                max=high,
                step=0.01,
                description="Score",
                style=NAMED,
                layout=FIELD,
            )
            controls.insert(1, self.between)
        self.widget = ipywidgets.VBox([*controls, self._rows], layout=WIDE)
        for control in filter(None, (self.contains, self.sort_by, self.order, self.between)):
            control.observe(self._changed, "value")
        self._changed(None)

    @property
    def rows(self) -> pd.DataFrame:
        """Return the rows that are selected now, in their order."""
        return select_rows(
            self._frame,
            contains=self.contains.value,
            sort_by=self.sort_by.value,
            ascending=self.order.value,
            score=self._score,
            between=self.between.value if self.between else None,
        )

    def to_html(self) -> str:
        """Return the selected rows as HTML that needs no kernel."""
        return table_html(self.rows, len(self._frame))

    def __repr__(self) -> str:
        """Show the selected rows as text."""
        return self.rows.head(20).to_string(index=False)

    def _changed(self, change: object) -> None:
        try:
            self._rows.value = self.to_html()
        except (ScoreError, TypeError) as error:  # a column of mixed types can not be sorted
            self._rows.value = _message_html(message_of(error))


def _query_field(name: str, query: str) -> ipywidgets.Text:
    return ipywidgets.Text(value=query, description=name, style=NAMED, layout=WIDE)


def _documents_field(documents: Sequence[str]) -> ipywidgets.Textarea:
    if isinstance(documents, str):
        raise InputError("documents is a single text: expected a list of texts.")
    # One document a line, so a line break inside a document has to go.
    lines = [" ".join(document.split()) for document in documents]
    return ipywidgets.Textarea(
        value="\n".join(lines),
        description="Documents",
        placeholder="one document a line",
        rows=min(max(len(lines), 3), 8),
        style=NAMED,
        layout=WIDE,
    )


def _top_n_slider(top_n: int, documents: int) -> ipywidgets.IntSlider:
    most = max(documents, 1)
    return ipywidgets.IntSlider(
        value=min(top_n, most), min=1, max=most, description="top_n", style=NAMED
    )


def _fit_slider(slider: ipywidgets.IntSlider, documents: Sequence[str]) -> None:
    slider.max = max(1, sum(1 for document in documents if document.strip()))


def _query_html(query: str) -> str:
    return f'<p dir="auto"><strong>{escape(query)}</strong></p>'


def _status_html(state: State) -> str:
    if state.phase is Phase.FAILED:
        return _message_html(state.message)
    line = ""
    if state.busy:
        line = f'{SLIDE}<div class="score-slides" style="width:25%;height:3px;background:#2563eb">'
        if state.scored:
            share = 100 * state.scored / state.total
            line = f'<div style="width:{share:.0f}%;height:3px;background:#2563eb">'
        line += "</div>"
    return (
        f'<div role="status"><div style="height:3px">{line}</div>'
        f'<span style="opacity:.75">{escape(state.message)}</span></div>'
    )


def _message_html(message: str) -> str:
    return (
        '<div role="alert" style="border-left:4px solid #dc2626;background-color:'
        'rgba(220,38,38,0.12);padding:6px 10px;line-height:1.4;white-space:pre-wrap">'
        f"{escape(message)}</div>"
    )


def _as_text(state: State) -> str:
    if state.result is None or state.phase is Phase.FAILED:
        return state.message
    return repr(state.result.ranked())
