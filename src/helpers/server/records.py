"""Remember servers on disk, so that a later notebook finds the one that an earlier one started.

One record per launch configuration, as JSON, readable by its owner alone. A record is a hint, not
a fact: `Record.is_alive` says whether the process it names still is what was started.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from helpers.server import processes

_NAME = "vllm-score-notebooks"
_VERSION = 1
_LOGS_KEPT = 20


@dataclass(frozen=True)
class Record:
    """Describe a server that was launched.

    key: which configuration it serves; names the file.
    pid: its first process, and the number of its session.
    started: when that process began, in seconds since 1970.
    arguments: of that process, without the interpreter.
    model: the name under which it serves.
    command: for a terminal, without secrets.
    ready: whether a score ever came back from it.
    """

    key: str
    pid: int
    started: float
    user: int
    arguments: list[str]
    port: int
    model: str
    command: str
    log_path: str
    ready: bool = False
    version: int = _VERSION

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def is_alive(self) -> bool:
        """Tell whether the recorded process lives, is ours, and is the one that was started."""
        return (
            self.user == os.getuid()
            and processes.is_same_process(self.pid, self.started)
            and processes.runs_command(self.pid, self.arguments)
        )

    def members(self) -> list[processes.psutil.Process]:
        """Return every living process of this server, also after its first one died."""
        return processes.members(self.pid, Path(self.log_path))

    def end(self) -> list[int]:
        """End every process of this server and forget it; return the numbers of the processes."""
        ended = processes.end(self.pid, Path(self.log_path))
        forget(self)
        return ended


def state_dir() -> Path:
    """Return the folder for records, logs, locks and merged models.

    The environment variable SCORE_STATE_DIR names it; by default it is the user's cache folder.
    """
    named = os.environ.get("SCORE_STATE_DIR")
    folder = Path(named).expanduser() if named else platformdirs.user_cache_path(_NAME)
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def key_of(configuration: dict[str, Any]) -> str:
    """Return a short name for a launch configuration: equal ones get equal names.

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
        os.replace(draft, _path(record.key))
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def load(key: str) -> Record | None:
    """Read a record; one that can not be read, or is of another version, counts as none."""
    try:
        data = json.loads(_path(key).read_text("utf-8"))
        record = Record(**data)
    except (OSError, ValueError, TypeError):
        return None
    return record if record.version == _VERSION and record.key == key else None


def load_all() -> list[Record]:
    """Read every record, the unreadable ones left out."""
    found = (load(path.stem) for path in sorted(_folder("servers").glob("*.json")))
    return [record for record in found if record is not None]


def forget(record: Record) -> None:
    """Delete a record, unless another launch has taken its place."""
    current = load(record.key)
    if current is None or current.pid == record.pid:
        _path(record.key).unlink(missing_ok=True)


def sweep() -> list[int]:
    """End servers whose record was lost, and delete records that can not be read.

    Whatever writes to a log of ours was started by us: nothing else has such a log as its output.
    """
    ended = []
    for log_path in _folder("logs").glob("*.log"):
        for session in processes.sessions_of(log_path):
            ended += processes.end(session, log_path)
    for path in _folder("servers").glob("*.json"):
        if load(path.stem) is None:
            path.unlink(missing_ok=True)
    return ended


def start_lock(key: str) -> FileLock:
    """Return the lock that whoever starts this configuration holds; it dies with its process."""
    return FileLock(_folder("locks") / f"{key}.lock")


def new_log_path(key: str) -> Path:
    """Return the path of a log that no other launch writes to, and drop the oldest logs."""
    folder = _folder("logs")
    in_use = {record.log_path for record in load_all()}
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for old in logs[:-_LOGS_KEPT]:
        if str(old) not in in_use:
            old.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{key}-", suffix=".log", dir=folder)
    os.close(descriptor)
    return Path(name)


def _folder(name: str) -> Path:
    folder = state_dir() / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _path(key: str) -> Path:
    return _folder("servers") / f"{key}.json"
