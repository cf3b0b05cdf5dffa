"""Small things that the tests of faults share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from helpers import records
from helpers.records import Record

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
