"""The errors: one root, standard kinds beside it, messages that travel."""

from __future__ import annotations

import inspect
import linecache
import pickle
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from helpers import errors
from helpers.errors import ApiError, LaunchError, ScoreError, api_error_type

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_the_one_root(kind):
    assert issubclass(kind, ScoreError)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("InputError", ValueError),
        ("UnreachableError", ConnectionError),
        ("RequestTimeoutError", TimeoutError),
        ("OutOfMemoryError", MemoryError),
        ("LaunchTimeoutError", TimeoutError),
    ],
)
def test_code_that_knows_only_the_standard_errors_catches_ours(name, standard):
    with pytest.raises(standard, match="what happened"):
        raise getattr(errors, name)("what happened")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_from_another_process(kind):
    details = {}
    if issubclass(kind, ApiError):
        details = {"status": 418, "body": {"error": "teapot"}, "url": "http://127.0.0.1:1/score"}
    if issubclass(kind, LaunchError):
        details = {"command": "vllm serve", "log_path": Path("a.log"), "log_tail": "last line"}
    error = kind("what happened", **details).at_rows(range(2, 5))

    back = pickle.loads(pickle.dumps(error))

    assert type(back) is kind
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_a_launch_error_shows_the_tail_of_the_log_and_where_the_rest_is():
    error = LaunchError("The server died.", log_path=Path("logs/a.log"), log_tail="boom\n")
    assert str(error).splitlines()[0] == "The server died."
    assert "boom" in str(error)
    assert str(Path("logs/a.log")) in str(error)


def test_a_launch_error_without_a_log_says_only_what_happened():
    assert str(LaunchError("No such interpreter.")) == "No such interpreter."


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (422, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "AuthenticationError"),
        (404, "NotFoundError"),
        (429, "ServerBusyError"),
        (503, "ServerBusyError"),
        (500, "ServerFaultError"),
        (502, "ServerFaultError"),
        (418, "ApiError"),
        (307, "ApiError"),
    ],
)
def test_a_status_has_its_kind_of_error(status, name):
    assert api_error_type(status).__name__ == name


@pytest.mark.parametrize(
    ("rows", "start"), [(range(32, 64), "Rows 32 to 63: "), (range(3, 4), "Row 3: ")]
)
def test_an_error_of_a_batch_names_its_rows(rows, start):
    error = errors.UnreachableError("No server.")
    told = errors.UnreachableError("No server.").at_rows(rows, "Start one.")
    assert str(told) == f"{start}No server. Start one."
    assert error.rows is None
    assert str(error.at_rows(rows)) == f"{start}No server."
    assert error.rows == rows


def test_a_notebook_shows_the_own_lines_and_the_message_without_the_inner_ones(capsys):
    shell = InteractiveShell.instance()
    try:
        shell.run_cell(
            "from helpers import ScoreClient\nclient = ScoreClient('http://127.0.0.1:9')"
        )
        shell.run_cell("def ask():\n    return client.score(['a', 'b'], ['c'])\n\nask()")
    finally:
        InteractiveShell.clear_instance()
    shown = capsys.readouterr().out
    assert shown.count("Cell") == 2
    assert "2 queries and 1 document cannot be paired" in shown
    assert "client.py" not in shown and "inputs.py" not in shown


def test_lines_of_a_file_whose_path_only_begins_like_the_package_are_shown(capsys):
    source = "def ask(client):\n    return client.score([], [])\n"
    name = f"{Path(errors.__file__).parent}_of_mine.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space = {}
    exec(compile(source, name, "exec"), space)
    shell = InteractiveShell.instance()
    try:
        shell.push({"ask": space["ask"]})
        shell.run_cell("from helpers import ScoreClient\nask(ScoreClient('http://127.0.0.1:9'))")
    finally:
        InteractiveShell.clear_instance()
    assert "helpers_of_mine.py" in capsys.readouterr().out
