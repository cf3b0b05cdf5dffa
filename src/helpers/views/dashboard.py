"""Watch a score server at work by reading its metrics again and again.

`Pulse` is the logic and needs no kernel; `Dashboard` shows it. Neither talks to a server: both are
given a function that reads its metrics, such as `lambda: read_metrics(server.url)`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

import pandas as pd
from IPython.display import display

from helpers.errors import InputError, ScoreError
from helpers.monitor import Metrics
from helpers.tables import printable
from helpers.views.charts import BAR

EVERY = 0.5  # seconds: often enough to look alive, and far less work than a step of the model
LOOKS_KEPT = 60
BAR_HEIGHT = 48  # pixels


class Pulse:
    """Turn what a server has counted so far into what it does now.

    Args:
        read: Returns its metrics of this moment.

    Attributes:
        looks: The newest 60 looks, oldest first. Each has the seconds since the first (`at`), the
            pairs that are running and waiting at that moment, and pairs per second, tokens per
            second and pairs per step since the look before (NaN where there was no step).
    """

    def __init__(self, read: Callable[[], Metrics]) -> None:
        """Keep the function; nothing is read yet."""
        self._read = read
        self._last: Metrics | None = None
        self._start = 0.0
        self.looks: deque[dict[str, float]] = deque(maxlen=LOOKS_KEPT)

    def look(self) -> dict[str, float] | None:
        """Read once more, and return what happened since; None if there is nothing to compare.

        A restarted server counts from zero, so it is treated as a new one.
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
        rates = ("pairs_per_second", "tokens_per_second", "pairs_per_step")
        look = {"at": now.at - self._start, "running": now.running, "waiting": now.waiting}
        self.looks.append(look | {name: getattr(work, name) for name in rates})
        return self.looks[-1]

    def to_frame(self) -> pd.DataFrame:
        """Return the looks, oldest first, one a row."""
        return pd.DataFrame(list(self.looks))


class Dashboard:
    """Show what a server does now, and what it did at the last looks.

    It is no widget but HTML that is replaced while it is live, so what it showed last stays in the
    notebook.

    Args:
        read: Returns its metrics of this moment.

    >>> Dashboard(lambda: Metrics(0.0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0, 0))
    nothing seen yet
    """

    def __init__(self, read: Callable[[], Metrics]) -> None:
        """Build the view; nothing is read yet."""
        self.pulse = Pulse(read)
        self._message = "nothing seen yet"

    @contextmanager
    def live(self, every: float = EVERY) -> Iterator[None]:
        """Show it, and look again and again in a thread of its own while the `with` block runs.

        A server that cannot be read ends the looking with a message in the view, not the block.

        Args:
            every: Seconds between two looks.
        """
        done = threading.Event()
        shown = display(self, display_id=True)

        def work() -> None:
            while self.refresh() and not done.wait(every):
                shown.update(self)

        thread = threading.Thread(target=work, name="dashboard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            shown.update(self)

    def refresh(self) -> bool:
        """Look once, and tell whether the server could be read."""
        try:
            self.pulse.look()
        except ScoreError as error:
            self._message = str(error)
            return False
        self._message = "" if self.pulse.looks else "nothing seen yet"
        return True

    def _repr_html_(self) -> str:
        message = f"<p>{escape(printable(self._message))}</p>" if self._message else ""
        looks = list(self.pulse.looks)
        if not looks:
            return message
        numbers = "".join(
            f'<div style="line-height:1.3"><span style="font-size:1.6em">{number}</span><br>'
            f"{name}</div>"
            for name, number in _numbers(looks[-1])
        )
        bars = _bars("pairs/s", [look["pairs_per_second"] for look in looks])
        bars += _bars("waiting", [look["waiting"] for look in looks])
        return f'{message}<div style="display:flex;flex-wrap:wrap;gap:24px">{numbers}</div>{bars}'

    def __repr__(self) -> str:
        """Show the newest look as text."""
        if self._message:
            return printable(self._message)
        return ", ".join(f"{number} {name}" for name, number in _numbers(self.pulse.looks[-1]))


def _numbers(look: dict[str, float]) -> list[tuple[str, str]]:
    step = look["pairs_per_step"]
    return [
        ("pairs/s", f"{look['pairs_per_second']:,.0f}"),
        ("tokens/s", f"{look['tokens_per_second']:,.0f}"),
        ("pairs a step", "–" if math.isnan(step) else f"{step:.1f}"),
        ("running", f"{look['running']:,}"),
        ("waiting", f"{look['waiting']:,}"),
    ]


def _bars(name: str, values: list[float]) -> str:
    top = max(*values, 1)
    bars = "".join(
        f'<span style="display:inline-block;vertical-align:bottom;width:8px;margin-right:1px;'
        f'height:{max(BAR_HEIGHT * value / top, 1):.0f}px;background-color:{BAR}"></span>'
        for value in values
    )
    return (
        '<div style="display:flex;align-items:flex-end;gap:12px;margin-top:8px">'
        f'<div style="width:7em;line-height:1.3">{name}<br><span style="opacity:.75">'
        f"up to {max(values):,.0f}</span></div><div>{bars}</div></div>"
    )
