"""The machine check gives one verdict, and says what to do about everything that is in its way."""

import dataclasses
import re
import socket
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from helpers.server import check as machine_check
from helpers.server.check import Seen, assess, check_machine
from helpers.server.command import Engine
from helpers.server.machine import GIB, Gpu, Machine

MACHINE = Machine(
    system="Linux",
    architecture="x86_64",
    cpu_name="A Processor",
    cpu_flags=frozenset({"avx2", "avx512_bf16"}),
    cpus=(0, 1),
    memory_total=16 * GIB,
    memory_free=12 * GIB,
    disk_free=50 * GIB,
)
GPU = Gpu(index=0, name="A GPU", capability=(9, 0), memory_total=80 * GIB, memory_free=79 * GIB)
CPU_BUILD = Engine(python="python", version="0.32.0", cpu_build=True, has_command=True, script=None)
GPU_BUILD = dataclasses.replace(CPU_BUILD, cpu_build=False)
SEEN = Seen(MACHINE, python=(3, 11, 7), engine=CPU_BUILD, hub="offline")


def judged(seen=SEEN, machine=None, **changes):
    changed = dataclasses.replace(MACHINE, **(machine or {}))
    return assess(dataclasses.replace(seen, machine=changed, **changes))


def row(check, name):
    return next(row for row in check.rows if row.name == name)


def test_a_usual_machine_without_gpu_and_hub_is_ready_with_the_offline_reranker():
    check = judged()
    assert check.ready and check.profile == "CPU" and check.model == "offline-reranker"
    assert check.verdict == "Ready: offline-reranker will score on the CPU of this machine."
    assert all(row.state == "ok" for row in check.rows)
    assert "500 pairs of 20 tokens" in check.expectation


def test_a_gpu_and_a_hub_give_the_large_model():
    check = judged(machine={"gpus": (GPU,)}, engine=GPU_BUILD, hub="reachable")
    assert check.ready and check.profile == "GPU"
    assert check.model == "BAAI/bge-reranker-v2-m3"
    assert "downloads the model" in check.expectation


def test_a_gpu_without_a_hub_gives_the_offline_reranker_and_says_why():
    check = judged(machine={"gpus": (GPU,)}, engine=GPU_BUILD)
    assert check.ready and check.profile == "GPU" and check.model == "offline-reranker"
    assert row(check, "Model hub").state == "warn"
    assert "downloads" not in check.expectation


def test_a_gpu_that_a_cpu_build_leaves_idle_is_pointed_out():
    check = judged(machine={"gpus": (GPU,)})
    assert check.ready and check.profile == "CPU"
    assert row(check, "GPU").state == "warn" and "PROFILE=gpu" in row(check, "GPU").advice


def test_without_bfloat16_less_speed_is_promised():
    check = judged(machine={"cpu_flags": frozenset({"avx2"})})
    assert check.ready and row(check, "Processor").state == "warn"
    assert "200 pairs" in check.expectation and "float32" in check.expectation


@pytest.mark.parametrize(
    ("name", "machine", "changes"),
    [
        ("Python", {}, {"python": (3, 10, 2)}),
        ("System", {"system": "Darwin", "architecture": "arm64"}, {}),
        ("Processor", {"cpu_flags": frozenset()}, {}),
        ("Memory", {"memory_free": GIB}, {}),
        ("Disk", {"disk_free": GIB // 2}, {}),
        ("Packages", {}, {"missing_packages": ("tqdm",)}),
        ("vLLM", {}, {"engine": None, "engine_problem": "python has no vLLM. Install it."}),
        ("vLLM", {}, {"engine": GPU_BUILD}),
        ("Model", {}, {"asked_model": "someone/model"}),
        ("Model", {}, {"asked_model": "someone/model", "hub": "missing"}),
        ("Model", {}, {"asked_model": "/no/such/folder", "hub": ""}),
    ],
)
def test_what_stands_in_the_way_is_named_with_what_to_do(name, machine, changes):
    check = judged(machine=machine, **changes)
    assert not check.ready
    assert [row.name for row in check.to_fix] == [name]
    assert check.verdict == f"Not ready yet. To fix: {name}."
    assert row(check, name).advice


@pytest.mark.parametrize(
    ("name", "machine", "changes"),
    [
        ("Memory", {"memory_free": 2 * GIB}, {}),
        ("Processor", {"cpus": (0,)}, {}),
        ("vLLM", {}, {"engine": dataclasses.replace(CPU_BUILD, version="0.20.1")}),
        ("vLLM", {}, {"engine": dataclasses.replace(CPU_BUILD, version="unknown")}),
    ],
)
def test_a_drawback_is_noted_and_does_not_stand_in_the_way(name, machine, changes):
    check = judged(machine=machine, **changes)
    assert check.ready
    assert [row.name for row in check.rows if row.state == "warn"] == [name]


def test_the_memory_of_a_server_that_runs_is_not_asked_for_again():
    running = (("offline-reranker", "http://127.0.0.1:8000"),)
    check = judged(machine={"memory_free": GIB}, servers=running)
    assert check.ready
    assert "offline-reranker at http://127.0.0.1:8000" in row(check, "Score server").found


def test_a_model_folder_that_was_asked_for_is_taken(tmp_path):
    check = judged(asked_model=str(tmp_path))
    assert check.ready and check.model == str(tmp_path)
    assert "not measured" in check.expectation


def test_a_remote_server_makes_any_machine_ready():
    seen = Seen(
        dataclasses.replace(MACHINE, system="Windows", memory_free=GIB),
        python=(3, 12, 0),
        remote_url="https://scores.example.org",
        remote_models=("a-reranker",),
    )
    check = assess(seen)
    assert check.ready and check.profile == "remote" and check.model == "a-reranker"
    assert "SCORE_SERVER_URL" in check.verdict


def test_a_remote_server_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("SCORE_SERVER_URL", f"http://me:secret@127.0.0.1:{port}")
    check = check_machine()
    assert [row.name for row in check.to_fix] == ["Score server"]
    assert "SCORE_SERVER_URL" in row(check, "Score server").advice
    assert "secret" not in repr(check) + check._repr_html_()


def test_the_real_machine_is_checked_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SCORE_SERVER_PYTHON", str(tmp_path / "no-python"))
    check = check_machine()
    assert "vLLM" in [row.name for row in check.to_fix]
    assert ".".join(map(str, sys.version_info[:3])) == row(check, "Python").found
    assert "none runs yet" in row(check, "Score server").found


def test_a_hub_that_hangs_counts_as_offline(monkeypatch):
    release = threading.Event()
    # A resolver that hangs can not be made here, so the look-up is replaced by one that waits.
    monkeypatch.setattr(machine_check, "hub_state", lambda model: release.wait(60) and "reachable")
    assert machine_check.hub_state_within("a/model", 0.05) == "offline"
    release.set()


def test_the_packages_that_are_looked_for_are_those_of_pyproject():
    text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8")
    stated = tomllib.loads(text)["project"]["dependencies"]
    names = {re.match(r"[\w-]+", requirement).group() for requirement in stated}
    assert set(machine_check.PACKAGES) == names


def test_a_missing_package_is_noticed(monkeypatch):
    monkeypatch.setattr(machine_check, "PACKAGES", ("requests", "no-such-package"))
    assert list(machine_check.missing_packages()) == ["no-such-package"]


def test_the_table_starts_with_the_verdict_and_escapes_what_it_shows():
    check = judged(machine={"cpu_name": "A <b>fast</b> & small one"})
    page = check._repr_html_()
    assert page.index(check.verdict) < page.index("<table>")
    assert "A &lt;b&gt;fast&lt;/b&gt; &amp; small one" in page
    assert repr(check).startswith(check.verdict)
