"""Judged sets: the tutorial corpus, folders in BEIR's own format, and the hub's cache."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pandas as pd
import pytest

from helpers import corpus
from helpers.errors import InputError, ScoreError
from helpers.search import datasets as beir

DOCUMENTS = [
    {"_id": "d1", "title": "Paris", "text": "The capital of France.", "metadata": {}},
    {"_id": "d2", "title": "", "text": "Whales are mammals."},
    {"_id": "0031", "text": "The Seine — a river."},
]
QUERIES = [
    {"_id": "q1", "text": "capital of France?", "metadata": {}},
    {"_id": "q2", "text": "Are whales fish?"},
    {"_id": "q3", "text": "a query of the training part"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t0031\t0\nq2\td2\t1\nq9\td1\t1\n"


def json_lines(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.fixture
def folder(tmp_path):
    """Give a set as BEIR's archives hold it."""
    path = tmp_path / "tiny"
    (path / "qrels").mkdir(parents=True)
    (path / "corpus.jsonl").write_text(json_lines(DOCUMENTS), "utf-8")
    (path / "queries.jsonl").write_text(json_lines(QUERIES), "utf-8")
    (path / "qrels" / "test.tsv").write_text(QRELS, "utf-8")
    return path


# -- the tutorial corpus ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_tutorial_corpus_comes_whole(name):
    judged = beir.load_judged(name)
    assert len(judged.documents) == len(corpus.passages())
    assert judged.queries["geo-q01"] == "What is the capital of Brazil?"
    assert judged.judgments["geo-q01"]["geo-001"] == 3
    assert judged.judgments.keys() == judged.queries.keys() == judged.kinds.keys()
    assert set(judged.kinds.values()) == set(corpus.kinds())
    assert judged.relevant_from == 2


def test_a_set_tells_its_numbers(folder):
    assert repr(beir.load_judged(folder)) == "tiny: 3 documents, 2 queries, 3 judgments"


# -- a folder -----------------------------------------------------------------------------------


def test_a_folder_in_beirs_format_is_read_as_beir_reads_it(folder):
    judged = beir.load_judged(str(folder))
    assert judged.documents == {
        "d1": "Paris The capital of France.",
        "d2": "Whales are mammals.",
        "0031": "The Seine — a river.",
    }
    assert judged.queries == {"q1": "capital of France?", "q2": "Are whales fish?"}
    assert judged.judgments == {"q1": {"d1": 2, "0031": 0}, "q2": {"d2": 1}}
    assert judged.kinds == {"q1": "query", "q2": "query"}
    assert judged.relevant_from == 1


def test_compressed_lines_and_judgments_at_the_top_are_read_too(folder):
    expected = beir.load_judged(folder)
    for part in ("corpus", "queries"):
        plain = folder / f"{part}.jsonl"
        (folder / f"{part}.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    (folder / "qrels" / "test.tsv").rename(folder / "qrels.tsv")
    assert beir.load_judged(folder) == expected


def test_tables_of_the_hub_are_read_too(folder):
    expected = beir.load_judged(folder)
    for part, records in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        (folder / f"{part}.jsonl").unlink()
        (folder / part).mkdir()
        table = pd.DataFrame(records).drop(columns="metadata")
        table.to_parquet(folder / part / f"{part}-00000-of-00001.parquet")
    assert beir.load_judged(folder) == expected


def test_quotation_marks_and_empty_lines_do_no_harm(folder):
    quoted = {"_id": 'a"b', "text": 'She said "no", and\tleft.'}
    (folder / "corpus.jsonl").write_text(json_lines([quoted]) + "\n", "utf-8")
    (folder / "qrels" / "test.tsv").write_text('query-id\tcorpus-id\tscore\nq1\ta"b\t1\n')
    judged = beir.load_judged(folder)
    assert judged.documents == {'a"b': 'She said "no", and\tleft.'}
    assert judged.judgments == {"q1": {'a"b': 1}}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("corpus.jsonl", None, "has no corpus.jsonl"),
        ("queries.jsonl", None, "has no queries.jsonl"),
        ("qrels/test.tsv", None, "has no qrels/test.tsv"),
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": ', "line 2 is not JSON"),
        ("corpus.jsonl", '{"id": "d1", "text": "a"}\n', "line 1: expected an object with _id"),
        ("corpus.jsonl", '{"_id": "d1", "text": null}\n', "line 1: expected an object with _id"),
        ("corpus.jsonl", '["d1", "a"]\n', "line 1: expected an object with _id"),
        ("corpus.jsonl", "", "0 documents"),
        ("queries.jsonl", '{"_id": "q7", "text": "a"}\n', "0 queries with judgments"),
        ("qrels/test.tsv", "q1\td1\t1\n", "expected query-id, corpus-id, score"),
        ("qrels/test.tsv", QRELS.replace("\t2", "\tgood"), "line 2: 'good' is not a whole number"),
        ("qrels/test.tsv", QRELS.replace("\t2", ""), "line 2: None is not a whole number"),
    ],
)
def test_what_is_not_in_beirs_format_is_named_with_its_place(folder, file, content, said):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content, "utf-8")
    with pytest.raises(InputError) as caught:
        beir.load_judged(folder)
    assert said in str(caught.value)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path):
    for name in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match="There is no folder"):
            beir.load_judged(name)


# -- a sample -----------------------------------------------------------------------------------


def test_a_sample_is_the_same_each_time_and_keeps_all_documents():
    whole, some = beir.load_judged(), beir.load_judged(max_queries=20)
    assert some == beir.load_judged().sample(20)
    assert len(some.queries) == len(some.judgments) == len(some.kinds) == 20
    assert some.documents == whole.documents
    assert some.queries.items() <= whole.queries.items()
    assert list(some.queries) != list(whole.queries)[:20]
    assert some.sample(20, seed=1) == some
    assert whole.sample(20, seed=1).queries != some.queries


# -- the hub ------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Play the part of the hub that a download needs, over real HTTP."""

    files: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        match = re.match(
            r"(?:/api)?/datasets/BeIR/([^/]+)/(revision|tree|resolve)/[^/]+/?(.*)", self.path
        )
        name, what, file = match.groups()
        if name == "gated":
            self.answer(401, b"{}", X_Error_Code="GatedRepo")
        elif name == "broken":
            self.answer(500, b"{}")
        elif name not in self.files:
            self.answer(404, b"{}", X_Error_Code="RepoNotFound")
        elif what == "revision":
            siblings = [{"rfilename": file} for file in self.files[name]]
            body = {"id": f"BeIR/{name}", "sha": COMMIT, "siblings": siblings}
            self.answer(200, json.dumps(body).encode())
        elif what == "tree":
            listed = self.files[name].items()
            body = [
                {"type": "file", "path": path, "size": len(content), "oid": path}
                for path, content in listed
            ]
            self.answer(200, json.dumps(body).encode())
        else:
            content = self.files[name][file]
            etag = hashlib.sha1(content).hexdigest()
            self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    def answer(self, status, content, **headers):
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Keep the test's output clean."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Give a dict of repositories and their files that a hub on this machine has."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Hub, "files", {})
    yield Hub.files
    server.shutdown()
    thread.join()
    server.server_close()


def compressed(folder):
    """Return the files of a set as the hub has had them."""
    return {
        f"{part}.jsonl.gz": gzip.compress((folder / f"{part}.jsonl").read_bytes())
        for part in ("corpus", "queries")
    }


def test_a_set_comes_from_the_hub_by_name_and_then_from_its_cache(hub, folder, monkeypatch):
    hub["tiny"] = {**compressed(folder), "README.md": b"not asked for"}
    hub["tiny-qrels"] = {"test.tsv": QRELS.encode(), "train.tsv": b"not asked for"}
    expected = beir.load_judged(folder)
    assert beir.load_judged("tiny") == expected
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.clear()
    assert beir.load_judged("tiny") == expected


def test_a_name_that_the_hub_does_not_know_is_told_where_names_are_found(hub):
    with pytest.raises(ScoreError, match="no set BeIR/scifakt") as caught:
        beir.load_judged("scifakt")
    assert "https://huggingface.co/BeIR" in str(caught.value)


def test_a_set_behind_terms_is_told_apart_from_one_that_does_not_exist(hub):
    with pytest.raises(ScoreError, match="accepted its terms") as caught:
        beir.load_judged("gated")
    assert "hf auth login" in str(caught.value)


def test_a_hub_that_answers_with_a_fault_is_not_called_unreachable(hub):
    with pytest.raises(ScoreError, match=r"BeIR/broken .* answered with status 500"):
        beir.load_judged("broken")


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_query_is_refused_by_the_number(count):
    with pytest.raises(InputError, match=f"at least 1 query, and {count} were asked for"):
        beir.load_judged(max_queries=count)


def test_a_hub_out_of_reach_is_told_with_what_works_without_it(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ScoreError, match="hub cannot be reached") as caught:
        beir.load_judged("scifact")
    assert "a folder in BEIR's format" in str(caught.value)
