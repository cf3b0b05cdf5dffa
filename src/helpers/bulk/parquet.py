"""Score Parquet files with Ray Data: part by part, on many machines, and on from where it ended.

A part is some rows of one row group of the source, and one file of the target. Its name says which
rows it holds, so it does not matter which worker writes it, when, or how often: there is one file
for it in the end. A part that is there is never scored again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from helpers.client import shorten_list, whole_number
from helpers.errors import InputError, ScoreError

SETTINGS = "_score_parquet.json"  # readers of Parquet folders pass over names with an underscore

RAY_TRIES = 5

RAY_MISSING = (
    "This environment has no Ray, which is an optional extra: `make setup EXTRAS=scale` installs "
    "it, or `pip install 'ray[data,serve]'`."
)


@dataclass(frozen=True)
class ParquetRun:
    """What a run did.

    Attributes:
        rows: The rows of the source, which now are those of the target.
        parts: The files of the target.
        scored: How many rows this run scored; the others were there.
    """

    rows: int
    parts: int
    scored: int


def score_parquet(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    query: str = "query",
    document: str = "document",
    score: str = "score",
    address: str | None = None,
    workers: int = 1,
    part_rows: int = 2_000,
    progress: bool = True,
    engine: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    storage: Mapping[str, Any] | None = None,
) -> ParquetRun:
    """Score every row of a Parquet file or folder into a folder of Parquet files.

    Each row of the source stands in the target exactly once, with all its columns and the score.
    The files of the target, in the order of their names, have the rows in the order of the source:
    its files by name, their rows as they come. A worker that dies is replaced, and its part is
    scored again. When the run itself was stopped, the same call goes on with the parts that are
    missing.

    Args:
        source: A Parquet file, or a folder of them: a path, or an address that fsspec knows, such
            as s3://bucket/pairs.
        target: A folder, likewise. It is made if it is not there.
        model: A folder, or a name on the hub.
        query: The column that holds the queries.
        document: The column that holds the documents.
        score: The column for the scores (float64); one of this name in the source is replaced.
        address: A Ray cluster, as `ray.init` wants it; "auto" inside a job of `ray job submit`.
            None takes the Ray that this process is connected to, or else starts one on this
            machine, and ends it.
        workers: How many engines score side by side. The cluster's processors are shared among
            them; where it has GPUs, each gets one.
        part_rows: The most rows of a part: what a killed worker has to score again.
        progress: Show a bar.
        engine: Arguments of vLLM's `LLM`, such as {"dtype": "bfloat16"}. On a CPU give the dtype:
            vLLM's own choice is slow there.
        options: Arguments of `LLM.score`, such as {"tokenization_kwargs": …}.
        storage: Arguments for fsspec's file system, such as keys.

    Raises:
        InputError: The source or the columns are not as they should be, or the target holds
            something else.
        ScoreError: There is no Ray, or the workers cannot score.
    """
    if importlib.util.find_spec("ray") is None:
        raise ScoreError(RAY_MISSING)
    workers, part_rows = whole_number("workers", workers), whole_number("part_rows", part_rows)
    if score in (query, document):
        raise InputError(f"score={score!r} would replace the texts: give it another name.")
    job: dict[str, Any] = {
        "model": os.fspath(model),
        "query": query,
        "document": document,
        "score": score,
        "engine": dict(engine or {}),
        "options": dict(options or {}),
        "storage": dict(storage or {}),
    }
    files = _files(os.fspath(source), job["storage"])
    parts, seen = _plan(files, os.fspath(target), part_rows, job)
    rows = sum(part["rows"] for part in parts)
    due = _open_target(os.fspath(target), {**job, "part_rows": part_rows, "source": seen}, parts)
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=rows, initial=rows - _rows(due), unit="pair", disable=not progress)
        )
        if due:
            stack.enter_context(_connected(address))
            for done in _run(due, job, workers):
                bar.update(done)
    return ParquetRun(rows, len(parts), _rows(due))


def _rows(parts: list[dict[str, Any]]) -> int:
    return sum(part["rows"] for part in parts)


def _files(source: str, storage: dict[str, Any]) -> list[tuple[Any, str, str]]:
    """Return the Parquet files of the source by name: file system, path there, full address."""
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(source, **storage)
    if filesystem.isfile(root):
        names = [root]
    elif filesystem.isdir(root):
        names = sorted(filesystem.glob(f"{root}/**/*.parquet"))
        # As readers of Parquet do: what begins with . or _ is no data.
        inside = (name.removeprefix(root).split("/") for name in names)
        hidden = [any(step.startswith((".", "_")) for step in steps) for steps in inside]
        names = [name for name, skip in zip(names, hidden, strict=True) if not skip]
    else:
        raise InputError(f"There is no Parquet file or folder {source}.")
    if not names:
        raise InputError(f"The folder {source} holds no file *.parquet.")
    return [(filesystem, name, filesystem.unstrip_protocol(name)) for name in names]


def _plan(
    files: list[tuple[Any, str, str]], target: str, part_rows: int, job: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Cut the source into parts; return them, and what tells this source from another."""
    parts: list[dict[str, Any]] = []
    seen: list[Any] = []
    for filesystem, name, address in files:
        try:
            with filesystem.open(name, "rb") as file:
                parquet = pq.ParquetFile(file)
                schema, about = parquet.schema_arrow, parquet.metadata
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{address} cannot be read as Parquet: {error}.") from None
        for column in (job["query"], job["document"]):
            if column not in schema.names:
                there = shorten_list([repr(each) for each in schema.names]) or "none"
                raise InputError(f"{address} has no column {column!r}. Its columns: {there}.")
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise InputError(f"Column {column!r} of {address} holds {kind}, not text.")
        groups = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        size = filesystem.size(name)
        footer = hashlib.sha256(str(about.to_dict()).encode()).hexdigest()
        seen.append([name.rpartition("/")[2], size, footer])
        for group, rows in enumerate(groups):
            for start in range(0, rows, part_rows):
                parts.append({
                    "part": f"{target.rstrip('/')}/part-{len(parts):06d}.parquet",
                    "path": address,
                    "group": group,
                    "start": start,
                    "rows": min(part_rows, rows - start),
                })  # fmt: skip
    return parts, seen


def _open_target(
    target: str, settings: dict[str, Any], parts: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Make the target or check that it is this run's; return the parts that are missing."""
    import fsspec

    storage = settings.pop("storage")  # may hold keys
    text = json.dumps(settings, indent=1, sort_keys=True, default=repr)
    filesystem, root = fsspec.core.url_to_fs(target, **storage)
    note = f"{root}/{SETTINGS}"
    if filesystem.isfile(root):
        raise InputError(f"The target {target} is a file: give a folder.")
    filesystem.makedirs(root, exist_ok=True)
    filesystem.invalidate_cache()
    there = {name.rpartition("/")[2] for name in filesystem.ls(root, detail=False)}
    if SETTINGS in there:
        stored = json.loads(filesystem.cat_file(note))
        differs = [name for name in settings if stored.get(name) != json.loads(text)[name]]
        if differs:
            raise InputError(
                f"The target {target} holds scores of a run with another {', '.join(differs)}. It "
                "was left as it is: give another folder, or delete it to begin anew."
            )
    elif any(not name.startswith(".") for name in there):
        raise InputError(
            f"The folder {target} is not empty, and not of an earlier run: give another."
        )
    else:
        filesystem.pipe_file(note, text.encode())
    return [part for part in parts if part["part"].rpartition("/")[2] not in there]


def start_ray() -> None:
    """Start a Ray on this machine, without its dashboard, that ends with this process.

    It ends also when the process is killed. Its messages stay in its own log files.

    Raises:
        ScoreError: There is no Ray, or it does not start.
    """
    if importlib.util.find_spec("ray") is None:
        raise ScoreError(RAY_MISSING)
    # Read when Ray is imported: its programs say nothing on their own.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    config = {
        "process_group_cleanup_enabled": True,
        "worker_register_timeout_seconds": 300,
        # By default its workers give way to all other programs, and would measure as slow.
        "worker_niceness": 0,
    }
    before = set(psutil.Process().children(recursive=True))
    for tries_left in range(RAY_TRIES - 1, -1, -1):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _system_config=config,
            )
            return
        except Exception as error:
            # It gives up after 30 seconds, which is not enough on a busy machine, and leaves what
            # it has started. The next try finds in memory what this one had to read.
            ray.shutdown()
            for left in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.Error):
                    left.kill()
            if not tries_left:
                raise ScoreError(f"Ray does not start on this machine: {error}") from None


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a Ray: the given one, the one in use, or one of our own."""
    import ray

    if ray.is_initialized():
        yield
        return
    if address is None:
        start_ray()
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _run(parts: list[dict[str, Any]], job: dict[str, Any], workers: int) -> Iterator[int]:
    """Let workers score the parts; yield the rows of each that is done."""
    import ray
    from ray import cloudpickle, data

    from helpers.bulk import parquet_worker

    cloudpickle.register_pickle_by_value(sys.modules[parquet_worker.__name__])
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns that its own bars are off.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    resources = ray.cluster_resources()
    workers = min(workers, len(parts))
    gpus = 1 if resources.get("GPU") else 0
    cpus = 1 if gpus else max(1, int(resources.get("CPU", 1)) // workers)
    scored = data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        parquet_worker.PartScorer,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    try:
        for batch in scored.iter_batches(batch_size=None):
            yield int(batch["rows"].sum())
    except ray.exceptions.RayError as error:
        cause: BaseException = error
        while (inner := getattr(cause, "cause", None) or cause.__cause__) is not None:
            cause = inner
        kind = InputError if isinstance(cause, ValueError) else ScoreError
        raise kind(f"A worker could not score its part: {cause}") from None
