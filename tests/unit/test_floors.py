"""What the set-up asks of a machine: its floors, and the recorded answers of many machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_setup import CAPABLE

import floors


def test_what_is_needed_only_on_x86_is_not_asked_elsewhere() -> None:
    bare = CAPABLE._replace(cpu_flags=frozenset({"sse"}))
    with pytest.raises(floors.Refusal, match="AVX2"):
        floors.check_cpu(bare)
    floors.check_platform(bare._replace(architecture="aarch64"))
    floors.check_cpu(bare._replace(architecture="aarch64"))


def test_what_a_system_does_not_say_is_not_held_against_it() -> None:
    silent = CAPABLE._replace(cpu_flags=None, free_memory=None)
    floors.check_cpu(silent)
    floors.check_room(silent, "cpu")


def test_an_earlier_environment_counts_as_free_disk() -> None:
    full = CAPABLE._replace(free_disk=4_000_000_000)
    floors.check_room(full, "cpu", already_there=3_000_000_000)


def test_this_very_machine_is_described_truly() -> None:
    machine = floors.this_machine()
    floors.check_platform(machine)
    assert 0 < machine.free_memory < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_the_flags_of_a_processor_are_read_where_it_names_them() -> None:
    assert floors.cpu_flags("vendor_id: x\nflags\t\t: fpu avx2\nflags: x\n") == {"fpu", "avx2"}
    assert floors.cpu_flags("Features\t: fp asimd\n") is None
    assert floors.cpu_flags("") is None


# Memory, and what containers and old kernels leave out.

MEMINFO = "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n"
AVAILABLE = 8_000_000 * 1024


@pytest.mark.parametrize(
    ("meminfo", "cgroup", "free"),
    [
        (MEMINFO, {}, AVAILABLE),
        (MEMINFO, {"memory.max": "max\n"}, AVAILABLE),
        (
            MEMINFO,
            {
                "memory.max": "3000000000\n",
                "memory.current": "1500000000\n",
                "memory.stat": "anon 900000000\ninactive_file 500000000\n",
            },
            2_000_000_000,
        ),
        (
            MEMINFO,
            {
                "memory.max": "3000000000\n",
                "memory.current": "1500000000\n",
                "memory.stat": "anon 900000000\n",
            },
            1_500_000_000,
        ),
        (MEMINFO, {"memory.max": "3000000000\n", "memory.current": "1\n"}, 2_999_999_999),
        (MEMINFO, {"memory.max": "3000000000\n"}, 3_000_000_000),
        (
            MEMINFO,
            {
                "memory/memory.limit_in_bytes": "4000000000\n",
                "memory/memory.usage_in_bytes": "2000000000\n",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 1000000000\n",
            },
            3_000_000_000,
        ),
        (MEMINFO, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, AVAILABLE),
        ("MemTotal: 9000000 kB\n", {}, None),
        (None, {"memory.max": "3000000000\n", "memory.current": "0\n"}, 3_000_000_000),
        (None, {}, None),
    ],
)
def test_free_memory_is_what_the_machine_and_its_container_leave(
    meminfo: str | None, cgroup: dict[str, str], free: int | None, tmp_path: Path
) -> None:
    if meminfo is not None:
        (tmp_path / "meminfo").write_text(meminfo)
    for name, text in cgroup.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    assert floors.free_memory(tmp_path / "meminfo", tmp_path / "cgroup") == free


# What nvidia-smi answers to the query for driver and compute capability.

Answer = floors.Driver


@pytest.mark.parametrize(
    ("script", "driver"),
    [
        ("echo '580.82.07, 7.5'", Answer((580, 82, 7), ((7, 5),), "")),
        (
            "echo '580.82.07, 7.5'; echo '580.82.07, 8.0'",
            Answer((580, 82, 7), ((7, 5), (8, 0)), ""),
        ),
        ("echo '580.95.05, 12.1'", Answer((580, 95, 5), ((12, 1),), "")),
        ("echo '470.57.02, [N/A]'", Answer((470, 57, 2), (None,), "")),
        (
            "printf '580.82.07, 9.0\\n\\377\\376, 8.0\\n'",
            Answer((580, 82, 7), ((9, 0), (8, 0)), ""),
        ),
        ("exit 9", Answer(None, (), "nvidia-smi says: nothing")),
        (
            "echo 'No devices were found'",
            Answer(None, (), "nvidia-smi says: No devices were found"),
        ),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            Answer(
                None,
                (),
                "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch",
            ),
        ),
        (
            "echo 'Field \"compute_cap\" is not a valid field to query.' >&2; exit 2",
            Answer(None, (), 'nvidia-smi says: Field "compute_cap" is not a valid field to query.'),
        ),
    ],
)
def test_what_the_driver_answers_is_read_with_care(script, driver, tmp_path, monkeypatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert floors.ask_driver() == driver


def test_a_driver_that_hangs_is_not_waited_for(tmp_path, monkeypatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert floors.ask_driver(patience=1).complaint == "nvidia-smi has not answered within 1 seconds"


def test_a_program_that_cannot_be_started_is_named(tmp_path, monkeypatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia-smi cannot be started" in floors.ask_driver().complaint


def test_no_driver_is_no_gpu_and_no_complaint(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert floors.ask_driver() == floors.NO_DRIVER


def test_one_gpu_of_several_that_is_new_enough_will_do() -> None:
    mixed = floors.Driver((580,), ((6, 1), (8, 9)), "")
    unknown = floors.Driver((580,), (None,), "")
    assert list(floors.gpu_obstacles(CAPABLE, mixed)) == []
    assert list(floors.gpu_obstacles(CAPABLE, unknown)) == []
