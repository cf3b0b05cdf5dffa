"""A launch carried out on small programs that behave as vLLM does, or as it should not."""

import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from machines import CPU_BF16, CPU_ENGINE

from helpers.errors import (
    LaunchError,
    LaunchTimeoutError,
    ModelUnavailableError,
    NotAScoringModelError,
    ServerDiedError,
)
from helpers.server import launch, records
from helpers.server.asked import Asked
from helpers.server.command import Command
from helpers.server.launch import Patience, answers, await_score, spawn
from helpers.server.plan import decide
from helpers.server.progress import StageProgress

PATIENCE = Patience(start=60, stall=20)
# Takes its port, and behaves as its second argument says.
SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, manner = int(sys.argv[1]), sys.argv[2]
checks = []

class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        if self.path == "/health":
            checks.append(time.monotonic())
            if manner == "slow to say that it is well" and len(checks) == 1:
                time.sleep(6)
            self.answer(503 if manner == "unwell" else 200, {})
        elif manner == "busy with everything":
            self.answer(503, {"error": {"message": "busy"}})
        else:
            name = "another" if manner == "another name" else "m"
            self.answer(200, {"object": "list", "data": [{"id": name, "object": "model"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if manner == "slow":
            time.sleep(60)
        status = {"full": 429, "busy": 503, "failing": 500, "no route": 404}.get(manner, 200)
        if manner == "unknown model":
            error = {"message": "The model `m` does not exist.", "type": "NotFoundError",
                     "param": "model", "code": 404}
            self.answer(404, {"error": error})
        elif status != 200:
            self.answer(status, {"error": {"message": manner, "code": status}})
        else:
            self.answer(200, {"id": "1", "object": "list", "created": 1, "model": "m",
                              "data": [{"index": 0, "object": "score", "score": 0.5}],
                              "usage": {"prompt_tokens": 7, "total_tokens": 7}})

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
print("up", flush=True)
server.serve_forever()
"""
# As vLLM does, takes its port only after seconds of imports, and gives up if somebody has it.
LATE = """
import socket, sys, time
print("importing", flush=True)
time.sleep(2)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
time.sleep(600)
"""
SILENT = "import sys, time; print(sys.argv[1], flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    yield tmp_path
    records.sweep()


def started(code=SERVER, *arguments, key="k", port=0):
    """Start a program as a server is started."""

    def build(port):
        argv = (sys.executable, "-c", code, str(port), *arguments)
        return Command(argv, dict(os.environ), "vllm serve m")

    return spawn(key, "m", port, build)


def up(*manner):
    """Start a played server, and return its record once it listens."""
    record, process = started(SERVER, *manner)
    while not Path(record.log_path).read_text():
        assert process.poll() is None
        time.sleep(0.05)
    return record, process


def wait(record, process, patience=PATIENCE):
    with StageProgress(["imports", "engine", "weights", "warm-up", "first score", "ready"]) as bar:
        return await_score(record, process, api_key=None, patience=patience, progress=bar)


# Whether a server that once worked still does.


@pytest.mark.parametrize(
    "manner", ["good", "full", "busy", "busy with everything", "slow to say that it is well"]
)
def test_a_server_that_is_well_is_left_alone_however_busy(manner):
    record, _ = up(manner)
    assert answers(record, None, PATIENCE)


def test_a_server_that_takes_long_for_a_score_is_left_alone():
    record, _ = up("slow")
    assert answers(record, None, Patience(start=60, stall=2))


@pytest.mark.parametrize("manner", ["unwell", "another name", "failing", "no route"])
def test_a_server_that_is_unwell_or_another_one_does_not_count(manner):
    record, _ = up(manner)
    assert not answers(record, None, PATIENCE)


def test_a_program_of_somebody_else_on_the_port_does_not_count():
    record, _ = started(SILENT)
    other, _ = up("good")
    assert answers(other, None, PATIENCE)
    assert not answers(dataclasses.replace(record, port=other.port), None, PATIENCE)


def test_a_dead_server_does_not_count():
    record, process = up("good")
    process.kill()
    process.wait()
    assert not answers(record, None, PATIENCE)


# Waiting for the first score.


def test_a_score_makes_a_server_ready(capsys):
    record, process = started(SERVER, "good")
    ready = wait(record, process)
    assert ready == dataclasses.replace(record, ready=True) == records.load("k")


def test_a_model_without_the_route_is_told_from_a_name_that_is_not_served():
    record, process = started(SERVER, "no route")
    with pytest.raises(NotAScoringModelError, match="exactly one output label"):
        wait(record, process)
    record, process = started(SERVER, "unknown model", key="l")
    with pytest.raises(LaunchError, match="knows no model 'm'") as caught:
        wait(record, process)
    assert type(caught.value) is LaunchError


def test_a_log_that_goes_away_ends_the_launch_with_its_name():
    record, process = started(SILENT)
    Path(record.log_path).unlink()
    with pytest.raises(LaunchError, match="log went away") as caught:
        wait(record, process)
    assert str(caught.value.log_path) == record.log_path
    assert record.end() == [record.pid], "it is found by its log even so"


def test_a_program_that_ends_is_told_with_its_code_and_its_log():
    record, process = started("import sys; print('ValueError: no'); sys.exit(3)")
    with pytest.raises(ServerDiedError, match=r"\(exit code 3\)(.|\n)*ValueError: no"):
        wait(record, process)


def test_a_starter_that_died_leaves_a_server_that_another_waits_for():
    record, _ = started(SERVER, "good")
    assert wait(record, None).ready
    dead, process = started("raise SystemExit('no')", key="l")
    process.wait()
    with pytest.raises(ServerDiedError):
        wait(dead, None)


def test_silence_without_work_ends_a_launch_and_work_does_not():
    record, process = started(SILENT)
    with pytest.raises(LaunchTimeoutError, match="no sign of life for 1 seconds"):
        wait(record, process, Patience(start=60, stall=1))
    record, process = started("while True: pass", key="l")
    with pytest.raises(LaunchTimeoutError, match="not ready within 4 seconds"):
        wait(record, process, Patience(start=4, stall=2))


# Ports.


def test_a_port_in_use_is_replaced_by_the_next():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert reserved(port) > port
    assert reserved(port) == port


def reserved(wanted):
    port, hold = launch.reserve_port(wanted)
    hold.close()
    return port


def test_of_launches_at_the_same_time_none_loses_its_port_and_starts_again():
    # They ask for one port, and each takes it only after its imports.
    wanted = reserved(0)
    made = []
    threads = [
        threading.Thread(target=lambda key=key: made.append(started(LATE, key=key, port=wanted)))
        for key in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({record.port for record, _ in made}) == 3
    for record, process in made:
        while "up" not in Path(record.log_path).read_text():
            assert process.poll() is None, Path(record.log_path).read_text()
            time.sleep(0.1)


def test_the_port_is_spoken_for_as_long_as_the_server_lives():
    record, process = started(SILENT)
    assert reserved(record.port) > record.port
    record.end()
    process.wait()
    assert reserved(record.port) == record.port


def test_no_free_port_is_an_error(monkeypatch):
    monkeypatch.setattr(launch, "PORTS_TO_TRY", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LaunchError, match="port"):
        monkeypatch.setattr(socket.socket, "listen", lambda _: (_ for _ in ()).throw(OSError))
        launch.reserve_port(taken.getsockname()[1])


def test_a_launch_whose_record_cannot_be_saved_leaves_nothing(monkeypatch):
    def full(record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "save", full)
    before = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    with pytest.raises(OSError, match="No space left"):
        started(SILENT, "unmistakable")
    after = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert after.count("unmistakable") == before.count("unmistakable")


# The model before the launch.


def fetch(model, **facts):
    asked = Asked(model, **facts)
    return launch.fetch_model(decide(asked, CPU_BF16, CPU_ENGINE), asked, PATIENCE)


def test_a_folder_that_is_no_model_is_refused_before_the_launch(tmp_path):
    with pytest.raises(ModelUnavailableError, match="no model folder at /no/such"):
        fetch(Path("/no/such"))
    with pytest.raises(ModelUnavailableError, match=r"config\.json is missing"):
        fetch(str(tmp_path))


def test_a_model_that_may_not_be_asked_for_is_refused_before_the_launch(monkeypatch):
    monkeypatch.setattr(launch, "hub_state", lambda *_, **__: "offline")
    with pytest.raises(ModelUnavailableError, match="HF_HUB_OFFLINE"):
        fetch("some/model")


@pytest.mark.parametrize("state", ["reachable", "unknown", "missing", "gated"])
def test_a_model_is_downloaded_before_the_launch_with_what_the_server_gets(monkeypatch, state):
    calls = []

    def download(name, environment, **options):
        calls.append((name, environment["HF_HOME"], options))
        return Path("/cache/m")

    monkeypatch.setattr(launch, "hub_state", lambda *_, **__: state)
    monkeypatch.setattr(launch, "download", download)
    place = {"HF_HOME": "/elsewhere"}
    assert fetch("some/model", env=place, flags={"revision": "v2"}) == Path("/cache/m")
    options = {"revision": "v2", "stall_timeout": 20, "python": CPU_ENGINE.python}
    assert calls == [("some/model", "/elsewhere", options)]


def test_a_model_in_the_cache_is_not_downloaded(monkeypatch):
    monkeypatch.setattr(launch, "hub_state", lambda *_, **__: "cached")
    monkeypatch.setattr(launch, "cached_folder", lambda *_, **__: Path("/cache/m"))
    assert fetch("some/model") == Path("/cache/m")
