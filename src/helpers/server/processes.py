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


def start_ticks(pid: int) -> int | None:
    """Return when a living process started, None if there is none.

    Counted by the kernel from its boot (proc(5): field 22 of /proc/PID/stat). The time of day that
    psutil gives moves whenever the clock is set or the machine slept.
    """
    try:
        # Behind the name, which may hold anything, come the state and the other fields from 3 on.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_same_process(pid: int, started: int) -> bool:
    """Return whether `pid` is alive and still the process that began at `started` (ticks)."""
    return start_ticks(pid) == started


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

    Returns:
        The numbers of the processes that were told to end, once they and all that they had open
        are gone: files, ports, a GPU's memory. A process that survives SIGKILL for as long again
        hangs inside the kernel, where no signal reaches it; it is then left alone.
    """
    ended: list[int] = []
    leaving = _leaving(session)
    begun = time.monotonic()
    while time.monotonic() < begun + 2 * grace:
        # A process may start another while it is being ended, so look again until none is left.
        living = members(session, log_path)
        leaving = [process for process in leaving if not _is_gone(process)]
        if not living and not leaving:
            break
        late = time.monotonic() >= begun + grace
        new = living if late else [process for process in living if process.pid not in ended]
        _send(new, signal.SIGKILL if late else signal.SIGTERM)
        # A stopped process acts on a signal only once it goes on.
        _send(new, signal.SIGCONT)
        fresh = [process for process in new if process.pid not in ended]
        ended += [process.pid for process in fresh]
        leaving += fresh
        # Not psutil's wait: it would take a child's exit code from whoever launched it.
        time.sleep(0.1)
    return ended


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Add up the processor time that processes, and children of theirs that ended, have used."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def listens_on(processes: Iterable[psutil.Process], port: int) -> bool:
    """Return whether one of the processes is the one that listens on a TCP port."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # psutil before 6.0, which hosted notebooks still have, calls it `connections`.
            ask = getattr(process, "net_connections", None) or process.connections
            for connection in ask("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False


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


def _writes_to(pid: int, log_path: Path) -> bool:
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if target.removesuffix(" (deleted)") == str(log_path):
                return True
    return False


def _leaving(pid: int) -> list[psutil.Process]:
    """Return a process whose first thread has ended and others have not yet.

    Nothing shows any more what it has open, and on a busy machine some 100 ms pass until all of it
    is closed.
    """
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE and process.num_threads() > 1:
            return [process]
    return []


def _is_gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    return True


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
