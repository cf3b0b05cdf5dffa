"""What the machine is seen to have."""

import os
import resource
import time

import pytest

from helpers.server import machine as hardware
from helpers.server.machine import GIB, Driver, Gpu, Machine, ask, look_at_machine, read_driver

TWO = """\
580.82.07, 0, GPU-aa11, 9.0, 81559, 80994, NVIDIA H100 80GB HBM3
580.82.07, 1, GPU-bb22, 7.5, 15360, 14900, Tesla T4
"""
MISMATCH = """\
Failed to initialize NVML: Driver/library version mismatch
NVML library version: 580.82
"""


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """Give a function that puts an nvidia-smi of a few shell lines first in the PATH."""

    def make(lines):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return make


def test_this_machine_is_seen_as_it_is():
    machine = look_at_machine()
    assert machine.system == os.uname().sysname
    assert machine.architecture == os.uname().machine
    assert set(machine.cpus) <= os.sched_getaffinity(0) and machine.cpus
    assert 0 < machine.memory_free <= machine.memory_total
    assert machine.disk_free > 0
    assert machine.cpu_name and machine.gpu is None


def test_the_table_of_the_driver_becomes_gpus_with_bytes(nvidia_smi):
    nvidia_smi(f"cat <<'END'\n{TWO}END")
    driver = hardware.ask_driver()
    first, second = driver.gpus
    assert (driver.version, driver.fault) == ("580.82.07", "")
    assert (first.name, first.capability) == ("NVIDIA H100 80GB HBM3", (9, 0))
    assert first.memory_total == 81559 * 2**20
    assert second.memory_free == 14900 * 2**20


@pytest.mark.parametrize("unknown", ["[N/A]", "[Insufficient Permissions]", "[Unknown Error]"])
def test_a_gpu_whose_memory_is_not_told_is_still_a_gpu(unknown):
    driver = read_driver(f"580.95.05, 0, GPU-cc33, 12.1, {unknown}, {unknown}, NVIDIA GB10")
    assert driver.gpus == (Gpu(0, "GPU-cc33", "NVIDIA GB10", (12, 1), None, None),)


def test_a_comma_in_the_name_and_an_old_driver_that_knows_no_capability_are_read():
    driver = read_driver("390.157, 0, GPU-dd44, [N/A], 2048, 2000, Quadro K620, rev. 2")
    (gpu,) = driver.gpus
    assert gpu.name == "Quadro K620, rev. 2" and gpu.capability == (0, 0)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (f"printf '{MISMATCH}'; exit 18", "Driver/library version mismatch"),
        ("echo 'Insufficient Permissions' >&2; exit 4", "Insufficient Permissions"),
        ("echo 'No devices were found'; exit 6", "No devices were found"),
        ("exit 9", "says: nothing"),
        ("printf '580.1, 0, GPU-1, 7.5'; exit 0", "says: 580.1"),
    ],
)
def test_a_driver_that_names_no_gpu_is_quoted(nvidia_smi, lines, reason):
    nvidia_smi(lines)
    driver = hardware.ask_driver()
    assert driver.gpus == () and reason in driver.fault


def test_a_name_that_is_no_utf8_is_read(nvidia_smi):
    nvidia_smi(r"printf '580.1, 0, GPU-1, 7.5, 15360, 14900, T4 \377\n'")
    assert hardware.ask_driver().gpus[0].name == "T4 \ufffd"


def test_a_driver_that_hangs_is_given_up(nvidia_smi, monkeypatch):
    monkeypatch.setattr(hardware, "_DRIVER_SECONDS", 0.2)
    nvidia_smi("sleep 60")
    assert "did not answer within" in hardware.ask_driver().fault


def test_no_driver_is_no_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hardware, "_DRIVER_PLACES", ())
    assert hardware.ask_driver() == Driver()


def test_a_command_is_not_waited_for_beyond_its_time_and_its_children_end_with_it(tmp_path):
    mark = tmp_path / "mark"
    began = time.monotonic()
    command = f"echo early; (sleep 3; touch {mark}) & wait"
    answer = ask(["sh", "-c", command], 0.3)
    assert (answer.code, answer.output) == (None, "early\n")
    assert time.monotonic() - began < 2
    time.sleep(max(0, 3.5 - (time.monotonic() - began)))
    assert not mark.exists()


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


def test_whole_numbers_of_8_bits_are_found_by_any_of_their_names():
    def with_flags(*flags):
        return Machine("Linux", "x86_64", "", frozenset(flags), (0,), 1, 1, 1)

    assert all(with_flags(flag).has_int8 for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
    assert not with_flags("avx2", "avx512f", "avx512_bf16").has_int8


def test_the_limit_of_a_shell_is_the_memory_there_is(monkeypatch):
    def limit(kind):
        few = kind == resource.RLIMIT_AS
        return (GIB, GIB) if few else (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    monkeypatch.setattr(resource, "getrlimit", limit)
    machine = look_at_machine()
    assert machine.memory_total == GIB and machine.memory_free <= GIB


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_that_of_its_parent(tmp_path):
    assert hardware.disk_free(tmp_path / "a" / "b") == pytest.approx(
        hardware.disk_free(tmp_path), rel=0.1
    )
