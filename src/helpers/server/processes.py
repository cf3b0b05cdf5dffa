"""Find and end the processes of one server, and never any other.

A server is several processes in one session of its own, and any of them can die alone. A process
counts as the server's if it is in the recorded session, belongs to this user, and writes to the
server's log: the log's name is unique to a launch, and every child inherits it. Names, arguments
and environments do not serve, because vLLM's processes rename themselves and wipe them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

# A process's start is known in hundredths of a second, but the clock it is told by may be set.
_CLOCK_TOLERANCE = 2.0
_PF_EXITING = 0x4  # of Linux' include/linux/sched.h


def start_time(pid: int) -> float | None:
    """Return when a living process started (seconds since 1970), None if there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_same_process(pid: int, started: float) -> bool:
    """Tell whether `pid` is alive and still the process that began at `started`."""
    now = start_time(pid)
    return now is not None and abs(now - started) < _CLOCK_TOLERANCE


def members(session: int, log_path: Path) -> list[psutil.Process]:
    """Return the living processes of a server, its first process first."""
    return sorted(
        (process for process, own in _writers(log_path, session) if own == session),
        key=lambda process: process.pid != session,
    )


def sessions_of(log_path: Path) -> set[int]:
    """Return the sessions of this user's processes that write to a log."""
    return {session for _, session in _writers(log_path)}


def end(session: int, log_path: Path, *, grace: float = 15.0) -> list[int]:
    """End a server's processes: SIGTERM, up to `grace` seconds, SIGKILL.

    Returns the numbers of the processes that were told to end, once their files and ports are
    free. A process that survives SIGKILL for as long again hangs inside the kernel, where no signal
    reaches it; it is then left alone.
    """
    ended: list[int] = []
    begun = time.monotonic()
    while time.monotonic() < begun + 2 * grace:
        # A process may start another while it is being ended, so look again until none is left.
        living = members(session, log_path)
        if not living and not _is_closing(session):
            break
        late = time.monotonic() >= begun + grace
        new = living if late else [process for process in living if process.pid not in ended]
        _send(new, signal.SIGKILL if late else signal.SIGTERM)
        # A stopped process acts on a signal only once it goes on.
        _send(new, signal.SIGCONT)
        ended += [process.pid for process in new if process.pid not in ended]
        # Not psutil's wait: it would take a child's exit code from whoever launched it.
        time.sleep(0.1)
    return ended


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Add up the processor time that processes have used so far."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def listens_on(processes: Iterable[psutil.Process], port: int) -> bool:
    """Tell whether one of the processes is the one that listens on a TCP port."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # psutil before 6.0, which hosted notebooks still have, calls it `connections`.
            ask = getattr(process, "net_connections", None) or process.connections
            for connection in ask("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False


def runs_command(pid: int, arguments: list[str]) -> bool:
    """Tell whether a process was started with these arguments (its program may be a wrapper's)."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    # Some versions of vLLM rename the first process too.
    return words[-len(arguments) :] == arguments or " ".join(words).startswith("VLLM")


def _writers(log_path: Path, session: int | None = None) -> Iterator[tuple[psutil.Process, int]]:
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            own = os.getsid(pid)
            # The session is cheap to ask for, and rules out nearly every process.
            if session is not None and own != session:
                continue
            process = psutil.Process(pid)
            if (
                process.uids().real == os.getuid()
                and process.status() != psutil.STATUS_ZOMBIE
                and _writes_to(pid, log_path)
            ):
                yield process, own


def _is_closing(session: int) -> bool:
    """Tell whether a process of a session is on its way out, and may hold files and ports still.

    Of a process with many threads the first one is gone before the others: then nothing shows any
    more what it has open, and some 100 ms may pass on a busy machine before it is closed.
    """
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == session:
                # proc(5): behind the name, which may hold anything, come state, ppid, ...
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                state, flags, threads = fields[0], int(fields[6]), int(fields[17])
                if flags & _PF_EXITING and (state != "Z" or threads > 1):
                    return True
    return False


def _writes_to(pid: int, log_path: Path) -> bool:
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if target.removesuffix(" (deleted)") == str(log_path):
                return True
    return False


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
