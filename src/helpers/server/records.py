"""Remember servers on disk, so that a later notebook finds the one that an earlier one started.

One record per request for a server, as JSON, readable by its owner alone. A record is a hint, not a
fact: `Record.is_alive` says whether the process it names still is what was started. The folder may
be shared by several machines (a home on a network), so a record belongs to the place where its
processes can be seen; only there is it used or deleted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import psutil
from filelock import FileLock

from helpers.errors import ScoreError
from helpers.server import processes

STATE_VARIABLE = "SCORE_STATE_DIR"
_NAME = "vllm-score-notebooks"
_VERSION = 2
_LOGS_KEPT = 20


def here() -> str:
    """Name where a process number means something: machine, container and user."""
    return f"{socket.gethostname()} {_text_of('/proc/self/ns/pid')} {os.getuid()}"


def boot() -> str:
    """Return the name that Linux gave to this start of the machine."""
    return _text_of("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Record:
    """Describe a server that was launched.

    Attributes:
        key: Which request it answers; names the file.
        pid: Its first process, and the number of its session.
        started: When that process began, in ticks since the machine's start.
        port: Where it listens, on 127.0.0.1.
        model: The name under which it serves.
        command: For a terminal, without secrets.
        log_path: What all its processes write to.
        ready: Whether a score ever came back from it.
        choices: What was chosen for it, and why; `Choices.from_json` reads it.
        place: Where it runs, as `here` said.
        boot: In which run of that machine, as `boot` said.
    """

    key: str
    pid: int
    started: int
    port: int
    model: str
    command: str
    log_path: str
    ready: bool = False
    choices: dict[str, Any] = field(default_factory=dict)
    place: str = field(default_factory=here)
    boot: str = field(default_factory=boot)
    version: int = _VERSION

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_elsewhere(self) -> bool:
        """Whether only another machine, container or user can tell if it lives."""
        return self.place != here()

    def is_alive(self) -> bool:
        """Return whether the recorded process is one of this place and lives."""
        return self._is_of_this_boot() and processes.is_same_process(self.pid, self.started)

    def members(self) -> list[psutil.Process]:
        """Return every living process of this server, also after its first one died."""
        return processes.members(self.pid, Path(self.log_path)) if self._is_of_this_boot() else []

    def end(self) -> list[int]:
        """End every process of this server and forget it; return the numbers of the processes.

        A server that is elsewhere is left alone, and so is its record.
        """
        if self.is_elsewhere:
            return []
        ended: list[int] = []
        if self._is_of_this_boot():
            ended = processes.end(self.pid, Path(self.log_path))
        forget(self)
        return ended

    def _is_of_this_boot(self) -> bool:
        return (self.place, self.boot) == (here(), boot())


def state_dir(*, make: bool = True) -> Path:
    """Return the folder for records, logs, locks and merged models.

    The environment variable SCORE_STATE_DIR names it; by default it is the user's cache folder.

    Args:
        make: Make it if it is not there.

    Raises:
        ScoreError: It cannot be made.
    """
    named = os.environ.get(STATE_VARIABLE, "").strip()
    folder = Path(named).expanduser() if named else platformdirs.user_cache_path(_NAME)
    if make:
        _make(folder)
    return folder.resolve()


def key_of(configuration: dict[str, Any]) -> str:
    """Return a short name for a configuration: equal ones get equal names.

    >>> key_of({"model": "a", "threads": 2}) == key_of({"threads": 2, "model": "a"})
    True
    """
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(record: Record) -> None:
    """Write a record in one step, so that no reader ever sees half of it."""
    folder = _folder("servers")
    text = json.dumps(dataclasses.asdict(record), indent=2)
    descriptor, draft = tempfile.mkstemp(prefix=".", suffix=".draft", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, _path(record.key, record.place))
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def load(key: str) -> Record | None:
    """Read this place's record of a request; one that is broken counts as none.

    Raises:
        ScoreError: There is one, and the system does not let it be read.
    """
    path = _path(key, here())
    try:
        return _read(path)
    except OSError as error:
        raise ScoreError(
            f"The record of a server cannot be read: {error}. Correct or delete {path}; if its "
            "server still runs, `python -m helpers stop` finds it all the same."
        ) from None


def load_all() -> list[Record]:
    """Read every record, also those of other places, the unreadable ones left out."""
    found = []
    for path in sorted((state_dir(make=False) / "servers").glob("*.json")):
        with contextlib.suppress(OSError):
            found.append(_read(path))
    return [record for record in found if record is not None]


def forget(record: Record) -> None:
    """Delete a record, unless another launch has taken its place."""
    current = load(record.key)
    if current is None or (current.pid, current.started) == (record.pid, record.started):
        _path(record.key, record.place).unlink(missing_ok=True)


def sweep() -> list[int]:
    """End servers whose record was lost, and delete records of this place that cannot be read.

    Whatever writes to a log of ours was started by us: nothing else has such a log as its output.
    """
    ended = []
    for log_path in (state_dir(make=False) / "logs").glob("*.log"):
        for session in processes.sessions_of(log_path):
            ended += processes.end(session, log_path)
    for path in (state_dir(make=False) / "servers").glob(f"*-{_tag(here())}.json"):
        with contextlib.suppress(OSError):
            if _read(path) is None:
                path.unlink()
    return ended


def start_lock(key: str) -> FileLock:
    """Return the lock that whoever starts this server holds; it dies with its process."""
    return FileLock(_folder("locks") / f"{key}-{_tag(here())}.lock")


def new_log_path(key: str) -> Path:
    """Return the path of a log that no other launch writes to, and drop this place's oldest."""
    folder, tag = _folder("logs"), _tag(here())
    in_use = {record.log_path for record in load_all()}
    logs = sorted(folder.glob(f"*-{tag}-*.log"), key=lambda path: path.stat().st_mtime)
    for old in logs[:-_LOGS_KEPT]:
        if str(old) not in in_use:
            old.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{key}-{tag}-", suffix=".log", dir=folder)
    os.close(descriptor)
    return Path(name)


def _read(path: Path) -> Record | None:
    try:
        record = Record(**json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return (
        record if record.version == _VERSION and path == _path(record.key, record.place) else None
    )


def _path(key: str, place: str) -> Path:
    return state_dir(make=False) / "servers" / f"{key}-{_tag(place)}.json"


def _tag(place: str) -> str:
    """Return what the names of a place's files hold."""
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _folder(name: str) -> Path:
    return _make(state_dir() / name, mode=0o700)


def _make(folder: Path, mode: int = 0o777) -> Path:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        # A folder that is there may still be one in which nothing can be made.
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} is not yours to write to")
    except OSError as error:
        raise ScoreError(
            f"The folder for records, logs and models of servers cannot be used: {error}. Set the "
            f"environment variable {STATE_VARIABLE} to a folder that you can write to."
        ) from None
    return folder


def _text_of(path: str) -> str:
    """Return what a link of /proc points to, or a file of it says; "" where there is none."""
    try:
        return os.readlink(path) if os.path.islink(path) else Path(path).read_text().strip()
    except OSError:
        return ""
