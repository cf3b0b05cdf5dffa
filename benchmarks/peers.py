"""Each peer: how it is started, what it is asked, how it is ended."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

import pandas as pd
import requests

import raw_requests
import timing
from aims import (
    BFLOAT16,
    DEFAULTS,
    FLOAT32,
    FRAME,
    INFINITY,
    ONNX_INT8,
    OURS_INT8,
    PARQUET,
)
from helpers import score_pairs
from helpers.bulk import score_frame, score_parquet
from helpers.client import ScoreClient
from helpers.errors import OutOfMemoryError
from helpers.server import (
    OFFLINE_MODEL_NAME,
    ScoreServer,
    launch,
    offline_model_path,
    side_environment,
)
from helpers.server import log as launch_log
from helpers.server.command import HOST, Command, find_engine, inherited_environment
from helpers.server.launch import Patience
from helpers.server.machine import Machine
from helpers.server.progress import StageProgress
from helpers.server.records import Record
from measurement import Measurement
from timing import Effort, Pair, Scorer
from workload import GROUP, PASSAGES, SHORT

# Pairs a request and requests in flight. The first is what `score_pairs` does by itself.
OUR_REQUESTS = ((32, 4), (128, 4))
DEFAULT_REQUESTS = ((32, 4),)
INFINITY_REQUESTS = ((GROUP, 4), (GROUP, 16))
BATCH_SIZES = (8, 32, 128)
SMALLER_SHARE = ("--gpu-memory-utilization", "0.5")  # of the memory; on a CPU it is called so too
START_SECONDS = 600
REQUEST_SECONDS = 600  # a peer may be slow
BENCHMARKS = Path(__file__).resolve().parent
PATIENCE = Patience(start=START_SECONDS, stall=300)


class PeerError(Exception):
    """Say why a peer could not be measured."""


@dataclass(frozen=True)
class Task:
    """Hold what every peer is given."""

    workloads: Mapping[str, list[Pair]]
    effort: Effort
    machine: Machine


def ours(task: Task) -> list[Measurement]:
    """Measure the server as the notebooks launch it, and our client against raw loops on it."""
    begun = time.perf_counter()
    with ScoreServer(OFFLINE_MODEL_NAME, port=0, python=sys.executable) as server:
        ready = time.perf_counter() - begun
        with _patient_client(server.url) as client:
            served = _served("ours", client, ready, OUR_REQUESTS, task)
            return [served, *_client_and_raw_loops(client, task)]


def ours_int8(task: Task) -> list[Measurement]:
    """Measure the same server with the model's weights and activations in 8 bits."""
    begun = time.perf_counter()
    with ScoreServer(OFFLINE_MODEL_NAME, port=0, python=sys.executable, precision="int8") as server:
        ready = time.perf_counter() - begun
        with _patient_client(server.url, server.model) as client:
            return [_served(OURS_INT8, client, ready, OUR_REQUESTS, task)]


def vllm_defaults(task: Task) -> list[Measurement]:
    """Measure `vllm serve` with nothing but a name, an address and a port.

    It claims 92% of the memory, although an encoder uses next to none of that. Where other
    programs leave it less, it is launched again with a smaller share, and the note says so.
    """
    try:
        return [_plain_server(task)]
    except OutOfMemoryError:
        note = f"with {' '.join(SMALLER_SHARE)}, because it found less memory free than it wants"
        return [replace(_plain_server(task, SMALLER_SHARE), note=note)]


def _plain_server(task: Task, more: Sequence[str] = ()) -> Measurement:
    engine = find_engine(sys.executable)
    model = str(offline_model_path())

    def command(port: int) -> Command:
        words = ["serve", model, "--served-model-name", OFFLINE_MODEL_NAME]
        words += ["--host", HOST, "--port", str(port), *more]
        return Command(
            argv=(engine.python, "-m", "vllm.entrypoints.cli.main", *words),
            environment=inherited_environment(engine.python),
            text=" ".join(["vllm", *words]),
        )

    begun = time.perf_counter()
    with _launched(DEFAULTS, command) as (record, process):
        with StageProgress(launch_log.STAGES, title="Starting vLLM's defaults") as progress:
            launch.await_score(record, process, api_key=None, patience=PATIENCE, progress=progress)
        ready = time.perf_counter() - begun
        with _patient_client(record.url) as client:
            return _served(DEFAULTS, client, ready, DEFAULT_REQUESTS, task)


def sentence_transformers(name: str, dtype: str, task: Task) -> list[Measurement]:
    """Measure a CrossEncoder in a process of its own.

    With PyTorch it runs in our own environment: that has it pinned beside the very torch that vLLM
    runs on, so no difference between two builds of torch is taken for one between the libraries.
    In int8 it runs on ONNX Runtime, in an environment that is built for it.
    """
    python = sys.executable if dtype != "int8" else side_environment("onnx")
    with tempfile.TemporaryDirectory() as folder:
        task_path, result_path = Path(folder, "task.json"), Path(folder, "result.json")
        content = {
            "model": str(offline_model_path()),
            "dtype": dtype,
            "batch_sizes": BATCH_SIZES,
            "workloads": task.workloads,
            "effort": asdict(task.effort),
        }
        task_path.write_text(json.dumps(content), "utf-8")
        done = subprocess.run(
            [python, str(BENCHMARKS / "in_process.py"), task_path, result_path],
            # A script's own folder is not searched by itself: see `inherited_environment`.
            env=inherited_environment(python) | {"PYTHONPATH": str(BENCHMARKS)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PeerError(_last_line(done.stderr) or f"ended with code {done.returncode}")
        return [Measurement(name, **json.loads(result_path.read_text("utf-8")))]


def infinity(task: Task) -> list[Measurement]:
    """Measure an Infinity server at the dtype that suits this processor."""
    if task.machine.gpu is not None:
        raise PeerError("its pins are for a machine without a GPU, and this one has one")
    python = Path(side_environment(INFINITY))
    model = str(offline_model_path())

    def command(port: int) -> Command:
        words = ["v2", "--model-id", model, "--served-model-name", OFFLINE_MODEL_NAME]
        words += ["--dtype", "bfloat16" if task.machine.has_bfloat16 else "float32"]
        words += ["--engine", "torch", "--device", "cpu", "--host", HOST, "--port", str(port)]
        return Command(
            argv=(str(python), str(python.with_name("infinity_emb")), *words),
            environment={**inherited_environment(str(python)), "DO_NOT_TRACK": "1"},
            text=" ".join(["infinity_emb", *words]),
        )

    begun = time.perf_counter()
    with _launched(INFINITY, command) as (record, process):
        single = raw_requests.rerank_loop(record.url, OFFLINE_MODEL_NAME, 1, 1)
        _await_rerank(partial(single, [("ping", "pong")]), record, process)
        ready = time.perf_counter() - begun
        scorers = {
            _setting(*numbers): raw_requests.rerank_loop(record.url, OFFLINE_MODEL_NAME, *numbers)
            for numbers in INFINITY_REQUESTS
        }
        return [
            Measurement(
                INFINITY,
                ready=ready,
                rates=_rates(scorers, task),
                single=timing.singles(single, task.workloads[PASSAGES], task.effort),
                versions=_versions_in(python, "infinity-emb", "torch", "transformers"),
            )
        ]


def parquet(task: Task) -> list[Measurement]:
    """Measure a job on a Parquet file with Ray, and `score_frame` with a server on the same pairs.

    The job starts Ray and loads the model by itself. What that takes is found by a job of one pair.
    """
    if importlib.util.find_spec("ray") is None:
        raise PeerError("this environment has no Ray: make setup EXTRAS=scale")
    pairs = list(islice(cycle(task.workloads[SHORT]), task.effort.job))
    frame, size = pd.DataFrame(pairs, columns=["query", "document"]), f"{len(pairs):,} pairs"
    begun = time.perf_counter()
    with ScoreServer(OFFLINE_MODEL_NAME, port=0, python=sys.executable) as server:
        ready, dtype = time.perf_counter() - begun, server.choices.dtype.value
        with _patient_client(server.url) as client:
            spent = timing.seconds(lambda _: score_frame(client, frame, progress=False), pairs)
    served = {SHORT: {size: [len(pairs) / spent]}}
    engine = {"dtype": dtype, "enforce_eager": True}
    with tempfile.TemporaryDirectory() as folder:

        def job(rows: pd.DataFrame) -> float:
            source, target = Path(folder, f"{len(rows)}.parquet"), Path(folder, f"{len(rows)}")
            rows.to_parquet(source)
            model = offline_model_path()
            return timing.seconds(
                lambda _: score_parquet(source, target, model=model, engine=engine, progress=False),
                pairs,
            )

        start, whole = job(frame[:1]), job(frame)
    after_start = {SHORT: {f"{size}, after its start": [len(pairs) / (whole - start)]}}
    note = f"with its start, the whole job scored {len(pairs) / whole:.0f} pairs/s"
    versions = {"ray": version("ray")}
    return [
        Measurement(FRAME, ready=ready, rates=served),
        Measurement(PARQUET, ready=start, rates=after_start, versions=versions, note=note),
    ]


# In the order in which they are measured.
PEERS: Mapping[str, Callable[[Task], list[Measurement]]] = {
    "ours": ours,
    DEFAULTS: vllm_defaults,
    FLOAT32: partial(sentence_transformers, FLOAT32, "float32"),
    BFLOAT16: partial(sentence_transformers, BFLOAT16, "bfloat16"),
    OURS_INT8: ours_int8,
    ONNX_INT8: partial(sentence_transformers, ONNX_INT8, "int8"),
    INFINITY: infinity,
    "parquet": parquet,
}


def _served(
    name: str,
    client: ScoreClient,
    ready: float,
    requests_sent: Sequence[tuple[int, int]],
    task: Task,
) -> Measurement:
    scorers = {_setting(*numbers): partial(_score, client, *numbers) for numbers in requests_sent}
    return Measurement(
        name,
        ready=ready,
        rates=_rates(scorers, task),
        single=timing.singles(
            lambda pairs: client.score(*pairs[0]), task.workloads[PASSAGES], task.effort
        ),
        versions={"vllm": client.version(), "torch": version("torch")},
    )


def _client_and_raw_loops(client: ScoreClient, task: Task) -> list[Measurement]:
    """Measure `score_pairs` and the raw loops on one server, their rounds interleaved.

    They differ by less than the server does from second to second, so the rounds are longer here.
    """
    effort = replace(task.effort, rounds=task.effort.rounds + 2, seconds=3 * task.effort.seconds)
    numbers = OUR_REQUESTS[0]
    loops = raw_requests.score_loops(client.url, client.model, *numbers)
    scorers: dict[str, Scorer] = {"score_pairs": partial(_score, client, *numbers), **loops}
    measured = timing.rates(scorers, task.workloads[PASSAGES], effort)
    ours_alone = {"score_pairs": measured.pop("score_pairs")}
    return [
        Measurement("client", rates={PASSAGES: ours_alone}),
        Measurement(
            "raw-loop", rates={PASSAGES: measured}, versions={"requests": version("requests")}
        ),
    ]


def _score(client: ScoreClient, batch_size: int, concurrency: int, pairs: Sequence[Pair]) -> object:
    queries, documents = zip(*pairs, strict=True)
    return score_pairs(
        client,
        queries,
        documents,
        batch_size=batch_size,
        concurrency=concurrency,
        progress=False,
    )


def _rates(scorers: Mapping[str, Scorer], task: Task) -> dict[str, dict[str, list[float]]]:
    return {
        name: timing.rates(scorers, pairs, task.effort) for name, pairs in task.workloads.items()
    }


def _setting(batch_size: int, concurrency: int) -> str:
    return f"{batch_size} × {concurrency}"


def _patient_client(url: str, model: str = OFFLINE_MODEL_NAME) -> ScoreClient:
    return ScoreClient(url, model=model, timeout=REQUEST_SECONDS)


@contextmanager
def _launched(
    key: str, build: Callable[[int], Command]
) -> Iterator[tuple[Record, subprocess.Popen]]:
    """Launch a server as the helpers do, on a port of its own; end all its processes."""
    record, process = launch.spawn(key, OFFLINE_MODEL_NAME, 0, build)
    print(f"$ {record.command}", flush=True)
    try:
        yield record, process
    finally:
        record.end()


def _await_rerank(ask: Callable[[], object], record: Record, process: subprocess.Popen) -> None:
    """Wait for the first answer of a server that has no /score."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ask()
            return
        except requests.ConnectionError:
            if process.poll() is not None:
                log = launch_log.read(Path(record.log_path))
                raise PeerError(
                    f"ended with code {process.returncode}: {_last_line(log)}"
                ) from None
            if time.monotonic() > deadline:
                raise PeerError(f"gave no answer within {START_SECONDS} seconds") from None
            time.sleep(launch.TICK)


def _versions_in(python: Path, *names: str) -> dict[str, str]:
    """Ask an environment for the versions of its packages."""
    code = (
        "import importlib.metadata, json, sys\n"
        "print(json.dumps({n: importlib.metadata.version(n) for n in sys.argv[1:]}))"
    )
    answer = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
