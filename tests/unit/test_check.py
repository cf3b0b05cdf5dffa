"""The machine check gives one verdict, and says what to do about everything that is in its way."""

import dataclasses

import pytest

from helpers.server.check import assess
from helpers.server.look import Room, Seen, SetUp
from helpers.server.machine import GIB, Driver, Gpu, Machine
from helpers.server.probe import Engine

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
GPU = Gpu(0, "GPU-aa11", "A GPU", (9, 0), memory_total=80 * GIB, memory_free=79 * GIB)
DRIVER = Driver("580.82.07", (GPU,))
CPU_BUILD = Engine(python="python", version="0.32.0", cpu_build=True, has_command=True, script=None)
GPU_BUILD = dataclasses.replace(CPU_BUILD, cpu_build=False, gpus=(GPU,))
NO_GPU = dataclasses.replace(GPU_BUILD, gpus=(), gpu_fault="The driver is too old (12040)")
ROOMS = (Room("state", 1, 50 * GIB), Room("hub", 1, 50 * GIB))
SEEN = Seen(MACHINE, python=(3, 11, 7), rooms=ROOMS, engine=CPU_BUILD, hub="unknown")
NO_ENGINE = {"engine": None, "engine_problem": "python has no vLLM. Install it."}


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
    check = judged(engine=GPU_BUILD, hub="reachable", driver=DRIVER)
    assert check.ready and check.profile == "GPU"
    assert check.model == "BAAI/bge-reranker-v2-m3"
    assert "downloads the model" in check.expectation
    assert row(check, "GPU").found == "A GPU, 79.0 GiB free of 80.0 GiB"


@pytest.mark.parametrize("hub", ["offline", "unknown"])
def test_a_gpu_without_a_hub_gives_the_offline_reranker_and_says_why(hub):
    check = judged(engine=GPU_BUILD, hub=hub)
    assert check.ready and check.profile == "GPU" and check.model == "offline-reranker"
    assert row(check, "Model hub").state == "warn"
    assert "downloads" not in check.expectation


def test_a_gpu_that_a_cpu_build_leaves_idle_is_pointed_out():
    check = judged(driver=DRIVER)
    assert check.ready and check.profile == "CPU"
    assert row(check, "GPU").state == "warn" and "PROFILE=gpu" in row(check, "GPU").advice


def test_a_gpu_that_tells_no_memory_is_a_gpu():
    shared = dataclasses.replace(GPU, name="NVIDIA GB10", memory_total=None, memory_free=None)
    check = judged(engine=dataclasses.replace(GPU_BUILD, gpus=(shared,)), hub="cached")
    assert check.ready and check.profile == "GPU"
    assert row(check, "GPU").found == "NVIDIA GB10, memory shared with the processor"


def test_several_gpus_are_counted():
    check = judged(engine=dataclasses.replace(GPU_BUILD, gpus=(GPU,) * 8), hub="cached")
    assert row(check, "GPU").found.endswith("and 7 more")


def test_a_gpu_build_without_a_gpu_says_what_cuda_said():
    check = judged(engine=NO_GPU)
    assert [row.name for row in check.to_fix] == ["vLLM"]
    assert "no GPU answers: The driver is too old (12040)" in row(check, "vLLM").found
    assert "PROFILE=cpu" in row(check, "vLLM").advice
    assert "The driver is too old" in row(check, "GPU").found


def test_a_driver_that_is_broken_is_quoted_although_the_cpu_serves():
    check = judged(driver=Driver(fault="nvidia-smi says: Driver/library version mismatch"))
    assert check.ready and row(check, "GPU").state == "warn"
    assert "Driver/library version mismatch" in row(check, "GPU").found
    assert "restart" in row(check, "GPU").advice


OBSTACLE = "it needs compute capability 7.5 (Turing) or newer, and this GPU has 6.0."


def test_a_gpu_that_the_gpu_build_cannot_use_gets_the_cpu_and_the_reason():
    told = {"set_up": SetUp(obstacles=((OBSTACLE, True),)), "driver": DRIVER}
    check = judged(**told)
    assert check.ready and check.profile == "CPU"
    assert OBSTACLE in row(check, "GPU").advice and "PROFILE=gpu" not in row(check, "GPU").advice
    to_build = judged(**NO_ENGINE, **told, can_build_engine=True)
    assert to_build.ready and to_build.profile == "CPU"
    assert "for the CPU" in row(to_build, "vLLM").advice


def test_a_gpu_build_that_would_not_compile_is_not_ready():
    missing = "it compiles when it starts, and there is no C compiler."
    check = judged(engine=GPU_BUILD, set_up=SetUp(obstacles=((missing, True),)), hub="cached")
    assert [row.name for row in check.to_fix] == ["GPU"]
    assert missing in row(check, "GPU").advice


def test_what_the_set_up_would_refuse_is_told_before_it_starts():
    refused = SetUp(refused={"CPU": "Not enough disk space.\nFree 2 GB more."})
    check = judged(**NO_ENGINE, can_build_engine=True, set_up=refused)
    assert [row.name for row in check.to_fix] == ["vLLM"]
    assert row(check, "vLLM").advice == "Not enough disk space. Free 2 GB more."
    check = judged(set_up=refused)
    assert check.ready, "an engine that is there needs no room for another"


def test_a_library_of_the_system_that_the_cpu_build_lacks_is_named():
    check = judged(set_up=SetUp(lacking="It needs libnuma.\nsudo apt install libnuma1"))
    assert [row.name for row in check.to_fix] == ["System libraries"]
    assert "libnuma1" in row(check, "System libraries").advice
    assert judged(engine=GPU_BUILD, hub="cached", set_up=SetUp(lacking="libnuma")).ready


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
        ("Disk", {}, {"rooms": (Room("state", 1, GIB // 2),)}),
        ("Packages", {}, {"packages": (("tqdm>=4.66", "missing"),)}),
        ("vLLM", {}, NO_ENGINE),
        ("vLLM", {}, {"engine": NO_GPU}),
        ("Model", {}, {"asked_model": "someone/model"}),
        ("Model", {}, {"asked_model": "someone/model", "hub": "missing"}),
        ("Model", {}, {"asked_model": "someone/model", "hub": "gated"}),
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
        ("vLLM", {}, {**NO_ENGINE, "can_build_engine": True}),
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


def test_each_disk_is_judged_by_what_goes_there():
    small_home = (Room("state", 1, 2 * GIB), Room("hub", 2, 50 * GIB))
    assert judged(engine=GPU_BUILD, hub="reachable", rooms=small_home).ready
    small_hub = (Room("state", 1, 50 * GIB), Room("hub", 2, 2 * GIB))
    check = judged(engine=GPU_BUILD, hub="reachable", rooms=small_hub)
    assert [row.name for row in check.to_fix] == ["Disk"]
    assert "HF_HOME" in row(check, "Disk").advice
    assert row(check, "Disk").found == "50.0 GiB free and 2.0 GiB free"
    assert judged(engine=GPU_BUILD, hub="cached", rooms=small_hub).ready
    assert judged(rooms=small_hub).ready, "a CPU downloads nothing"
    both = (Room("state", 1, 3 * GIB), Room("hub", 1, 3 * GIB))
    assert not judged(engine=GPU_BUILD, hub="reachable", rooms=both).ready


def test_packages_that_are_too_old_are_named_with_their_versions():
    old = (("ipywidgets>=8.1", "7.7.1"), ("urllib3>=2.2", "missing"))
    check = judged(packages=old)
    assert row(check, "Packages").found == "ipywidgets 7.7.1, urllib3 missing"
    assert '%pip install "ipywidgets>=8.1" "urllib3>=2.2"' in row(check, "Packages").advice


def test_without_the_packages_of_the_table_the_text_is_shown(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    check = judged(packages=(("pandas>=2.1", "missing"),))
    assert check._repr_html_() is None and "pandas missing" in repr(check)


def test_the_table_starts_with_the_verdict_and_escapes_what_it_shows():
    check = judged(machine={"cpu_name": "A <b>fast</b> & small one"})
    page = check._repr_html_()
    assert page.index(check.verdict) < page.index("<table")
    assert "A &lt;b&gt;fast&lt;/b&gt; &amp; small one" in page
    assert repr(check).startswith(check.verdict)
