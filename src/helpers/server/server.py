"""Start, find, watch and stop a vLLM score server.

A server belongs to the machine, not to a notebook: it lives in its own session, outlives the kernel
that started it, and a later kernel finds it by its record on disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers.client import (
    KEY_VARIABLE,
    ScoreClient,
    clean_key,
    clean_url,
    positive_number,
    whole_number,
)
from helpers.errors import InputError, LaunchError, ScoreError, ServerDiedError
from helpers.server import launch, records
from helpers.server import log as launch_log
from helpers.server.asked import Asked
from helpers.server.choices import Choice, Choices
from helpers.server.command import Command, build_command, normal_flags
from helpers.server.engine import prepare_engine
from helpers.server.launch import Patience
from helpers.server.model import OFFLINE_MODEL_NAME
from helpers.server.plan import Plan, make_plan
from helpers.server.progress import StageProgress
from helpers.server.records import Record

URL_VARIABLE = "SCORE_SERVER_URL"
MODEL_VARIABLE = "SCORE_MODEL"
PORT_ATTEMPTS = 3


class ScoreServer:
    """A score server: found if it already runs, launched if not.

    With SCORE_SERVER_URL (and SCORE_API_KEY) set, this object stands for the server there, which
    somebody else runs. It then starts and stops nothing.

    As a context manager, it stops at the end only a server that it started itself.

    Args:
        model: A name on the hub, a folder, or "offline-reranker". None chooses:
            BAAI/bge-reranker-v2-m3 on a GPU that can get it, else the offline reranker. The
            environment variable SCORE_MODEL takes precedence over that choice.
        port: The port to try first; the next free one is taken instead if it is in use.
        python: The interpreter that has vLLM (default: SCORE_SERVER_PYTHON, then the kernel's own,
            then that of `.venv` in the repository, which `start` builds if there is no other).
        dtype: The type of weights and arithmetic, such as "float32"; see `choices`.
        precision: The form of the offline reranker's file: "float32", as it was trained and what
            you get, or "int8", which is smaller and most often faster (notebook 16).
        threads: How many processors compute, on a CPU.
        gpu_memory_utilization: The share of a GPU's memory, above 0 and up to 1.
        max_model_len: The most tokens of a pair (default: what the model was made for).
        enforce_eager: True to skip compilation.
        api_key: The key that clients must send. vLLM asks for it under /v1 only.
        start_timeout: Seconds for the whole launch, a model's download not counted.
        stall_timeout: Seconds that the launch may take without any progress.
        vllm_flags: Any other flag of `vllm serve`, such as {"max-num-seqs": 64}.
        env: More environment variables for the server; None removes one.

    Raises:
        InputError: An argument or a variable cannot be what it should.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        port: int = 8000,
        python: str | os.PathLike[str] | None = None,
        dtype: str | None = None,
        precision: str | None = None,
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
        share = gpu_memory_utilization
        if share is not None and not 0 < share <= 1:
            raise InputError(f"gpu_memory_utilization must be a share from 0 to 1, not {share}.")
        length = max_model_len
        named = os.environ.get(MODEL_VARIABLE, "").strip()
        url = os.environ.get(URL_VARIABLE, "").strip()
        self._remote_url = clean_url(url) if url else None
        extra = {n: None if value is None else str(value) for n, value in (env or {}).items()}
        if not api_key and not url:
            # vLLM itself takes a key from this variable.
            api_key = {**os.environ, **extra}.get("VLLM_API_KEY")
        self._asked = Asked(
            model=(Path(model) if isinstance(model, os.PathLike) else model) or named or None,
            source="You" if model else f"The environment variable {MODEL_VARIABLE}",
            python=None if python is None else os.path.expanduser(os.fspath(python)),
            dtype=dtype,
            precision=precision,
            threads=None if threads is None else whole_number("threads", threads),
            gpu_memory_utilization=None if share is None else float(share),
            max_model_len=None if length is None else whole_number("max_model_len", length),
            enforce_eager=None if enforce_eager is None else bool(enforce_eager),
            api_key=clean_key(api_key or "") or None,
            flags=normal_flags(vllm_flags),
            env=extra,
        )
        self._asked_port = whole_number("port", port, least=0, most=65_535)
        self._patience = Patience(
            positive_number("start_timeout", start_timeout),
            positive_number("stall_timeout", stall_timeout),
        )
        own_name = self._asked.model in (None, OFFLINE_MODEL_NAME)
        self._remote_model = None if own_name else str(self._asked.model)
        self._record: Record | None = None
        self._adopted = False

    # Starting and stopping

    def start(self) -> ScoreServer:
        """Find the server or launch it, and return once a score has come back from it.

        Raises:
            LaunchError: Of the kind that fits what went wrong, with the end of the server's log.
            ScoreError: With SCORE_SERVER_URL, when that server does not score.
        """
        if self.remote:
            return self._use_remote()
        known = self._known()
        if known is not None and self._works(known):
            return self if known is self._record else self._take(known, adopted=True)
        if self._asked.python is None:
            prepare_engine()
        with StageProgress(launch_log.STAGES) as progress:
            self._start_alone(progress)
        return self

    def stop(self) -> None:
        """End every process of the server, and forget it. Harmless when there is none."""
        if self.remote:
            return
        record = self._known() or records.load(self._asked.key)
        if record is not None:
            record.end()
        self._record = None
        self._adopted = False

    def __enter__(self) -> ScoreServer:
        """Start the server."""
        return self.start()

    def __exit__(self, *exception: object) -> None:
        """Stop the server, unless it was running before."""
        if not self._adopted:
            self.stop()

    # What it is

    @property
    def remote(self) -> bool:
        """Whether somebody else runs the server (SCORE_SERVER_URL)."""
        return self._remote_url is not None

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._remote_url or self._started().url

    @property
    def model(self) -> str:
        """The name under which the server serves its model, or would."""
        if self.remote:
            return self._remote_model or self._started().model
        known = self._known()
        return known.model if known else self._plan().served_name

    @property
    def pid(self) -> int | None:
        """The number of the server's first process, None if there is none."""
        return self._record.pid if self._record else None

    @property
    def log_path(self) -> Path | None:
        """Where the server's log is, None if there is none."""
        return Path(self._record.log_path) if self._record else None

    @property
    def command(self) -> str:
        """The command that starts this server from a terminal, without any key."""
        if self.remote:
            return ""
        known = self._known()
        return known.command if known else self._command(self._plan(), self._asked_port).lines

    @property
    def choices(self) -> Choices:
        """What was chosen for this machine, or would be, and why; shows as a table."""
        if self.remote:
            return Choices(Choice("elsewhere", f"{URL_VARIABLE} names somebody else's server."))
        known = self._known()
        return Choices.from_json(known.choices) if known else self._plan().choices

    @property
    def adopted(self) -> bool:
        """Whether the server was already running when `start` looked."""
        return self._adopted

    @property
    def running(self) -> bool:
        """Whether the server is alive and answers (within 5 seconds)."""
        if not self.remote and (self._record is None or not self._record.is_alive()):
            return False
        with self.client() as client:
            return client.health()

    @property
    def headers(self) -> dict[str, str]:
        """What a request by hand has to send with it: the key in a header, or nothing."""
        key = self._asked.api_key or clean_key(os.environ.get(KEY_VARIABLE, ""))
        return {"Authorization": f"Bearer {key}"} if key else {}

    def client(self) -> ScoreClient:
        """Return a client for this server; close it, or use it in a `with` block."""
        model = self._remote_model if self.remote else self.model
        return ScoreClient(self.url, model=model, api_key=self._asked.api_key)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last useful lines of the server's log, causes of failures first."""
        return launch_log.tail(launch_log.read(self.log_path), lines) if self.log_path else ""

    def __repr__(self) -> str:
        """Show address, model and state."""
        return "ScoreServer(" + ", ".join(f"{k}: {v}" for k, v in self._status()) + ")"

    def _repr_html_(self) -> str:
        import pandas as pd  # here: `check_machine` works where it is missing

        from helpers.tables import SENTENCE_WIDTH, html_table

        status = pd.DataFrame(self._status(), columns=["server", "value"]).set_index("server")
        return html_table(status, hide_index=False, text_width=SENTENCE_WIDTH)

    def _status(self) -> list[tuple[str, str]]:
        if self._record is None and not self.remote:
            return [("state", "not started")]
        origin = "already running" if self._adopted else "started here"
        return [
            ("state", "running" if self.running else "does not answer"),
            ("address", self.url),
            ("model", self._record.model if self._record else self._remote_model or "its own"),
            ("origin", "run by somebody else" if self.remote else origin),
        ]

    def _known(self) -> Record | None:
        """Return the record of the server that was started or found, or that would be found."""
        if self._record is not None:
            return self._record
        found = records.load(self._asked.key)
        return found if found is not None and found.ready and found.is_alive() else None

    def _works(self, record: Record) -> bool:
        return launch.answers(record, self._asked.api_key, self._patience)

    def _take(self, record: Record, *, adopted: bool) -> ScoreServer:
        self._record, self._adopted = record, adopted
        print(f"{'Already running' if adopted else 'Ready'}: {record.model} at {record.url}")
        return self

    def _started(self) -> Record:
        if self._record is None:
            raise ScoreError("The server is not started. Call start() first.")
        return self._record

    def _use_remote(self) -> ScoreServer:
        with self.client() as client:
            client.score("ping", "pong")
            self._remote_model = client.model
        if self._asked.model == OFFLINE_MODEL_NAME != self._remote_model:
            # A name of this collection's own, which says what to launch where one launches.
            print(f"The server there serves {self._remote_model}, not {OFFLINE_MODEL_NAME}.")
        print(f"Using the server at {self.url}, which somebody else runs.")
        return self

    def _plan(self, *, for_launch: bool = False, folder: Path | None = None) -> Plan:
        asked = self._asked
        return make_plan(asked, asked.environment, for_launch=for_launch, folder=folder)

    def _command(self, plan: Plan, port: int) -> Command:
        return build_command(
            plan.engine,
            plan.choices,
            model=plan.model,
            served_name=plan.served_name,
            port=port,
            max_model_len=plan.choices.length.value,
            api_key=self._asked.api_key,
            flags=self._asked.flags,
            env=plan.env,
        )

    def _start_alone(self, progress: StageProgress) -> None:
        """Start under the lock of this request, so that one server comes of many starts."""
        key = self._asked.key
        lock = records.start_lock(key)
        launch.take_turn(lock, key, self._patience, progress)
        try:
            found = records.load(key)
            if found is not None:
                if self._join(found, progress):
                    return
                # It is dead, half-dead, or serves something else.
                found.end()
            plan = self._plan(for_launch=True)
            if folder := launch.fetch_model(plan, self._asked, self._patience):
                plan = self._plan(folder=folder)
            self._launch(key, plan, progress)
        finally:
            lock.release()

    def _join(self, found: Record, progress: StageProgress) -> bool:
        """Adopt a recorded server, also one whose starter died before it was ready."""
        if found.ready:
            if not self._works(found):
                return False
            progress.reach("ready")
        elif found.is_alive():
            try:
                found = launch.await_score(
                    found,
                    None,
                    api_key=self._asked.api_key,
                    patience=self._patience,
                    progress=progress,
                )
            except (LaunchError, launch.PortTakenError):
                return False
        else:
            return False
        self._take(found, adopted=True)
        return True

    def _launch(self, key: str, plan: Plan, progress: StageProgress) -> None:
        for _ in range(PORT_ATTEMPTS):
            record, process = launch.spawn(
                key,
                plan.served_name,
                self._asked_port,
                lambda port: self._command(plan, port),
                choices=asdict(plan.choices),
            )
            try:
                if self._asked_port not in {0, record.port}:
                    progress.say(f"Port {self._asked_port} is taken: using {record.port} instead.")
                ready = launch.await_score(
                    record,
                    process,
                    api_key=self._asked.api_key,
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


def stop_all() -> list[int]:
    """End every server that was started on this machine and is still alive.

    Records of dead servers go as well, and so do servers whose record was lost.

    Returns:
        The numbers of the processes that were ended.
    """
    ended = [pid for record in records.load_all() for pid in record.end()]
    return ended + records.sweep()


def left_elsewhere() -> list[str]:
    """Return model and machine of each recorded server that only another place can see and end."""
    elsewhere = [record for record in records.load_all() if record.is_elsewhere]
    return [f"{record.model} on {record.place.partition(' ')[0]}" for record in elsewhere]
