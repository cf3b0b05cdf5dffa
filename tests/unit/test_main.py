"""The command: what it prints, and how it ends."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from fault_server import MODEL, answer, expected_score

from helpers.__main__ import BRASILIA, BRAZIL, FRANCE, PARIS, main


def printed_parts(text):
    """Return headings and the Python values printed under them."""
    parts, heading, lines = [], None, []
    for line in [*text.splitlines(), ":"]:
        if line.endswith(":"):
            if heading:
                parts.append((heading, ast.literal_eval("\n".join(lines))))
            heading, lines = line, []
        else:
            lines.append(line)
    return parts


def test_the_three_forms_are_printed_with_request_and_answer(serve, capsys):
    server = serve()
    assert main(["--host", "127.0.0.1", "--port", str(server.server_port)]) == 0
    parts = printed_parts(capsys.readouterr().out)
    assert [heading for heading, _ in parts] == [
        "Prompt when queries and documents are both strings:",
        "Score Response:",
        "Prompt when queries is a string and documents is a list:",
        "Score Response:",
        "Prompt when queries and documents are both lists:",
        "Score Response:",
    ]
    prompts = [value for heading, value in parts if heading.startswith("Prompt")]
    assert prompts == server.payloads
    assert prompts[1] == {"model": MODEL, "queries": FRANCE, "documents": [BRASILIA, PARIS]}
    scores = [entry["score"] for entry in parts[-1][1]["data"]]
    assert scores == [expected_score(BRAZIL, BRASILIA), expected_score(FRANCE, PARIS)]


def test_a_given_model_is_the_one_that_is_asked(serve, capsys):
    server = serve()
    assert main(["--port", str(server.server_port), "--host", "127.0.0.1", "--model", "mine"]) == 0
    assert {payload["model"] for payload in server.payloads} == {"mine"}


def test_the_server_of_the_environment_is_used_unless_one_is_named(serve, monkeypatch, capsys):
    elsewhere, named = serve(), serve()
    monkeypatch.setenv("SCORE_SERVER_URL", elsewhere.url)
    assert main([]) == 0
    assert len(elsewhere.payloads) == 3
    assert main(["--host", "127.0.0.1", "--port", str(named.server_port)]) == 0
    assert (len(elsewhere.payloads), len(named.payloads)) == (3, 3)


def test_an_error_is_a_plain_message_and_status_1(serve, capsys):
    server = serve(answer(404, {"detail": "Not Found"}))
    assert main(["--host", "127.0.0.1", "--port", str(server.server_port)]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Error: ")
    assert "no route /score" in errors


def test_the_command_ends_without_a_traceback_when_no_server_is_there():
    command = [sys.executable, "-m", "helpers", "--host", "127.0.0.1", "--port", "9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "No score server answers at http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_to_launch_on_another_host_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--launch", "--host", "example.org"])
    assert caught.value.code == 2
    assert "leave --host out" in capsys.readouterr().err
