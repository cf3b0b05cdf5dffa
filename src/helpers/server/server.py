"""Start, find, watch and stop a vLLM score server.

A server belongs to the machine, not to a notebook: it lives in its own session, outlives the kernel
that started it, and a later kernel finds it by its record on disk.
"""

from __future__ import annotations

import hashlib
import html
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import Timeout

from helpers.client import KEY_VARIABLE, ScoreClient
from helpers.errors import (
    InputError,
    LaunchError,
    LaunchTimeoutError,
    ModelUnavailableError,
    ScoreError,
    ServerDiedError,
)
from helpers.server import launch, records
from helpers.server import log as launch_log
from helpers.server import plan as choosing
from helpers.server.command import (
    Command,
    Engine,
    build_command,
    find_engine,
    find_preloads,
    normal_flags,
)
from helpers.server.engine import engine_python, prepare_engine
from helpers.server.launch import Patience
from helpers.server.machine import hub_state, look_at_machine
from helpers.server.model import OFFLINE_MODEL_NAME, offline_model_path
from helpers.server.model_folder import check_model_folder, is_local, weights_bytes
from helpers.server.plan import Choices
from helpers.server.progress import StageProgress
from helpers.server.records import Record

URL_VARIABLE = "SCORE_SERVER_URL"
MODEL_VARIABLE = "SCORE_MODEL"
PORT_ATTEMPTS = 3


@dataclass(frozen=True)
class Plan:
    """Hold everything that is decided before a launch.

    model: what vLLM is given; served_name: what clients ask for; key: names the record.
    """

    engine: Engine
    choices: Choices
    model: str
    served_name: str
    key: str


class ScoreServer:
    """A score server: found if it already runs, launched if not.

    model: a name on the hub, a folder, or "offline-reranker". None chooses:
        BAAI/bge-reranker-v2-m3 on a GPU that can get it, else the offline reranker. The
        environment variable SCORE_MODEL comes between.
    port: the port to try first; the next free one is taken instead if it is in use.
    python: the interpreter that has vLLM (default: SCORE_SERVER_PYTHON, then the kernel's own,
        then that of `.venv` in the repository, which `start` builds if there is no other).
    dtype, threads (CPU only), gpu_memory_utilization (GPU only), enforce_eager: override what
        suits the machine; see `choices`.
    max_model_len: the most tokens of a pair (default: what the model was made for).
    api_key: the key that clients must send. vLLM asks for it under /v1 only.
    start_timeout, stall_timeout: seconds for the whole launch, and without any sign of life.
    vllm_flags: any other flag of `vllm serve`, such as {"max-num-seqs": 64}.
    env: more environment variables for the server.

    With SCORE_SERVER_URL (and SCORE_API_KEY) set, this stands for the server there, which somebody
    else runs: nothing is started or stopped.

    As a context manager it stops at its end only what it started itself.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        port: int = 8000,
        python: str | os.PathLike[str] | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        gpu_memory_utilization: float | None = None,
        max_model_len: int | None = None,
        enforce_eager: bool | None = None,
        api_key: str | None = None,
        start_timeout: float = 900,
        stall_timeout: float = 300,
        vllm_flags: Mapping[str, Any] | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> None:
        """Check the arguments; nothing is looked up or started yet."""
        if not 0 <= port <= 65_535:
            raise InputError(f"port must be from 0 (any free one) to 65535, and is {port}.")
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, and is {threads}.")
        if gpu_memory_utilization is not None and not 0 < gpu_memory_utilization <= 1:
            raise InputError(
                f"gpu_memory_utilization is a share from 0 to 1, and is {gpu_memory_utilization}."
            )
        if start_timeout <= 0 or stall_timeout <= 0:
            raise InputError("start_timeout and stall_timeout must be more than 0 seconds.")
        self._asked_model = None if model is None else os.fspath(model)
        self._asked_port = port
        self._named_python = None if python is None else os.fspath(python)
        self._asked = {
            "dtype": dtype,
            "threads": threads,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_model_len": max_model_len,
            "enforce_eager": enforce_eager,
            "vllm_flags": normal_flags(vllm_flags),
            "env": dict(env or {}),
        }
        self._remote_url = os.environ.get(URL_VARIABLE) or None
        # vLLM itself takes a key from VLLM_API_KEY; a server that inherits it wants it from us.
        own_key = self._asked["env"].get("VLLM_API_KEY") or os.environ.get("VLLM_API_KEY")
        self._api_key = api_key or (None if self._remote_url else own_key)
        self._patience = Patience(start_timeout, stall_timeout)
        self._record: Record | None = None
        self._adopted = False

    # Starting and stopping

    def start(self) -> ScoreServer:
        """Find the server or launch it, and return once a score has come back from it.

        Raises:
            LaunchError: of the kind that fits what went wrong, with the end of the server's log.
            ScoreError: with SCORE_SERVER_URL, when that server does not score.
        """
        if self.remote:
            with self.client() as client:
                client.score("ping", "pong")
                print(f"Using the server at {client.url}, which somebody else runs.")
            return self
        if self._record is not None and self._works(self._record):
            return self
        if self._named_python is None:
            prepare_engine()
        found = records.load(self._plan.key)
        if found is not None and found.ready and self._works(found):
            return self._take(found, adopted=True)
        with StageProgress(launch_log.STAGES) as progress:
            self._start_alone(progress)
        return self

    def stop(self) -> None:
        """End every process of the server, and forget it. Harmless when there is none."""
        if self.remote:
            return
        record = self._record or records.load(self._plan.key)
        if record is not None:
            record.end()
        self._record = None
        self._adopted = False

    def __enter__(self) -> ScoreServer:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server, unless it was running before."""
        if not self._adopted:
            self.stop()

    # What it is

    @property
    def remote(self) -> bool:
        """Tell whether somebody else runs the server (SCORE_SERVER_URL)."""
        return self._remote_url is not None

    @property
    def url(self) -> str:
        """Return the server's address."""
        return self._remote_url or self._started().url

    @property
    def model(self) -> str:
        """Return the name under which the server serves its model."""
        if self.remote:
            with self.client() as client:
                return client.model
        return self._record.model if self._record else self._plan.served_name

    @property
    def pid(self) -> int | None:
        """Return the number of the server's first process, None if there is none."""
        return self._record.pid if self._record else None

    @property
    def log_path(self) -> Path | None:
        """Return where the server's log is, None if there is none."""
        return Path(self._record.log_path) if self._record else None

    @property
    def command(self) -> str:
        """Return the command that starts this server from a terminal, without any key."""
        if self.remote:
            return ""
        return self._record.command if self._record else self._command(self._asked_port).text

    @property
    def choices(self) -> Choices:
        """Return what was chosen for this machine, and why; shows as a table."""
        return self._plan.choices

    @property
    def adopted(self) -> bool:
        """Tell whether the server was already running when `start` looked."""
        return self._adopted

    @property
    def running(self) -> bool:
        """Tell whether the server is alive and answers (within 5 seconds)."""
        if not self.remote and (self._record is None or not self._record.is_alive()):
            return False
        with self.client() as client:
            return client.health()

    @property
    def headers(self) -> dict[str, str]:
        """Return what a request by hand has to send with it: the key in a header, or nothing."""
        key = self._api_key or os.environ.get(KEY_VARIABLE)
        return {"Authorization": f"Bearer {key}"} if key else {}

    def client(self) -> ScoreClient:
        """Return a client for this server; close it, or use it in a `with` block."""
        if self.remote:
            return ScoreClient(self.url, model=self._asked_model, api_key=self._api_key)
        return ScoreClient(self.url, model=self.model, api_key=self._api_key)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last useful lines of the server's log, causes of failures first."""
        return launch_log.tail(launch_log.read(self.log_path), lines) if self.log_path else ""

    def __repr__(self) -> str:
        """Show address, model and state."""
        return "ScoreServer(" + ", ".join(f"{k}: {v}" for k, v in self._status()) + ")"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self._status()
        )
        return f"<table>{rows}</table>"

    def _status(self) -> list[tuple[str, str]]:
        if self._record is None and not self.remote:
            return [("state", "not started")]
        origin = "already running" if self._adopted else "started here"
        return [
            ("state", "running" if self.running else "does not answer"),
            ("address", self.url),
            ("model", self.model if self._record else self._asked_model or "its own"),
            ("origin", "run by somebody else" if self.remote else origin),
        ]

    # How it gets there

    @cached_property
    def _plan(self) -> Plan:
        machine = look_at_machine(records.state_dir())
        python = self._named_python or engine_python()
        engine = find_engine(python)
        device = choosing.choose_device(machine, cpu_build=engine.cpu_build)
        asked = self._asked_model or os.environ.get(MODEL_VARIABLE) or None
        on_gpu = device.value == "gpu"
        model = choosing.choose_model(
            machine,
            device.value,
            hub=hub_state(choosing.HUB_MODEL) if on_gpu and asked is None else "unknown",
            asked=asked,
            source="You" if self._asked_model else f"The environment variable {MODEL_VARIABLE}",
        )
        name = model.value
        if name is None:
            path, served = str(offline_model_path()), OFFLINE_MODEL_NAME
        elif is_local(name):
            path, served = str(Path(name).expanduser().absolute()), name
        else:
            path, served = name, name
        flags = self._asked["vllm_flags"]
        decided = Choices(
            device=device,
            model=model,
            dtype=choosing.choose_dtype(machine, device.value, self._asked["dtype"]),
            cpus=choosing.choose_cpus(machine, device.value, self._asked["threads"]),
            memory=choosing.choose_memory(
                machine,
                device.value,
                weights=_weights(path) if on_gpu else None,
                asked=self._asked["gpu_memory_utilization"] if on_gpu else None,
            ),
            eager=choosing.choose_eager(device.value, self._asked["enforce_eager"]),
            preload=choosing.choose_preload(device.value, () if on_gpu else find_preloads()),
        )
        served = str(flags.get("served-model-name") or served)
        # What was asked for makes the key, not what was chosen: free memory, on which choices
        # rest, changes from one minute to the next.
        key = records.key_of(
            {
                "python": _environment_of(python),
                "model": path,
                "served_name": served,
                "api_key": hashlib.sha256((self._api_key or "").encode()).hexdigest(),
                **self._asked,
            }
        )
        return Plan(engine, decided, path, served, key)

    def _command(self, port: int) -> Command:
        plan = self._plan
        return build_command(
            plan.engine,
            plan.choices,
            model=plan.model,
            served_name=plan.served_name,
            port=port,
            max_model_len=self._asked["max_model_len"],
            api_key=self._api_key,
            flags=self._asked["vllm_flags"],
            env=self._asked["env"],
        )

    def _start_alone(self, progress: StageProgress) -> None:
        """Start under the lock of this configuration, so that one server comes of many starts."""
        lock = records.start_lock(self._plan.key)
        self._wait_for(lock, progress)
        try:
            found = records.load(self._plan.key)
            if found is not None:
                if self._join(found, progress):
                    return
                # It is dead, half-dead, or serves something else.
                found.end()
            self._check_model()
            self._launch(progress)
        finally:
            lock.release()

    def _wait_for(self, lock: records.FileLock, progress: StageProgress) -> None:
        """Take the lock; while somebody else starts this server, show how far they are."""
        deadline = time.monotonic() + self._patience.start
        while True:
            try:
                lock.acquire(timeout=launch.TICK)
                return
            except Timeout:
                other = records.load(self._plan.key)
                if other is not None:
                    progress.reach(launch_log.stage(launch_log.read(Path(other.log_path))))
            if time.monotonic() > deadline:
                raise LaunchTimeoutError(
                    "Another notebook has been starting this server for "
                    f"{self._patience.start:g} seconds. Stop it there, or run: "
                    "python -m helpers stop"
                )

    def _join(self, found: Record, progress: StageProgress) -> bool:
        """Adopt a recorded server, also one whose starter died before it was ready."""
        if found.ready:
            if not self._works(found):
                return False
            progress.reach("ready")
            self._take(found, adopted=True)
            return True
        if not found.is_alive():
            return False
        try:
            ready = launch.await_score(
                found,
                None,
                api_key=self._api_key,
                patience=self._patience,
                progress=progress,
            )
        except (LaunchError, launch.PortTakenError):
            return False
        self._take(ready, adopted=True)
        return True

    def _launch(self, progress: StageProgress) -> None:
        plan = self._plan
        for _ in range(PORT_ATTEMPTS):
            record, process = launch.spawn(
                plan.key, plan.served_name, self._asked_port, self._command
            )
            try:
                if self._asked_port not in {0, record.port}:
                    progress.say(f"Port {self._asked_port} is taken: using {record.port} instead.")
                progress.say(f"$ {record.command}")
                ready = launch.await_score(
                    record,
                    process,
                    api_key=self._api_key,
                    patience=self._patience,
                    progress=progress,
                )
            except launch.PortTakenError:
                record.end()
            except BaseException:
                # An interrupt too: nothing that was launched here is left behind.
                record.end()
                raise
            else:
                self._take(ready, adopted=False)
                return
        raise ServerDiedError(
            f"Other programs took the server's port {PORT_ATTEMPTS} times while it started. "
            "Give it another: ScoreServer(port=...)."
        )

    def _check_model(self) -> None:
        model = self._plan.model
        if is_local(model):
            check_model_folder(Path(model))
        elif os.environ.get("VLLM_USE_MODELSCOPE", "0").upper() not in {"1", "TRUE"}:
            state = hub_state(model)
            if state == "missing":
                raise ModelUnavailableError(
                    f"The model hub has no public model {model!r}. Check the name; for a gated "
                    "model, set HF_TOKEN."
                )
            if state == "offline":
                raise ModelUnavailableError(
                    f"{model!r} is no folder here, is not in the hub's cache, and the hub can not "
                    "be reached. Give a folder, or serve the offline reranker: ScoreServer() "
                    "without a model."
                )

    def _works(self, record: Record) -> bool:
        return launch.answers(record, self._api_key, self._patience)

    def _take(self, record: Record, *, adopted: bool) -> ScoreServer:
        self._record, self._adopted = record, adopted
        if adopted:
            print(f"$ {record.command}")
            print(f"Already running: {record.model} at {record.url}")
        else:
            print(f"Ready: {record.model} at {record.url}")
        return self

    def _started(self) -> Record:
        if self._record is None:
            raise ScoreError("The server is not started. Call start() first.")
        return self._record


def stop_all() -> list[int]:
    """End every server that was started from here and is still alive.

    Returns the numbers of the processes that were ended. Records of dead servers go as well, and
    so do servers whose record was lost.
    """
    ended = [pid for record in records.load_all() for pid in record.end()]
    return ended + records.sweep()


def _environment_of(python: str) -> list[str]:
    """Return the same for `python` and `python3` of one environment, and for no two environments.

    Both name one file in the end, and so do those of every environment made from it: hence the
    folder as well.
    """
    path = Path(shutil.which(python) or python).absolute()
    return [str(path.parent), str(path.resolve())]


def _weights(model: str) -> int | None:
    if model == choosing.HUB_MODEL:
        return choosing.HUB_MODEL_WEIGHTS
    if Path(model).is_dir():
        try:
            return weights_bytes(Path(model))
        except ModelUnavailableError:
            # The check before the launch says what is wrong with it.
            return None
    return None
