"""The model hub is asked as its own library asks, and downloads go on where they stopped.

The hub is played over HTTP, with the routes, headers and answers that huggingface_hub expects.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.errors import LaunchTimeoutError, ModelUnavailableError
from helpers.server import hub as hub_module
from helpers.server.hub import cached_folder, download, hub_state, read_card

NAME, COMMIT = "some/model", "a" * 40
WEIGHTS = os.urandom(3_000_000)
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"not for vLLM",
    "pytorch_model.bin": b"the same once more",
    "README.md": b"words",
}


class PlayedHub(ThreadingHTTPServer):
    """A hub with one model.

    key: what a request has to carry to see the model; status: what it gets without.
    most: how many bytes of a large file go over one connection, before it breaks.
    facts: what it says of the model beside its files.
    """

    daemon_threads = True

    def __init__(self, *, key="", status=401, code="", most=None, files=FILES, facts=None):
        self.key, self.status, self.code, self.most, self.files = key, status, code, most, files
        self.facts = facts or {}
        self.asked: list[tuple[str, str, str]] = []
        self.stall = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: PlayedHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server
        hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
        if hub.key and self.headers.get("Authorization") != f"Bearer {hub.key}":
            return self.reply(b"", hub.status, {"X-Error-Code": hub.code} if hub.code else {})
        if self.path.startswith(f"/api/models/{NAME}"):
            files = [
                {"rfilename": name, "size": len(content), "blobId": "b" * 40}
                for name, content in hub.files.items()
            ]
            if "/tree/" in self.path:
                files = [
                    {"type": "file", "path": name, "size": len(content), "oid": "b" * 40}
                    for name, content in hub.files.items()
                ]
                return self.reply(json.dumps(files).encode())
            model = {"id": NAME, "sha": COMMIT, "siblings": files, **hub.facts}
            return self.reply(json.dumps(model).encode())
        found = re.fullmatch(rf"/{NAME}/resolve/[^/]+/(.+)", self.path)
        if found is None or found[1] not in hub.files:
            known = self.path.startswith(f"/{NAME}/")
            code = "EntryNotFound" if known else "RepoNotFound"
            return self.reply(b"", 404, {"X-Error-Code": code})
        content = hub.files[found[1]]
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(start[1]) if start else 0
        self.reply(content[first:], 206 if start else 200, etag)

    def reply(self, content, status=200, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        hub = self.server
        if hub.most is not None and len(content) > hub.most:
            self.wfile.write(content[: hub.most])
            self.wfile.flush()
            hub.stall.wait(60)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def play():
    """Give a function that starts a hub."""
    with ExitStack() as stack:

        def start(**settings):
            hub = PlayedHub(**settings)
            stack.callback(hub.server_close)
            stack.callback(hub.shutdown)
            stack.callback(hub.stall.set)
            return hub

        yield start


@pytest.fixture
def where(tmp_path):
    """Give a function that makes the environment of a person who asks a hub."""

    def make(hub=None, **more):
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "XDG_", "HUGG"))}
        address = hub.url if hub else "http://127.0.0.1:9"
        home = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
        return {**kept, **home, "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", **more}

    return make


def in_cache(cache: Path, *names: str) -> Path:
    """Put files of the model into a cache of the hub."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for name in names:
        (folder / name).write_bytes(FILES.get(name, b"{}"))
    return folder


# Where it stands


def test_a_model_that_anybody_may_have_is_reachable(play, where):
    assert hub_state(NAME, where(play())) == "reachable"


def test_a_model_that_does_not_exist_is_missing(play, where):
    assert hub_state("some/other", where(play())) == "missing"
    assert hub_state(NAME, where(play(key="k", status=404, code="RepoNotFound"))) == "missing"


def test_a_hub_that_wants_a_token_has_no_such_model_without_one(play, where):
    assert hub_state(NAME, where(play(key="hf_right"))) == "missing"


def test_a_token_is_found_wherever_the_library_finds_it(play, where, tmp_path):
    hub = play(key="hf_right")
    assert hub_state(NAME, where(hub, HF_TOKEN="hf_right\n")) == "reachable"
    assert hub_state(NAME, where(hub, HUGGING_FACE_HUB_TOKEN="hf_right")) == "reachable"
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_right\n")
    assert hub_state(NAME, where(hub)) == "reachable"


def test_a_model_whose_terms_were_not_accepted_is_gated(play, where):
    assert hub_state(NAME, where(play(key="k", status=403, code="GatedRepo"))) == "gated"
    assert hub_state(NAME, where(play(key="k", status=403))) == "gated"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_is_no_statement_about_the_model(play, where, status):
    assert hub_state(NAME, where(play(key="k", status=status)), timeout=5) == "unknown"


def test_no_network_is_no_statement_either(where):
    assert hub_state(NAME, where()) == "unknown"


def test_a_hub_that_never_answers_is_given_up_in_time(where):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert hub_state(NAME, where(HF_ENDPOINT=address), timeout=1) == "unknown"
    assert time.monotonic() - began < 15


def test_a_model_without_a_configuration_is_left_to_vllm(play, where):
    assert hub_state(NAME, where(play(files={"model-Q4.gguf": b"x"}))) == "reachable"


def test_a_model_of_another_place_is_not_looked_for_on_the_hub(play, where):
    hub = play()
    assert hub_state("s3://bucket/model", where(hub)) == "unknown"
    assert hub_state(NAME, where(hub, VLLM_USE_MODELSCOPE="true")) == "unknown"
    assert download("s3://bucket/model", where(hub)) is None
    assert hub.asked == []


def test_a_kernel_without_the_hubs_library_does_not_know(where, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    python.chmod(0o755)
    assert hub_state(NAME, where(), python=str(python)) == "unknown"


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "{}/cache"}, "cache"),
        ({"HUGGINGFACE_HUB_CACHE": "{}/legacy"}, "legacy"),
        ({"HF_HOME": "{}/home"}, "home/hub"),
        ({"HF_HOME": "", "XDG_CACHE_HOME": "{}/xdg"}, "xdg/huggingface/hub"),
    ],
)
def test_a_cache_is_found_wherever_the_library_keeps_it(where, tmp_path, variables, place):
    environment = where(HF_HUB_OFFLINE="1", **{n: v.format(tmp_path) for n, v in variables.items()})
    if not environment["HF_HOME"]:
        del environment["HF_HOME"]
    assert hub_state(NAME, environment) == "offline"
    folder = in_cache(tmp_path / place, "config.json", "model.safetensors")
    assert hub_state(NAME, environment) == "cached"
    assert cached_folder(NAME, environment) == folder


def test_half_a_download_is_no_model(where, tmp_path):
    environment = where(HF_HUB_OFFLINE="1")
    folder = in_cache(tmp_path / "hf" / "hub", "config.json")
    assert hub_state(NAME, environment) == "offline"
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "one.safetensors").touch()
    assert hub_state(NAME, environment) == "offline"
    assert cached_folder(NAME, environment) is None
    (folder / "two.safetensors").touch()
    assert hub_state(NAME, environment) == "cached"


# Downloads


def test_what_vllm_reads_is_downloaded_and_nothing_else(play, where):
    hub = play()
    folder = download(NAME, where(hub))
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub_state(NAME, where(hub, HF_HUB_OFFLINE="1")) == "cached"


def test_a_broken_line_goes_on_where_it_broke(play, where):
    hub = play(most=1_000_000)
    hub.stall.set()
    folder = download(NAME, where(hub))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    starts = [ranges for _, path, ranges in hub.asked if ranges and "safetensors" in path]
    begun = [int(ranges.removeprefix("bytes=").rstrip("-")) for ranges in starts]
    assert begun[0] == 0 and begun == sorted(set(begun)) and 3 <= len(begun) <= 4


def test_a_download_that_was_killed_goes_on_where_it_stopped(play, where):
    hub = play(most=1_000_000)
    code = "import sys; from helpers.server.hub import download; download(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, NAME], env=where(hub)) as process:
        deadline = time.monotonic() + 60
        while not (parts := [*Path(where()["HF_HOME"]).rglob("*.score.incomplete")]) or (
            parts[0].stat().st_size < 600_000
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
    hub.stall.set()
    hub.asked.clear()
    hub.most = None
    assert (download(NAME, where(hub)) / "model.safetensors").read_bytes() == WEIGHTS
    first = next(ranges for _, _, ranges in hub.asked if ranges)
    assert int(first.removeprefix("bytes=").rstrip("-")) >= 600_000


def test_a_download_that_stands_still_is_ended_and_says_how_far_it_came(play, where):
    hub = play(most=2_000_000)
    with pytest.raises(LaunchTimeoutError, match=r"stood still for 1\.5 seconds, with 0\.0 of"):
        download(NAME, where(hub), stall_timeout=1.5)


def test_what_the_hub_refuses_is_told_with_what_helps(play, where):
    for hub in (play(key="k", status=403, code="GatedRepo"), play(key="k")):
        with pytest.raises(ModelUnavailableError, match="hf auth login"):
            download(NAME, where(hub))


def test_a_hub_that_does_not_list_its_files_leaves_the_download_to_vllm(where):
    assert download(NAME, where()) is None


def test_a_disk_that_is_too_small_is_noticed_before(play, where, monkeypatch):
    monkeypatch.setattr(hub_module, "disk_free", lambda folder: 1_000_000)
    with pytest.raises(ModelUnavailableError, match="HF_HOME"):
        download(NAME, where(play()))


def test_a_file_that_arrives_damaged_is_not_kept(play, where):
    hub = play()
    environment = where(hub)
    blobs = Path(environment["HF_HOME"]) / "hub" / "models--some--model" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.score.incomplete"
    part.write_bytes(b"x" * 1000)
    with pytest.raises(ModelUnavailableError, match="arrived damaged"):
        download(NAME, environment)
    assert (download(NAME, environment) / "model.safetensors").read_bytes() == WEIGHTS


# What it is


def test_what_a_model_is_is_read_without_its_weights(play, where):
    weights = {"parameters": {"F32": 1_000, "BF16": 500, "I8": 10}, "total": 1_510}
    hub = play(facts={"cardData": {"license": "apache-2.0"}, "safetensors": weights})
    card = read_card(NAME, where(hub))
    assert card["licence"] == "apache-2.0"
    assert card["bytes"] == 1_000 * 2 + 500 * 2 + 10, "32 bits are served as 16"
    assert json.loads((Path(card["folder"]) / "config.json").read_text())["model_type"] == "bert"
    asked = [path for _, path, _ in hub.asked]
    assert not any("model.safetensors" in path for path in asked)


def test_a_hub_that_says_neither_licence_nor_size_is_enough(play, where):
    card = read_card(NAME, where(play()))
    assert card["licence"] == "" and "bytes" not in card


def test_what_is_in_the_cache_needs_no_hub(where, tmp_path):
    folder = in_cache(tmp_path / "hf" / "hub", "config.json")
    assert Path(read_card(NAME, where(HF_HUB_OFFLINE="1"))["folder"]) == folder


@pytest.mark.parametrize("settings", [{"key": "k"}, {"status": 404, "key": "k"}])
def test_a_model_that_the_hub_does_not_give_is_named(play, where, settings):
    with pytest.raises(ModelUnavailableError, match=NAME):
        read_card(NAME, where(play(**settings)))


def test_a_hub_that_is_not_there_is_said(where):
    with pytest.raises(ModelUnavailableError, match="folder that holds its config"):
        read_card(NAME, where())
