"""The life of a good server: launched, found again, asked, pointed at, left alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from launching import INTERRUPTIBLE

from helpers.errors import BadRequestError, NotFoundError, UnreachableError
from helpers.server.server import ScoreServer

FIND = """
from helpers.server import ScoreServer
server = ScoreServer().start()
print(server.adopted, server.pid)
"""


def in_new_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_score_came_back_before_start_returned(server):
    assert server.running
    with server.client() as client:
        assert 0 <= client.score("What is red?", "A rose is red.").score <= 1


def test_the_server_is_reached_from_this_machine_only(server):
    addresses = [
        connection.laddr.ip
        for member in server._record.members()
        for connection in member.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == server._record.port
    ]
    assert addresses == ["127.0.0.1"]


def test_the_server_has_a_session_of_its_own(server):
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_on_a_cpu_the_engine_is_a_fork_that_holds_no_port(server):
    if server.choices.device.value != "cpu":
        pytest.skip("on a GPU vLLM spawns its processes")
    first, engine = sorted(server._record.members(), key=lambda member: member.pid != server.pid)
    assert (engine.ppid(), engine.exe()) == (first.pid, first.exe())
    assert server._record.port not in {c.laddr.port for c in engine.net_connections("tcp")}


def test_a_second_object_finds_the_same_server(server, capsys):
    with ScoreServer() as other:
        assert other.adopted
        assert (other.pid, other.url, other.model) == (server.pid, server.url, server.model)
        assert (other.command, other.choices) == (server.command, server.choices)
    assert server.running, "leaving a with block must not stop a server that was there before"
    assert f"Already running: {server.model}" in capsys.readouterr().out


def test_a_new_process_finds_the_same_server(server):
    assert in_new_process(FIND).splitlines()[-1] == f"True {server.pid}"


def test_the_end_of_a_process_that_found_the_server_does_not_end_it(server):
    finder = subprocess.Popen(
        [sys.executable, "-u", "-c", f"{INTERRUPTIBLE}{FIND}\nimport time; time.sleep(600)"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert finder.stdout is not None
    while f"True {server.pid}" not in (line := finder.stdout.readline()):
        assert line, "the process ended too early"
    # An interrupted kernel: the signal goes to its whole process group.
    os.killpg(finder.pid, signal.SIGINT)
    assert finder.wait(60) != 0
    finder.stdout.close()
    assert server.running


def test_another_configuration_is_another_server(server):
    other = ScoreServer(vllm_flags={"max-num-seqs": 8})
    assert other._asked.key != server._asked.key
    assert not other.running and other._known() is None


def test_the_printed_command_is_what_runs_and_a_person_can_type_it(server):
    words = psutil.Process(server.pid).cmdline()
    typed = shlex.split(server.command.replace("\\\n", " "))
    settings = [word for word in typed if re.match(r"[A-Z0-9_]+=", word)]
    program, *rest = typed[len(settings) :]
    assert (Path(program).name, rest) == ("vllm", words[words.index("serve") :])
    running = psutil.Process(server.pid).environ()
    assert all(running[name] == value for name, _, value in (w.partition("=") for w in settings))
    assert "quick_start" not in server.command


def test_the_log_says_that_the_server_is_up(server):
    log = server.log_path.read_text()
    assert "Application startup complete." in log
    assert server.log_tail().splitlines()[0] in log
    assert "POST /score" not in log, "no line for each request"


def test_the_log_holds_no_text_that_was_scored_or_refused(server, client):
    secret = "the badger's password is quince"
    client.score(secret, [secret, "a river"])
    with pytest.raises(BadRequestError):
        client.score(secret, f"{secret} " * 500)
    assert "quince" not in server.log_path.read_text()


def test_the_status_shows_as_a_table(server):
    assert "running" in server._repr_html_()
    assert server.url in repr(server)


def test_an_address_in_the_environment_is_used_and_left_alone(server, monkeypatch, capsys):
    monkeypatch.setenv("SCORE_SERVER_URL", server.url)
    with ScoreServer() as remote:
        assert remote.remote and remote.running
        assert (remote.url, remote.model, remote.pid) == (server.url, server.model, None)
    remote.stop()
    assert server.running
    assert "somebody else" in capsys.readouterr().out


def test_an_address_where_nothing_answers_is_an_error(monkeypatch):
    monkeypatch.setenv("SCORE_SERVER_URL", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="No score server answers"):
        ScoreServer().start()


def test_a_remote_server_without_the_model_is_an_error(server, monkeypatch):
    monkeypatch.setenv("SCORE_SERVER_URL", server.url)
    with pytest.raises(NotFoundError, match="knows no model"):
        ScoreServer("some/other-model").start()


def test_the_record_can_be_read_by_its_owner_only(server):
    folder = Path(os.environ["SCORE_STATE_DIR"], "servers")
    (path,) = folder.glob(f"{server._record.key}-*.json")
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["ready"] is True
