"""Load a judged set: documents, queries, and grades that say which document answers which query.

The tutorial corpus comes with the helpers. Other sets are read in the format of BEIR (Thakur and
others, 2021, arXiv:2104.08663), from a folder or by name from the model hub:

    corpus.jsonl     {"_id": "d1", "title": "Paris", "text": "..."}
    queries.jsonl    {"_id": "q1", "text": "..."}
    qrels/test.tsv   a line "query-id  corpus-id  score", then such lines, separated by tabs
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import corpus
from helpers.errors import InputError, ScoreError

HUB_OWNER = "BeIR"
QRELS_FILES = ("qrels/test.tsv", "qrels.tsv", "test.tsv")
QRELS_COLUMNS = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, repr=False)
class JudgedSet:
    """Documents, queries and judgments, each under its identifier.

    Attributes:
        name: What the set is called.
        documents: The documents' texts.
        queries: The queries' texts; those that nobody judged are left out.
        judgments: For each query the grade of each judged document; 0 is not relevant, and so is a
            document that is not listed.
        kinds: What kind of query each one is; "query" where a set does not tell kinds apart.
        relevant_from: The lowest grade that counts as relevant where a measure knows only yes and
            no.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgments: dict[str, dict[str, int]]
    kinds: dict[str, str] = field(default_factory=dict)
    relevant_from: int = 1

    def __post_init__(self) -> None:
        """Leave out queries that nobody judged, and name the kind of every other one."""
        judged = {q: text for q, text in self.queries.items() if self.judgments.get(q)}
        if not judged or not self.documents:
            raise InputError(
                f"{self.name} has {len(self.documents)} documents and {len(judged)} queries with "
                "judgments: at least one of each is needed. Do the identifiers of queries and "
                "judgments fit together?"
            )
        kinds = {q: self.kinds.get(q, "query") for q in judged}
        judgments = {q: self.judgments[q] for q in judged}
        for name, value in (("queries", judged), ("judgments", judgments), ("kinds", kinds)):
            object.__setattr__(self, name, value)

    def sample(self, count: int, seed: int = 0) -> JudgedSet:
        """Return the set with at most `count` of its queries, drawn with a fixed seed.

        Raises:
            InputError: `count` is less than 1.
        """
        if count < 1:
            raise InputError(f"A set needs at least 1 query, and {count} were asked for.")
        if count >= len(self.queries):
            return self
        drawn = set(random.Random(seed).sample(sorted(self.queries), count))
        return replace(self, queries={q: t for q, t in self.queries.items() if q in drawn})

    def __repr__(self) -> str:
        """Show the name and the numbers."""
        judged = sum(len(grades) for grades in self.judgments.values())
        return (
            f"{self.name}: {len(self.documents):,} documents, {len(self.queries):,} queries, "
            f"{judged:,} judgments"
        )


def load_judged(name: str | os.PathLike[str] | None = None, *, max_queries: int = 300) -> JudgedSet:
    """Load a judged set.

    Args:
        name: None or "" for the tutorial corpus; a folder in BEIR's format; or the name of a BEIR
            set on the hub, such as "scifact".
        max_queries: How many queries to keep at most, at least 1; the same ones each time.

    Raises:
        InputError: A file is missing or is not in BEIR's format (the message says which, and
            where), or `max_queries` is less than 1.
        ScoreError: The hub has no such set, or cannot be reached.
    """
    if not name:
        return _tutorial().sample(max_queries)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _read(folder, folder, folder.name).sample(max_queries)
    if isinstance(name, os.PathLike) or os.sep in name:
        raise InputError(f"There is no folder {name}. Give one in BEIR's format, or a set's name.")
    data, qrels = _download(name)
    return _read(data, qrels, name).sample(max_queries)


def _tutorial() -> JudgedSet:
    passages, queries = corpus.passages(), corpus.queries()
    grades = corpus.judgments().groupby("query_id")
    return JudgedSet(
        name="tutorial corpus",
        documents=dict(zip(passages.passage_id, passages.text, strict=True)),
        queries=dict(zip(queries.query_id, queries.text, strict=True)),
        judgments={
            str(query_id): dict(zip(rows.passage_id, rows.grade.tolist(), strict=True))
            for query_id, rows in grades
        },
        kinds=dict(zip(queries.query_id, queries.kind, strict=True)),
        # Grade 1 is on the topic without an answer; see the corpus's data card.
        relevant_from=2,
    )


def _download(name: str) -> tuple[Path, Path]:
    """Fetch a set and its judgments from the hub, or find them in its cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    except ImportError:
        raise ScoreError(
            f"Loading {name!r} from the hub needs the package huggingface_hub. Install it with: "
            "pip install huggingface_hub"
        ) from None
    repository = f"{HUB_OWNER}/{name}"
    try:
        # The hub has had these sets both as JSON lines and as Parquet: take what there is.
        data = snapshot_download(
            repository, repo_type="dataset", allow_patterns=["corpus*", "queries*"]
        )
        qrels = snapshot_download(
            f"{repository}-qrels", repo_type="dataset", allow_patterns=["test.tsv"]
        )
    except GatedRepoError:  # a RepositoryNotFoundError too, so it comes first
        raise ScoreError(
            f"The hub gives {repository} only to people who accepted its terms. Accept them at "
            f"https://huggingface.co/datasets/{repository}, then log in: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise ScoreError(
            f"The hub has no set {repository}. Names are written as on "
            f"https://huggingface.co/{HUB_OWNER}, such as scifact, nfcorpus or fiqa."
        ) from None
    except OSError as error:
        # The library tells of both by one error, and by what caused it.
        response = getattr(error.__cause__, "response", None)
        what = (
            "the hub cannot be reached"
            if response is None
            else f"the hub answered with status {response.status_code}"
        )
        raise ScoreError(
            f"{repository} is not in the hub's cache, and {what} ({type(error).__name__}). Try "
            "again later; without a hub, give a folder in BEIR's format, or nothing for the "
            "tutorial corpus."
        ) from None
    return Path(data), Path(qrels)


def _read(folder: Path, qrels_folder: Path, name: str) -> JudgedSet:
    return JudgedSet(
        name=name,
        documents={row["_id"]: _whole_text(row) for row in _records(folder, "corpus")},
        queries={row["_id"]: row["text"] for row in _records(folder, "queries")},
        judgments=_judgments(qrels_folder),
    )


def _whole_text(row: Mapping[str, Any]) -> str:
    """Join title and text as BEIR's own loader does; a table has NaN where there is no title."""
    title = row.get("title")
    return f"{title} {row['text']}".strip() if isinstance(title, str) else row["text"]


def _records(folder: Path, part: str) -> Iterator[dict[str, Any]]:
    """Go through the records of corpus or queries, with identifiers as strings."""
    lines = [folder / f"{part}.jsonl", folder / f"{part}.jsonl.gz"]
    tables = sorted(folder.glob(f"{part}*/*.parquet")) or sorted(folder.glob(f"{part}*.parquet"))
    found = next((path for path in lines if path.is_file()), None)
    if found is None and not tables:
        raise InputError(f"{folder} has no {part}.jsonl, which BEIR's format asks for.")
    records = _json_lines(found) if found else _table_rows(tables)
    for where, record in records:
        whole = isinstance(record, dict) and "_id" in record
        if not whole or not isinstance(record.get("text"), str):
            raise InputError(f"{where}: expected an object with _id and text.")
        yield {**record, "_id": str(record["_id"])}


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                yield where, json.loads(line)
            except ValueError:
                raise InputError(f"{where} is not JSON.") from None


def _table_rows(paths: list[Path]) -> Iterator[tuple[str, Any]]:
    for path in paths:
        for number, row in enumerate(pd.read_parquet(path).to_dict("records"), start=1):
            yield f"{path}, row {number}", row


def _judgments(folder: Path) -> dict[str, dict[str, int]]:
    path = next((folder / name for name in QRELS_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} has no {QRELS_FILES[0]}, which BEIR's format asks for.")
    judgments: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if rows.fieldnames != QRELS_COLUMNS:
            raise InputError(
                f"{path} starts with {rows.fieldnames}: expected {', '.join(QRELS_COLUMNS)}, "
                "separated by tabs."
            )
        for row in rows:
            try:
                grade = int(row["score"])
            except (TypeError, ValueError):
                raise InputError(
                    f"{path}, line {rows.line_num}: {row['score']!r} is not a whole number."
                ) from None
            judgments.setdefault(row["query-id"], {})[row["corpus-id"]] = grade
    return judgments
