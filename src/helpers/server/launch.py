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

from helpers.client import ScoreClient
from helpers.errors import (
    LaunchError,
    LaunchTimeoutError,
    NotAScoringModelError,
    NotFoundError,
    RequestTimeoutError,
    ScoreError,
    ServerDiedError,
    ServerFaultError,
    UnreachableError,
)
from helpers.server import log as launch_log
from helpers.server import processes, records
from helpers.server.command import Command
from helpers.server.machine import oom_kills
from helpers.server.progress import StageProgress
from helpers.server.records import Record

PORTS_TO_TRY = 100
# A server that reads a very large request may miss one of the client's 5-second health checks.
HEALTH_CHECKS = 3
TICK = 0.5  # seconds between two looks at a starting server
# What a server that hangs may still use of one processor while its log stands still.
IDLE_SHARE = 0.02
# Servers outlive the objects that started them, so their processes are kept here: each new launch
# collects the exit codes of the dead ones.
_children: list[subprocess.Popen] = []


class PortTakenError(Exception):
    """Report that another program took the port between our look at it and vLLM's."""


@dataclass(frozen=True)
class Patience:
    """Hold how long to wait, in seconds.

    start: for the whole launch.
    stall: while neither the log grows nor the processor works; also for the first score.
    """

    start: float
    stall: float

    @property
    def answer(self) -> float:
        """Return how long a server that once worked may take for one score."""
        return min(60.0, self.stall)


def reserve_port(wanted: int) -> tuple[int, socket.socket]:
    """Return `wanted`, or the next port after it that is free (0: any), and a socket that holds it.

    A server takes its port many seconds after its start. Until then only the socket's name says
    that the port is spoken for, to every launch on this machine, also those of other users. The
    server inherits the socket, so the name is free again when the server ends, in whatever way.
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
    key: str, model: str, wanted_port: int, build: Callable[[int], Command]
) -> tuple[Record, subprocess.Popen]:
    """Start the process and write its record; `build` makes the command for a port."""
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
                started=processes.start_time(process.pid) or time.time(),
                user=os.getuid(),
                arguments=list(command.argv[1:]),
                port=port,
                model=model,
                command=command.text,
                log_path=str(log_path),
            )
            records.save(record)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return record, process


def answers(record: Record, api_key: str | None, patience: Patience) -> bool:
    """Tell whether a recorded server is alive, ours, serves the wanted name, and scores."""
    if not record.is_alive() or not processes.listens_on(record.members(), record.port):
        return False
    try:
        with _client(record, api_key, patience.answer) as client:
            if not any(client.health() for _ in range(HEALTH_CHECKS)):
                return False
            return record.model in client.models() and len(client.score("ping", "pong")) == 1
    except ScoreError:
        return False


def await_score(
    record: Record,
    process: subprocess.Popen | None,
    *,
    api_key: str | None,
    patience: Patience,
    progress: StageProgress,
) -> Record:
    """Wait until a score comes back, and return the record marked as ready.

    process: the child that was started; None for a server that somebody else began to start.

    Raises:
        LaunchError: of the kind that fits, within about a second of the event.
        PortTakenError: another program has the port.
    """
    log_path = Path(record.log_path)
    kills = oom_kills()
    begun = alive_at = time.monotonic()
    size, worked, stage = -1, 0.0, launch_log.STAGES[0]
    while True:
        # Look at the process first: what a dying one wrote is then in the log that is read next.
        dead = _exit_of(record, process)
        size_now, now = log_path.stat().st_size, time.monotonic()
        if size_now != size:
            size, alive_at = size_now, now
            stage = launch_log.stage(launch_log.read(log_path))
        progress.reach(stage)
        if dead is not None:
            raise _death(record, dead[0], oom_killed=oom_kills() > kills)
        if _accepts(record.port) and processes.listens_on(record.members(), record.port):
            progress.reach("first score")
            if _first_score(record, api_key, patience.stall):
                ready = dataclasses.replace(record, ready=True)
                records.save(ready)
                progress.reach("ready")
                return ready
        worked_now = processes.cpu_seconds(record.members())
        if worked_now - worked > IDLE_SHARE * patience.stall:
            worked, alive_at = worked_now, now
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


def _exit_of(record: Record, process: subprocess.Popen | None) -> tuple[int | None] | None:
    """Return None for a living process, else its exit code in a tuple (None: not known)."""
    if process is not None:
        code = process.poll()
        return None if code is None else (code,)
    return None if processes.is_same_process(record.pid, record.started) else (None,)


def _death(record: Record, code: int | None, *, oom_killed: bool) -> Exception:
    text = launch_log.read(Path(record.log_path))
    if launch_log.PORT_TAKEN.search(text):
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


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _first_score(record: Record, api_key: str | None, seconds: float) -> bool:
    """Score a pair. False means: not yet, look again."""
    with _client(record, api_key, seconds) as client:
        if not client.health():
            return False
        try:
            client.score("ping", "pong")
        except UnreachableError:
            return False
        except ServerFaultError as error:
            # An engine that dies takes the server with it, and its log then tells why.
            if _dies_soon(record):
                return False
            raise describe(record, ServerDiedError, f"The first score failed: {error}") from None
        except NotFoundError:
            raise describe(
                record,
                NotAScoringModelError,
                f"The server runs, but the model {record.model} has no score route: vLLM gives it "
                "only to a model with exactly one output label. Serve a reranker "
                "(cross-encoder), or the offline one: ScoreServer() without a model.",
            ) from None
        except RequestTimeoutError:
            raise _late(
                record, f"did not answer within {seconds:g} seconds", "first score"
            ) from None
        except ScoreError as error:
            raise describe(record, LaunchError, f"The first score failed: {error}") from None
    return True


def _dies_soon(record: Record, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not processes.is_same_process(record.pid, record.started):
            return True
        time.sleep(TICK)
    return False


def _client(record: Record, api_key: str | None, seconds: float) -> ScoreClient:
    return ScoreClient(record.url, model=record.model, api_key=api_key, timeout=seconds, retries=0)
