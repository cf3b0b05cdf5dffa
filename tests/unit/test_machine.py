"""What the machine is seen to have."""

import os

from helpers.server import machine as hardware
from helpers.server.machine import Machine, hub_state, look_at_machine, parse_gpus

TWO = """\
0, GPU-aa11, NVIDIA H100 80GB HBM3, 9.0, 81559, 80994
1, GPU-bb22, Tesla T4, 7.5, 15360, 14900
"""


def test_this_machine_is_seen_as_it_is():
    machine = look_at_machine()
    assert machine.system == os.uname().sysname
    assert machine.architecture == os.uname().machine
    assert set(machine.cpus) <= os.sched_getaffinity(0) and machine.cpus
    assert 0 < machine.memory_free <= machine.memory_total
    assert machine.disk_free > 0
    assert machine.cpu_name


def test_the_table_of_the_driver_becomes_gpus_with_bytes():
    first, second = parse_gpus(TWO, None)
    assert (first.name, first.capability) == ("NVIDIA H100 80GB HBM3", (9, 0))
    assert first.memory_total == 81559 * 2**20
    assert second.memory_free == 14900 * 2**20


def test_hidden_gpus_are_not_there():
    assert parse_gpus(TWO, "") == ()
    assert parse_gpus(TWO, "-1") == ()
    assert [gpu.index for gpu in parse_gpus(TWO, "1")] == [1]
    assert [gpu.index for gpu in parse_gpus(TWO, "1,0")] == [1, 0]
    assert [gpu.index for gpu in parse_gpus(TWO, "GPU-bb22")] == [1]
    assert [gpu.index for gpu in parse_gpus(TWO, "0,7,1")] == [0]


def test_a_gpu_that_the_driver_can_not_describe_is_left_out():
    assert parse_gpus("0, GPU-aa, Old Card, [N/A], 2048, [N/A]\n", None) == ()
    assert parse_gpus("No devices were found\n", None) == ()


def test_no_driver_means_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.find_gpus() == ()


def test_x86_and_arm_name_their_features_differently(tmp_path):
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_bf16\n\n")
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert hardware._processor(x86) == ("AMD EPYC", frozenset({"fpu", "avx2", "avx512_bf16"}))
    assert hardware._processor(arm)[1] == frozenset({"fp", "asimd", "bf16"})
    assert hardware._processor(tmp_path / "none") == ("", frozenset())


def test_bfloat16_is_found_by_any_of_its_names():
    def with_flags(*flags):
        return Machine("Linux", "x86_64", "", frozenset(flags), (0,), 1, 1, 1)

    assert all(with_flags(flag).has_bfloat16 for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    assert not with_flags("avx2", "avx512f").has_bfloat16


def test_a_machine_that_may_use_fewer_processors_uses_fewer(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert hardware._usable_cpus() == (0,)


def test_a_share_of_processor_time_limits_the_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {100, 101, 102, 103})
    monkeypatch.setattr(hardware, "_cpu_quota", lambda: 1.5)
    assert hardware._usable_cpus() == (100, 101)


def test_the_limits_of_a_control_group_are_read(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    (tmp_path / "memory.current").write_text(f"{2**19}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {2**18}\n")
    monkeypatch.setattr(hardware, "_cgroup_folders", lambda: [tmp_path])
    assert hardware._cpu_quota() == 2.5
    assert hardware._memory() == (2**20, 2**19 + 2**18)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware._cpu_quota() is None


def test_a_model_in_the_cache_needs_no_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub_state("some/model") == "offline"
    folder = tmp_path / "models--some--model" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert hub_state("some/model") == "offline", "a download that only began is no model"
    (folder / "model.safetensors").write_text("")
    assert hub_state("some/model") == "cached"


def test_the_hub_is_asked_for_the_model(monkeypatch, tmp_path, serve):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub_state("some/model") == "offline"
