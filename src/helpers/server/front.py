"""What stands in front of score servers, on loopback: how it is started, found again and ended.

It runs in its own session and has a record like a score server, so `python -m helpers stop` ends it
too.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from types import TracebackType

from helpers.errors import LaunchError, LaunchTimeoutError, ScoreError
from helpers.server import launch, processes, records
from helpers.server.command import Command
from helpers.server.records import Record

TICK = 0.05


class Front:
    """A program of our own in front of score servers.

    A subclass sets `_key` and `_port`, and as words for messages what it is (`_kind`) and which
    program runs (`_program`).
    """

    _kind: str
    _program: str
    _start_seconds = 30.0
    _key: str
    _port: int
    _record: Record | None = None

    @property
    def url(self) -> str:
        """The address for clients."""
        return self._started().url

    def stop(self) -> None:
        """End it. Harmless when there is none."""
        record = self._record or records.load(self._key)
        if record is not None:
            record.end()
        self._record = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()

    def _started(self) -> Record:
        if self._record is None:
            raise ScoreError(f"The {self._kind} is not started. Call start() first.")
        return self._record

    def _spawn(self, name: str, build: Callable[[int], Command]) -> Record:
        """Start the command that `build` makes for a port, and return once it listens."""
        record, process = launch.spawn(self._key, name, self._port, build)
        self._record = record
        self._wait(record, process)
        return record

    def _wait(self, record: Record, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not processes.listens_on(record.members(), record.port):
            if process.poll() is not None:
                message = f"{self._program} ended as it started."
                raise launch.describe(record, LaunchError, message)
            if time.monotonic() > deadline:
                message = f"{self._program} did not listen within {self._start_seconds:g} seconds."
                raise launch.describe(record, LaunchTimeoutError, message)
            time.sleep(TICK)
