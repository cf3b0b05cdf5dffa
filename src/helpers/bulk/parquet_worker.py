"""Score one part of a Parquet data set after another, in a worker of Ray's.

The module travels to the workers by value, so a cluster needs Ray, vLLM and pyarrow, and nothing of
this package. Hence no import of it here.
"""

from __future__ import annotations

import gc
import io
import os
import uuid
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = ("query", "document")


class PartScorer:
    """Hold vLLM's `LLM`, and score a part each time it is called."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Load the model; `job` is what all parts have in common."""
        quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        # The engine then lives in this process, and dies with it.
        alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_WAIT_POLICY": "PASSIVE"}
        for name, value in {**quiet, **alone, "VLLM_CPU_KVCACHE_SPACE": "1"}.items():
            os.environ.setdefault(name, value)
        if os.path.isdir(job["model"]):
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        gc.disable()  # else it looks at all that is imported again and again, for 4 seconds of 10
        from vllm import LLM

        gc.freeze()
        gc.enable()
        self._job = job
        self._llm = LLM(job["model"], runner="pooling", **job["engine"])
        self._read: tuple[tuple[str, int], pa.Table] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score the parts of a batch, write each, and return how many rows they have."""
        columns = [batch[name] for name in ("part", "path", "group", "start", "rows")]
        for part, path, group, start, rows in zip(*columns, strict=True):
            table = self._group(path, group).slice(start, rows)
            queries, documents = (self._texts(table, self._job[name], path) for name in TEXTS)
            outputs = self._llm.score(queries, documents, use_tqdm=False, **self._job["options"])
            scores = pa.array([output.outputs.score for output in outputs], pa.float64())
            if self._job["score"] in table.column_names:
                table = table.drop_columns([self._job["score"]])
            write(table.append_column(self._job["score"], scores), part, self._job["storage"])
        return {"rows": batch["rows"]}

    def _group(self, path: str, group: int) -> pa.Table:
        """Return a row group; the last one is kept, because its parts come one after the other."""
        if self._read is None or self._read[0] != (path, group):
            filesystem, name = fsspec.core.url_to_fs(path, **self._job["storage"])
            with filesystem.open(name, "rb") as file:
                self._read = (path, group), pq.ParquetFile(file).read_row_group(group)
        return self._read[1]

    def _texts(self, table: pa.Table, name: str, path: str) -> Any:
        texts = table.column(name).to_pylist()
        if missing := sum(text is None for text in texts):
            raise ValueError(
                f"Column {name!r} of {path} is empty in {missing} rows. Fill or drop them."
            )
        return texts


def write(table: pa.Table, path: str, storage: dict[str, Any]) -> None:
    """Write a file so that it is there whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    filesystem, name = fsspec.core.url_to_fs(path, **storage)
    if "file" not in (filesystem.protocol, *filesystem.protocol):
        filesystem.pipe_file(name, buffer.getvalue())  # object storage shows an upload at its end
        return
    folder, _, last = name.rpartition("/")
    draft = f"{folder}/.{last}.{uuid.uuid4().hex}"
    try:
        with open(draft, "wb") as file:
            file.write(buffer.getvalue())
        os.replace(draft, name)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise
