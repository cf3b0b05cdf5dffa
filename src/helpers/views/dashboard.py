"""Watch a score server at work: what it does now, read from its metrics again and again.

`Pulse` is the logic and needs no kernel; `Dashboard` shows it. Neither talks to a server: both are
given a function that reads its metrics, such as `lambda: read_metrics(server.url)`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import ipywidgets
import pandas as pd

from helpers.errors import InputError, ScoreError
from helpers.monitor import Metrics
from helpers.views.charts import BAR
from helpers.views.widgets import WIDE, View

EVERY = 0.5  # seconds: often enough to look alive, and far less work than a step of the model
LOOKS_KEPT = 60
BAR_HEIGHT = 48  # pixels


@dataclass(frozen=True)
class Look:
    """Hold what a server did from one look at its metrics to the next.

    at: seconds since the first look. running, waiting: pairs, as the engine saw them last.
    pairs_per_step: NaN where there was no step.
    """

    at: float
    running: int
    waiting: int
    pairs_per_second: float
    tokens_per_second: float
    pairs_per_step: float


class Pulse:
    """Turn what a server has counted so far into what it does now.

    read: returns its metrics of this moment.
    looks: the newest 60, oldest first; the first call of `look` gives none.
    """

    def __init__(self, read: Callable[[], Metrics]) -> None:
        """Keep the function; nothing is read yet."""
        self._read = read
        self._last: Metrics | None = None
        self._start = 0.0
        self.looks: deque[Look] = deque(maxlen=LOOKS_KEPT)

    def look(self) -> Look | None:
        """Read once more, and return what happened since; None if there is nothing to compare.

        A server that was started anew counts from zero, so it is looked at as a new one.
        """
        now, before = self._read(), self._last
        self._last = now
        try:
            work = None if before is None else now - before
        except InputError:
            work = None
        if work is None:
            self._start = now.at
            self.looks.clear()
            return None
        look = Look(
            at=now.at - self._start,
            running=now.running,
            waiting=now.waiting,
            pairs_per_second=work.pairs_per_second,
            tokens_per_second=work.tokens_per_second,
            pairs_per_step=work.pairs_per_step,
        )
        self.looks.append(look)
        return look

    def to_frame(self) -> pd.DataFrame:
        """Return the looks, oldest first, one a row."""
        return pd.DataFrame(list(self.looks), columns=list(Look.__dataclass_fields__))


class Dashboard(View):
    """Show what a server does now, and what it did at the last looks.

    read: returns its metrics of this moment.

    >>> dashboard = Dashboard(lambda: Metrics(0.0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0, 0))
    >>> dashboard
    nothing seen yet
    """

    def __init__(self, read: Callable[[], Metrics]) -> None:
        """Build the view; nothing is read yet."""
        self.pulse = Pulse(read)
        self._message = "nothing seen yet"
        self._html = ipywidgets.HTML(value=self.to_html(), layout=WIDE)
        self.widget = ipywidgets.VBox([self._html], layout=WIDE)

    @contextmanager
    def live(self, every: float = EVERY) -> Iterator[None]:
        """Look again and again, in a thread of its own, while the `with` block runs.

        every: seconds between two looks. A server that can not be read ends the looking with a
        message in the view, not the block.
        """
        done = threading.Event()

        def work() -> None:
            while self.refresh() and not done.wait(every):
                pass

        thread = threading.Thread(target=work, name="dashboard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def refresh(self) -> bool:
        """Look once, show it, and tell whether the server could be read."""
        try:
            self.pulse.look()
            self._message = "" if self.pulse.looks else "nothing seen yet"
        except ScoreError as error:
            self._message = str(error)
            return False
        finally:
            self._html.value = self.to_html()
        return True

    def to_html(self) -> str:
        """Return numbers and bars as HTML that needs no kernel."""
        message = f"<p>{escape(self._message)}</p>" if self._message else ""
        if not self.pulse.looks:
            return message
        looks = list(self.pulse.looks)
        numbers = "".join(
            f'<td style="text-align:left;padding:0 24px 4px 0"><span style="font-size:1.6em">'
            f"{number}</span><br>{name}</td>"
            for name, number in _numbers(looks[-1])
        )
        bars = "".join(
            f"<tr><td style='text-align:left;padding-right:12px'>{name}<br>"
            f"<span style='opacity:.75'>up to {max(values):,.0f}</span></td>"
            f"<td style='text-align:left'>{_bars(values)}</td></tr>"
            for name, values in (
                ("pairs/s", [look.pairs_per_second for look in looks]),
                ("waiting", [look.waiting for look in looks]),
            )
        )
        return f"{message}<table><tr>{numbers}</tr></table><table>{bars}</table>"

    def __repr__(self) -> str:
        """Show the newest look as text."""
        if self._message or not self.pulse.looks:
            return self._message
        return ", ".join(f"{number} {name}" for name, number in _numbers(self.pulse.looks[-1]))


def _numbers(look: Look) -> list[tuple[str, str]]:
    step = "–" if math.isnan(look.pairs_per_step) else f"{look.pairs_per_step:.1f}"
    return [
        ("pairs/s", f"{look.pairs_per_second:,.0f}"),
        ("tokens/s", f"{look.tokens_per_second:,.0f}"),
        ("pairs a step", step),
        ("running", f"{look.running:,}"),
        ("waiting", f"{look.waiting:,}"),
    ]


def _bars(values: list[float]) -> str:
    top = max(*values, 1)
    return "".join(
        f'<span style="display:inline-block;vertical-align:bottom;width:8px;margin-right:1px;'
        f'height:{max(BAR_HEIGHT * value / top, 1):.0f}px;background-color:{BAR}"></span>'
        for value in values
    )
