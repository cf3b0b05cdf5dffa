"""The server object before anything is started."""

import dataclasses
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from machines import CPU_BF16, CPU_ENGINE, LAPTOP, engine

import helpers.server.server as module
from helpers.errors import EngineMissingError, InputError, ScoreError
from helpers.server import asked, plan, processes, records
from helpers.server.asked import _environment_of
from helpers.server.machine import Driver
from helpers.server.plan import decide
from helpers.server.records import Record
from helpers.server.server import ScoreServer


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    monkeypatch.setenv("SCORE_STATE_DIR", str(folder))
    return folder


@pytest.fixture
def no_processes(monkeypatch):
    """Nothing may be run or asked."""

    def forbidden(*_, **__):
        raise AssertionError("a process was started, or the network was asked")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)


def key(**options):
    return ScoreServer("/models/m", **options)._asked.key


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
        key(python="/other/python"),
        ScoreServer("/models/n")._asked.key,
        ScoreServer()._asked.key,
    ]
    assert len({key(), *others}) == len(others) + 1


def test_a_server_for_another_gpu_is_another_server(monkeypatch):
    keys = {key(), key(env={"CUDA_VISIBLE_DEVICES": "1"})}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len({*keys, key()}) == 2, "in either way it is the same GPU"


def test_another_offline_reranker_is_another_model(monkeypatch, tmp_path):
    def both():
        return {ScoreServer()._asked.key, ScoreServer("offline-reranker")._asked.key}

    before = both()
    monkeypatch.setattr(asked, "offline_model_folder", lambda: tmp_path / "retrained")
    assert not before & both()


def test_another_precision_is_another_server_with_a_name_and_a_folder_of_its_own():
    names = {}
    for precision in (None, "float32", "int8"):
        server = ScoreServer("offline-reranker", precision=precision)
        names[server.model] = server._asked.key
    assert set(names) == {"offline-reranker", "offline-reranker-int8"}
    assert ScoreServer(precision="int8")._asked.key == names["offline-reranker-int8"]
    assert "-int8-" in ScoreServer(precision="int8")._asked.given


def test_a_precision_of_another_model_is_refused_and_so_is_one_that_nobody_knows(monkeypatch):
    with pytest.raises(InputError, match="'BAAI/x'"):
        ScoreServer("BAAI/x", precision="int8")
    with pytest.raises(InputError, match="float32, int8"):
        ScoreServer(precision="int4")
    monkeypatch.setenv("SCORE_MODEL", "BAAI/y")
    with pytest.raises(InputError, match="SCORE_MODEL asked for 'BAAI/y'"):
        ScoreServer(precision="int8")


def test_numbers_of_numpy_ask_for_the_same():
    plain = key(threads=2, max_model_len=64, gpu_memory_utilization=0.5, enforce_eager=True)
    assert plain == key(
        threads=np.int64(2),
        max_model_len=np.int32(64),
        gpu_memory_utilization=np.float64(0.5),
        enforce_eager=np.bool_(True),
        port=np.int64(9000),
        start_timeout=np.float32(5),
    )
    assert key(env={"A": 1}) == key(env={"A": "1"})


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
        {"start_timeout": float("nan")},
        {"port": "8000"},
        {"max_model_len": 0},
        {"api_key": "two\nlines"},
        {"vllm_flags": {"port": 1}},
    ],
)
def test_impossible_arguments_are_refused_at_once(wrong):
    with pytest.raises(InputError):
        ScoreServer(**wrong)


def test_a_server_that_is_not_started_says_so(no_processes):
    server = ScoreServer("/models/m")
    assert (server.pid, server.log_path, server.log_tail()) == (None, None, "")
    assert not server.running and not server.adopted and not server.remote
    assert "not started" in repr(server) and "not started" in server._repr_html_()
    with pytest.raises(ScoreError, match="not started"):
        _ = server.url


def test_the_command_can_be_seen_before_the_start():
    server = ScoreServer("/models/m", threads=1, max_model_len=64)
    command = " ".join(server.command.split(" \\\n  "))
    assert "serve /models/m" in command
    assert "--host 127.0.0.1 --port 8000" in command and "--max-model-len 64" in command
    assert "PYTHONPATH" not in command and "quick_start" not in command
    assert server.model == "/models/m"


def test_looking_before_the_start_writes_nothing(state):
    for server in (ScoreServer(), ScoreServer("offline-reranker"), ScoreServer("/models/m")):
        assert server.choices.rows() and server.command and server.model
    ScoreServer().stop()
    assert not state.exists()


def test_what_would_be_launched_can_be_seen_where_the_start_builds_the_engine(monkeypatch):
    def missing(*_, **__):
        raise EngineMissingError("The interpreter has no vLLM.")

    monkeypatch.setattr(plan, "find_engine", missing)
    monkeypatch.setattr(plan, "can_build_engine", lambda: True)
    monkeypatch.setattr(plan, "ask_driver", Driver)
    monkeypatch.setenv("PATH", os.defpath)  # no `vllm` of a terminal's own
    server = ScoreServer()
    assert "first builds that vLLM" in server.choices.device.reason
    assert "offline reranker" in server.choices._repr_html_()
    assert ".venv/bin/vllm serve" in server.command
    assert server.model == "offline-reranker"
    with pytest.raises(EngineMissingError):
        _ = ScoreServer(python=sys.executable).choices


def test_the_environment_names_the_model_and_an_argument_wins(monkeypatch):
    monkeypatch.setenv("SCORE_MODEL", " some/model\n")
    assert ScoreServer().model == "some/model"
    assert "SCORE_MODEL" in ScoreServer().choices.model.reason
    assert ScoreServer("other/model").model == "other/model"
    assert ScoreServer()._asked.key == ScoreServer("some/model")._asked.key


def test_a_name_given_by_a_flag_is_the_name_served():
    server = ScoreServer("/models/m", vllm_flags={"served-model-name": "judge"})
    assert server.model == "judge"
    assert server.command.count("--served-model-name") == 1
    several = ScoreServer("/models/m", vllm_flags={"served-model-name": ["judge", "m"]})
    assert several.model == "judge"
    assert "--served-model-name judge m" in several.command


def test_stopping_what_never_ran_is_harmless(no_processes):
    ScoreServer("/models/m").stop()


# What is known of a server that runs, from its record.


def recorded(server, made, **details):
    """Write the record of a living server: this very process, which listens to nothing."""
    record = Record(
        key=server._asked.key,
        pid=os.getpid(),
        started=processes.start_ticks(os.getpid()),
        port=8123,
        model=made.served_name,
        command="vllm serve it",
        log_path="/no/log",
        ready=True,
        choices=dataclasses.asdict(made.choices),
        **details,
    )
    records.save(record)
    return record


@pytest.fixture
def small_gpu(monkeypatch):
    """A laptop's GPU of 6 GiB, whose free memory a test can set."""
    gpus = [LAPTOP]
    monkeypatch.setattr(plan, "find_engine", lambda *_, **__: engine(*gpus))
    monkeypatch.setattr(plan, "hub_state", lambda *_, **__: "cached")
    return gpus


def test_a_running_server_does_not_change_what_the_next_notebook_gets(small_gpu):
    first = ScoreServer()
    made = first._plan()
    assert made.model == plan.HUB_MODEL
    recorded(first, made)
    # It has taken its memory: planned now, it would be another model.
    small_gpu[:] = [dataclasses.replace(LAPTOP, memory_free=LAPTOP.memory_free // 2)]
    second = ScoreServer()
    assert second._plan().served_name == "offline-reranker"
    assert second._asked.key == first._asked.key
    assert second.model == plan.HUB_MODEL
    assert second.choices == made.choices and second.command == "vllm serve it"


def test_a_living_server_is_looked_for_before_anything_is_planned(monkeypatch, capsys):
    def forbidden(*_, **__):
        raise AssertionError("planned, although a server runs")

    made = decide(ScoreServer()._asked, CPU_BF16, CPU_ENGINE)
    record = recorded(ScoreServer(), made)
    monkeypatch.setattr(module, "make_plan", forbidden)
    monkeypatch.setattr(module, "prepare_engine", forbidden)
    monkeypatch.setattr(module.launch, "answers", lambda *_: True)
    server = ScoreServer().start()
    assert server.adopted and (server.pid, server.url) == (record.pid, record.url)
    assert capsys.readouterr().out == f"Already running: offline-reranker at {record.url}\n"


@pytest.mark.parametrize("change", [{"boot": "earlier"}, {"place": "node7 pid:[1] 0"}])
def test_a_record_of_another_place_or_time_is_not_known(change):
    server = ScoreServer()
    recorded(server, decide(server._asked, CPU_BF16, CPU_ENGINE), **change)
    assert server._known() is None


# A server that somebody else runs.


@pytest.mark.parametrize(
    "address", ["{0}", "{0}/", "{0}/v1", "{0}/v1/", " {0} \n", "{0}/score", "{0}/v1/rerank"]
)
def test_an_address_is_cleaned_where_it_comes_in(monkeypatch, serve, address):
    theirs = serve()
    monkeypatch.setenv("SCORE_SERVER_URL", address.format(theirs.url))
    server = ScoreServer().start()
    assert server.url == theirs.url
    monkeypatch.setenv("SCORE_SERVER_URL", theirs.url.removeprefix("http://"))
    assert ScoreServer().url == theirs.url
    monkeypatch.setenv("SCORE_SERVER_URL", " ")
    assert not ScoreServer().remote


def test_an_address_that_is_none_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("SCORE_SERVER_URL", "ftp://somewhere")
    with pytest.raises(InputError, match="ftp"):
        ScoreServer()


def test_the_name_of_the_offline_reranker_gives_way_to_what_the_server_there_has(
    monkeypatch, serve, capsys
):
    theirs = serve()
    monkeypatch.setenv("SCORE_SERVER_URL", theirs.url)
    with ScoreServer("offline-reranker") as server:
        assert server.model == "played-model"
        with server.client() as client:
            assert client.score("a", "b").model == "played-model"
    assert "serves played-model, not offline-reranker" in capsys.readouterr().out
    assert ScoreServer().start().model == "played-model"


def test_nothing_is_chosen_for_a_server_of_somebody_else(monkeypatch, no_processes):
    monkeypatch.setenv("SCORE_SERVER_URL", "http://127.0.0.1:9")
    server = ScoreServer()
    assert [name for name, _, _ in server.choices.rows()] == ["device"]
    assert (server.command, server.pid, server.url) == ("", None, "http://127.0.0.1:9")
    with pytest.raises(ScoreError, match="not started"):
        _ = server.model


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
    for given in ("k", "k\n", " k"):
        assert ScoreServer("/models/m", api_key=given).headers == {"Authorization": "Bearer k"}
        assert key(api_key=given) == key(api_key="k")
    monkeypatch.setenv("SCORE_SERVER_URL", "https://scores.example.com")
    monkeypatch.setenv("SCORE_API_KEY", "theirs\n")
    assert ScoreServer().headers == {"Authorization": "Bearer theirs"}


def test_a_key_in_vllms_own_variable_is_the_servers_unless_it_is_taken_away(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "inherited")
    assert ScoreServer("/m").headers == {"Authorization": "Bearer inherited"}
    assert ScoreServer("/m", env={"VLLM_API_KEY": None}).headers == {}
    assert ScoreServer("/m", env={"VLLM_API_KEY": "b"}).headers == {"Authorization": "Bearer b"}
    assert ScoreServer("/m", api_key="c").headers == {"Authorization": "Bearer c"}


def test_a_key_is_shown_nowhere():
    server = ScoreServer("/models/m", api_key="unmistakable")
    for shown in (repr(server), repr(server._asked), server.command, server._asked.key):
        assert "unmistakable" not in shown


def test_an_interpreter_may_be_named_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my python").symlink_to(sys.executable)
    assert ScoreServer(python="~/my python")._asked.interpreter == str(tmp_path / "my python")
    monkeypatch.setenv("SCORE_SERVER_PYTHON", "~/my python")
    assert ScoreServer()._asked.interpreter == str(tmp_path / "my python")


def test_a_path_stays_a_path_for_the_messages_about_it(tmp_path):
    assert ScoreServer(tmp_path / "mistyped")._asked.given == str(tmp_path / "mistyped")
    assert ScoreServer(tmp_path / "mistyped")._asked.model == tmp_path / "mistyped"
