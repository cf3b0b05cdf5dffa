"""Small things that the tests of faults share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from helpers.server import records
from helpers.server.records import Record
from helpers.server.server import ScoreServer

# What every kernel does: a process that was started in the background may ignore interrupts.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def wait_for(what: Callable[[], Any], *, seconds: float = 900.0) -> Any:
    """Return the first true value of `what`, asked again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.1)
    raise AssertionError(f"nothing came within {seconds} seconds")


def only_record() -> Record | None:
    """Return the one record there is, None if there is none yet."""
    found = records.load_all()
    assert len(found) <= 1, found
    return found[0] if found else None


class StartInThread:
    """Start a server in a thread, and keep what comes of it."""

    def __init__(self, server: ScoreServer) -> None:
        self.error: BaseException | None = None
        self._server = server
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._server.start()
        except BaseException as error:
            self.error = error

    def outcome(self) -> BaseException | None:
        self._thread.join(900)
        assert not self._thread.is_alive()
        return self.error
