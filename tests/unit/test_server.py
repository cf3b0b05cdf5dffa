"""The server object before anything is started."""

import subprocess
import sys

import pytest

from helpers.errors import InputError, ScoreError
from helpers.server.server import ScoreServer, _environment_of


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))


def key(**options):
    return ScoreServer("/models/m", **options)._plan.key


def test_what_is_asked_for_decides_which_server_it_is():
    assert key() == key()
    assert key() == key(port=9000, start_timeout=5), "neither a port nor patience is a server"
    others = [
        key(threads=1),
        key(dtype="float32"),
        key(max_model_len=128),
        key(api_key="a"),
        key(api_key="b"),
        key(env={"A": "1"}),
        key(vllm_flags={"max-num-seqs": 8}),
        ScoreServer("/models/n")._plan.key,
    ]
    assert len({key(), *others}) == len(others) + 1


def test_flags_may_be_spelled_in_both_ways():
    assert key(vllm_flags={"max_num_seqs": 8}) == key(vllm_flags={"--max-num-seqs": 8})


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"port": -1},
        {"threads": 0},
        {"gpu_memory_utilization": 1.5},
        {"gpu_memory_utilization": 0},
        {"start_timeout": 0},
        {"stall_timeout": -1},
        {"vllm_flags": {"port": 1}},
    ],
)
def test_impossible_arguments_are_refused_at_once(wrong):
    with pytest.raises(InputError):
        ScoreServer(**wrong)


def test_a_server_that_is_not_started_says_so():
    server = ScoreServer("/models/m")
    assert (server.pid, server.log_path, server.log_tail()) == (None, None, "")
    assert not server.running and not server.adopted and not server.remote
    assert "not started" in repr(server) and "not started" in server._repr_html_()
    with pytest.raises(ScoreError, match="not started"):
        _ = server.url


def test_the_command_can_be_seen_before_the_start():
    server = ScoreServer("/models/m", threads=1, max_model_len=64)
    assert "serve /models/m --host 127.0.0.1 --port 8000" in server.command
    assert "--max-model-len 64" in server.command
    assert server.model == "/models/m"


def test_the_environment_names_the_model_and_an_argument_wins(monkeypatch):
    monkeypatch.setenv("SCORE_MODEL", "some/model")
    assert ScoreServer().model == "some/model"
    assert "SCORE_MODEL" in ScoreServer().choices.model.reason
    assert ScoreServer("other/model").model == "other/model"


def test_a_name_given_by_a_flag_is_the_name_served():
    server = ScoreServer("/models/m", vllm_flags={"served-model-name": "judge"})
    assert server.model == "judge"
    assert server.command.count("--served-model-name") == 1


def test_stopping_what_never_ran_is_harmless():
    ScoreServer("/models/m").stop()


def test_a_remote_server_is_neither_started_nor_stopped(monkeypatch):
    monkeypatch.setenv("SCORE_SERVER_URL", "http://127.0.0.1:9")
    server = ScoreServer()
    assert server.remote and server.url == "http://127.0.0.1:9"
    assert (server.pid, server.command, server.log_path) == (None, "", None)
    assert not server.running
    server.stop()


def test_neither_vllm_nor_torch_is_imported():
    code = (
        "import sys, helpers.server.server, helpers.__main__\n"
        "print([n for n in ('vllm', 'torch', 'transformers', 'sentence_transformers') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_and_python3_of_one_environment_count_as_one_interpreter(tmp_path):
    base = tmp_path / "python3.11"
    base.touch(mode=0o755)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "python").symlink_to(base)
        (tmp_path / name / "python3").symlink_to("python")
    one = [_environment_of(str(tmp_path / "one" / name)) for name in ("python", "python3")]
    assert one[0] == one[1]
    assert one[0] != _environment_of(str(tmp_path / "two" / "python"))


def test_requests_by_hand_get_the_key_that_the_server_wants(monkeypatch):
    assert ScoreServer("/models/m").headers == {}
    assert ScoreServer("/models/m", api_key="k").headers == {"Authorization": "Bearer k"}
    monkeypatch.setenv("SCORE_SERVER_URL", "https://scores.example.com")
    monkeypatch.setenv("SCORE_API_KEY", "theirs")
    assert ScoreServer().headers == {"Authorization": "Bearer theirs"}
