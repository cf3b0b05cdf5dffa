"""Launch one vLLM server and watch it until a score has come back from it.

`server` decides what to launch and whether to; this module carries it out: a port, a process in its
own session, and the wait for the first score, which ends early with an error that names the cause.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from helpers.client import ScoreClient
from helpers.errors import (
    LaunchError,
    LaunchTimeoutError,
    ModelUnavailableError,
    NotAScoringModelError,
    NotFoundError,
    RequestTimeoutError,
    ScoreError,
    ServerBusyError,
    ServerDiedError,
    ServerFaultError,
    UnreachableError,
)
from helpers.server import log as launch_log
from helpers.server import processes, records
from helpers.server.asked import Asked
from helpers.server.command import Command
from helpers.server.hub import cached_folder, download, hub_state
from helpers.server.machine import oom_kills
from helpers.server.model import check_model_folder, is_local, offline_model_path
from helpers.server.plan import Plan
from helpers.server.progress import StageProgress
from helpers.server.records import Record

PORTS_TO_TRY = 100
TICK = 0.5  # seconds between two looks at a starting server
# What a server that hangs may still use of one processor while its log stands still.
IDLE_SHARE = 0.02
# A health check that fails within so many seconds was answered, or refused: the server is unwell.
# Later it was not answered, since the server is busy, frozen, or waits for the disk.
QUICK = 3.0
# Servers outlive the objects that started them, so their processes are kept here: each new launch
# collects the exit codes of the dead ones.
_children: list[subprocess.Popen[bytes]] = []


class PortTakenError(Exception):
    """Another program took the port between our look at it and vLLM's."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        start: For the whole launch.
        stall: While neither the log grows nor the processor works; also for the first score.
    """

    start: float
    stall: float

    @property
    def answer(self) -> float:
        """How long a server that once worked may take for one answer."""
        return min(60.0, self.stall)


def fetch_model(plan: Plan, asked: Asked, patience: Patience) -> Path | None:
    """See that a plan's model is here and whole, or get it; return the folder of one of the hub's.

    Raises:
        ModelUnavailableError: It is not whole, or cannot be had.
    """
    if plan.choices.model.value is None:
        offline_model_path(precision=asked.precision or "float32")
        return None
    if is_local(plan.model):
        check_model_folder(Path(plan.model))
        return None
    name, python = plan.model, plan.engine.python
    where, revision = asked.environment, asked.flags.get("revision")
    state = hub_state(name, where, revision=revision, python=python)
    if state == "cached":
        return cached_folder(name, where, revision=revision, python=python)
    if state == "offline":
        raise ModelUnavailableError(
            f"{name!r} is not a folder here or in the hub's cache, and HF_HUB_OFFLINE forbids "
            "to ask the hub. Give a folder, or serve the offline reranker: ScoreServer() without a "
            "model."
        )
    return download(name, where, revision=revision, stall_timeout=patience.stall, python=python)


def take_turn(lock: FileLock, key: str, patience: Patience, progress: StageProgress) -> None:
    """Take the lock; while somebody else starts this server, show how far they are."""
    deadline = time.monotonic() + patience.start
    while True:
        try:
            lock.acquire(timeout=TICK)
            return
        except Timeout:
            if (other := records.load(key)) is not None:
                progress.reach(launch_log.stage(launch_log.read(Path(other.log_path))))
        if time.monotonic() > deadline:
            raise LaunchTimeoutError(
                f"Another notebook has been starting this server for {patience.start:g} seconds. "
                "Stop it there, or run: python -m helpers stop"
            )


def reserve_port(wanted: int) -> tuple[int, socket.socket]:
    """Return `wanted`, or the next port after it that is free (0: any), and a socket that holds it.

    A server takes its port many seconds after its start. Until then the socket's name says to
    every launch on this machine, also those of other users, that the port is spoken for: else of a
    class that starts at once all but one would start twice. The server inherits the socket, so the
    name is free again when it ends, in whatever way.
    """
    last = min(wanted + PORTS_TO_TRY, 65_536)
    for candidate in [*range(wanted, last), 0] if wanted else [0] * PORTS_TO_TRY:
        with socket.socket() as probe:
            # As vLLM does, so that connections that are still closing do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            hold = socket.socket(socket.AF_UNIX)
            try:
                probe.bind(("127.0.0.1", candidate))
                probe.listen()
                port = probe.getsockname()[1]
                # A name that begins with a zero byte is no file; Linux keeps it in memory.
                hold.bind(f"\0vllm-score-notebooks-port-{port}")
            except OSError:
                hold.close()
                continue
            return port, hold
    raise LaunchError(f"No free port on this machine from {wanted} up. End some programs.")


def spawn(
    key: str, model: str, wanted_port: int, build: Callable[[int], Command], **details: Any
) -> tuple[Record, subprocess.Popen[bytes]]:
    """Start the process and write its record; `build` makes the command for a port.

    `details` are more fields of the record.
    """
    _children[:] = [child for child in _children if child.poll() is None]
    port, hold = reserve_port(wanted_port)
    with hold:
        command = build(port)
        log_path = records.new_log_path(key)
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command.argv,
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: interrupting or ending the kernel does not reach it.
                start_new_session=True,
                pass_fds=[hold.fileno()],
            )
        _children.append(process)
        try:
            record = Record(
                key=key,
                pid=process.pid,
                # A process that has ended already is found to have ended, whatever stands here.
                started=processes.start_ticks(process.pid) or 0,
                port=port,
                model=model,
                command=command.lines or command.text,
                log_path=str(log_path),
                **details,
            )
            records.save(record)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return record, process


def answers(record: Record, api_key: str | None, patience: Patience) -> bool:
    """Return whether a recorded server is alive, ours, well, and serves the wanted name.

    One that is well and busy, full or slow is as good: others are using it.
    """
    if not record.is_alive() or not processes.listens_on(record.members(), record.port):
        return False
    with _client(record, api_key, patience.answer) as client:
        try:
            if not _is_well(client, patience.answer) or record.model not in client.models():
                return False
            client.score("ping", "pong")
        except (RequestTimeoutError, ServerBusyError):
            return True
        except ScoreError:
            return False
    return True


def await_score(
    record: Record,
    process: subprocess.Popen[bytes] | None,
    *,
    api_key: str | None,
    patience: Patience,
    progress: StageProgress,
) -> Record:
    """Wait until a score comes back, and return the record marked as ready.

    Without a `process`, the server is one that somebody else began to start.

    Raises:
        LaunchError: Of the kind that fits, within about a second of the event.
        PortTakenError: Another program has the port.
    """
    log_path = Path(record.log_path)
    kills = oom_kills()
    begun = alive_at = time.monotonic()
    size, worked, stage = -1, 0.0, launch_log.STAGES[0]
    while True:
        # Look at the process first: what a dying one wrote is then in the log that is read next.
        dead = _exit_of(record, process)
        now = time.monotonic()
        try:
            size_now = log_path.stat().st_size
        except OSError as error:
            raise describe(
                record,
                LaunchError,
                f"The server's log went away while it was starting ({error.strerror}), and the "
                "server was ended. Keep the folder while a server runs, and start again.",
            ) from None
        if size_now != size:
            size, alive_at = size_now, now
            stage = launch_log.stage(launch_log.read(log_path))
        progress.reach(stage)
        if dead is not None:
            raise _death(record, dead[0], oom_killed=oom_kills() > kills)
        members = record.members()
        if processes.listens_on(members, record.port):
            progress.reach("first score")
            if _first_score(record, api_key, patience.stall):
                ready = dataclasses.replace(record, ready=True)
                records.save(ready)
                progress.reach("ready")
                return ready
        worked_now = processes.cpu_seconds(members)
        if worked_now - worked > IDLE_SHARE * patience.stall:
            worked, alive_at = worked_now, now
        # Less than before: one of them has ended, and took its count along.
        worked = min(worked, worked_now)
        if now - alive_at > patience.stall:
            raise _late(record, f"showed no sign of life for {patience.stall:g} seconds", stage)
        if now - begun > patience.start:
            raise _late(record, f"was not ready within {patience.start:g} seconds", stage)
        time.sleep(TICK)


def describe(record: Record, kind: type[LaunchError], message: str) -> LaunchError:
    """Return an error that carries the command, the log's path and its last useful lines."""
    log_path = Path(record.log_path)
    return kind(
        message,
        command=record.command,
        log_path=log_path,
        log_tail=launch_log.tail(launch_log.read(log_path)),
    )


def _is_well(client: ScoreClient, seconds: float) -> bool:
    """Ask for the server's health until it says yes, says no, or its time is up."""
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if client.health():
            return True
        if time.monotonic() - asked < QUICK or time.monotonic() > deadline:
            return False


def _exit_of(record: Record, process: subprocess.Popen[bytes] | None) -> tuple[int | None] | None:
    """Return None for a living process, else its exit code in a tuple (None: not known)."""
    if process is not None:
        code = process.poll()
        return None if code is None else (code,)
    return None if record.is_alive() else (None,)


def _death(record: Record, code: int | None, *, oom_killed: bool) -> Exception:
    text = launch_log.read(Path(record.log_path))
    if launch_log.lost_its_port(text):
        return PortTakenError()
    kind, message = launch_log.diagnose(text, exit_code=code, oom_killed=oom_killed)
    return describe(record, kind, message)


def _late(record: Record, what: str, stage: str) -> LaunchError:
    return describe(
        record,
        LaunchTimeoutError,
        f"The server {what}, at the stage {stage!r}, and was ended. If the machine is only slow, "
        "give it longer: start_timeout= for the whole launch, stall_timeout= for a silence.",
    )


def _first_score(record: Record, api_key: str | None, seconds: float) -> bool:
    """Score a pair. False means: not yet, look again."""
    with _client(record, api_key, seconds) as client:
        if not client.health():
            return False
        try:
            client.score("ping", "pong")
        except (UnreachableError, ServerBusyError):
            return False
        except ServerFaultError as error:
            # An engine that dies takes the server with it, and its log then tells why.
            if _dies_soon(record):
                return False
            raise describe(record, ServerDiedError, f"The first score failed: {error}") from None
        except RequestTimeoutError:
            raise _late(
                record, f"did not answer within {seconds:g} seconds", "first score"
            ) from None
        except ScoreError as error:
            if isinstance(error, NotFoundError) and not error.unknown_model:
                raise describe(
                    record,
                    NotAScoringModelError,
                    f"The server runs, but the model {record.model} has no score route: vLLM gives "
                    "it only to a model with exactly one output label. Serve a reranker "
                    "(cross-encoder), or the offline one: ScoreServer() without a model.",
                ) from None
            raise describe(record, LaunchError, f"The first score failed: {error}") from None
    return True


def _dies_soon(record: Record, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not record.is_alive():
            return True
        time.sleep(TICK)
    return False


def _client(record: Record, api_key: str | None, seconds: float) -> ScoreClient:
    return ScoreClient(record.url, model=record.model, api_key=api_key, timeout=seconds, retries=0)
