"""Show how far a launch has come: a bar that names the stage, in JupyterLab and in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm.auto import tqdm


class StageProgress:
    """Show a bar over named stages; a context manager.

    >>> with StageProgress(["imports", "weights", "ready"]) as progress:
    ...     progress.reach("weights")
    """

    def __init__(self, stages: Sequence[str], *, title: str = "Starting the server") -> None:
        """Prepare the bar; it appears with the first stage."""
        self._stages = list(stages)
        self._title = title
        self._bar: tqdm | None = None
        self._second = 0
        # In a file every tick would be a new line.
        self._ticks = sys.stderr.isatty() or "ipykernel" in sys.modules

    def __enter__(self) -> StageProgress:
        """Return the bar itself, which appears with the first stage that is reached."""
        return self

    def reach(self, stage: str) -> None:
        """Move to a stage, never backwards, and let the clock of the bar tick."""
        if self._bar is None:
            self._bar = tqdm(
                total=len(self._stages) - 1,
                desc=f"{self._title}: {self._stages[0]}",
                bar_format="{desc} |{bar}| {elapsed}",
                leave=True,
            )
        place, second = self._stages.index(stage), int(time.monotonic())
        if place > self._bar.n:
            self._bar.set_description_str(f"{self._title}: {stage}", refresh=False)
            self._bar.n = place
        elif second == self._second or not self._ticks:
            return
        self._second = second
        self._bar.refresh()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(line)

    def __exit__(self, *exception: object) -> None:
        """Leave the bar where it got to."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
