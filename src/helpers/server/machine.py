"""What this machine has: processor, memory, disk, and the GPUs that its driver knows.

Nothing here decides anything; `plan` does. Nothing here needs PyTorch: the kernel of a notebook
must be able to look before vLLM is installed at all. The limits of containers are read by hand,
since psutil sees the whole machine alone.
"""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
# Instructions that multiply bfloat16 numbers: x86 (AVX-512, AMX) and Arm.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# Instructions that multiply and add 8-bit whole numbers: x86 (VNNI, AMX) and Arm.
INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})
_DRIVER_QUERY = "driver_version,index,uuid,compute_cap,memory.total,memory.free,name"
_DRIVER_SECONDS = 20
# Windows Subsystem for Linux and Google's Kubernetes nodes keep nvidia-smi out of the usual PATH.
_DRIVER_PLACES = ("/usr/bin", "/usr/lib/wsl/lib", "/usr/local/nvidia/bin")


@dataclass(frozen=True)
class Gpu:
    """Describe one NVIDIA GPU, or one slice of it (MIG).

    Attributes:
        index: CUDA's number for it among those that are visible, or the driver's number.
        uuid: What CUDA_VISIBLE_DEVICES takes for it, such as "GPU-5c2a…"; "" if unknown.
        name: Such as "Tesla T4".
        capability: Compute capability, such as (7, 5) for a T4 and (9, 0) for an H100.
        memory_total: Bytes, None where nobody tells.
        memory_free: Bytes, None where nobody tells.
    """

    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    memory_total: int | None
    memory_free: int | None


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says of itself and its GPUs.

    Attributes:
        version: Such as "580.82.07", "" if unknown.
        gpus: In the order of the bus, hidden ones included, slices of a GPU (MIG) not.
        fault: Why it names no GPU, "" where it does and where the machine has no driver at all.
    """

    version: str = ""
    gpus: tuple[Gpu, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Machine:
    """Describe the machine that a server would run on.

    Attributes:
        system: Such as "Linux".
        architecture: Such as "x86_64" or "aarch64".
        cpu_name: As the manufacturer writes it.
        cpu_flags: The features in /proc/cpuinfo.
        cpus: Numbers of the processors that this process may use, one per physical core where
            there are at least two cores, and no more than the container's share of processor time.
        memory_total: Bytes; the limit of a container or of a shell (`ulimit`) counts as the total.
        memory_free: Bytes.
        disk_free: Bytes on the disk that was asked for.
        gpus: Those that whoever looked was told of, the first one first.
    """

    system: str
    architecture: str
    cpu_name: str
    cpu_flags: frozenset[str]
    cpus: tuple[int, ...]
    memory_total: int
    memory_free: int
    disk_free: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def gpu(self) -> Gpu | None:
        """The first of the GPUs, None if there is none."""
        return self.gpus[0] if self.gpus else None

    @property
    def has_bfloat16(self) -> bool:
        """Whether the processor multiplies bfloat16 numbers by itself."""
        return bool(self.cpu_flags & BFLOAT16_FLAGS)

    @property
    def has_int8(self) -> bool:
        """Whether the processor multiplies and adds 8-bit whole numbers in one instruction."""
        return bool(self.cpu_flags & INT8_FLAGS)


class Answer(NamedTuple):
    """What a command that `ask` ran has said.

    Attributes:
        code: Its exit status, None if its time was up.
        output: Its standard output; all of it, or what came before its time was up.
        errors: The same of its standard error.
    """

    code: int | None
    output: str
    errors: str


def ask(
    command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> Answer:
    """Run a short command, and wait for it no longer than `seconds`.

    `subprocess.run` would wait for ever for a command that cannot be killed, as one that hangs in
    a driver, and for the children of one that can.

    Raises:
        OSError: The command cannot be run.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    code: int | None = None
    try:
        output, errors = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            output, errors = process.communicate(timeout=2)
        except subprocess.TimeoutExpired as error:
            output, errors = error.output or b"", error.stderr or b""
    except BaseException:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return Answer(code, output.decode(errors="replace"), errors.decode(errors="replace"))


def look_at_machine(folder: Path | None = None, gpus: tuple[Gpu, ...] = ()) -> Machine:
    """Look at this machine.

    Args:
        folder: The disk whose free space counts (default: that of the home folder).
        gpus: The GPUs, which others know: `Engine.gpus` where a vLLM is installed, and
            `ask_driver().gpus` where none is.
    """
    name, flags = _processor(Path("/proc/cpuinfo"))
    total, free = _memory()
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        cpu_name=name or platform.processor() or platform.machine(),
        cpu_flags=flags,
        cpus=_usable_cpus(),
        memory_total=total,
        memory_free=free,
        disk_free=disk_free(folder or Path.home()),
        gpus=gpus,
    )


def disk_free(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, also of one that does not exist yet."""
    folder = folder.expanduser().absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def ask_driver() -> Driver:
    """Ask nvidia-smi for the driver and its GPUs: for before an engine is there that knows better.

    It lists GPUs by bus, CUDA by speed; it knows no slices and no CUDA_VISIBLE_DEVICES; and it has
    no memory figures for GPUs that share the machine's memory. So the launch asks CUDA itself.
    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *_DRIVER_PLACES])
    program = shutil.which("nvidia-smi", path=places)
    if program is None:
        return Driver()
    command = [program, f"--query-gpu={_DRIVER_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = ask(command, _DRIVER_SECONDS)
    except OSError as error:
        return Driver(fault=f"nvidia-smi cannot be run: {error.strerror or error}")
    if answer.code is None:
        return Driver(fault=f"nvidia-smi did not answer within {_DRIVER_SECONDS} seconds")
    driver = read_driver(answer.output)
    if driver.gpus:
        return driver
    said = " ".join(f"{answer.output} {answer.errors}".split())
    return Driver(driver.version, fault=f"nvidia-smi says: {said[:300] or 'nothing'}")


def read_driver(listing: str) -> Driver:
    """Read nvidia-smi's table (memory in MiB); a figure that it does not know becomes None.

    >>> read_driver("580.82.07, 0, GPU-1a, 7.5, 15360, 14900, Tesla T4").gpus[0].capability
    (7, 5)
    >>> read_driver("580.82.07, 0, GPU-2b, 12.1, [N/A], [N/A], NVIDIA GB10").gpus[0].memory_total
    """
    version, gpus = "", []
    for line in listing.splitlines():
        # The name comes last, since it may hold a comma.
        cells = [cell.strip() for cell in line.split(",", 6)]
        if len(cells) < 7 or not cells[1].isdigit():
            continue
        version = cells[0] if re.match(r"\d", cells[0]) else ""
        capability = re.fullmatch(r"(\d+)\.(\d+)", cells[3])
        gpus.append(
            Gpu(
                index=int(cells[1]),
                uuid=cells[2] if cells[2].startswith("GPU-") else "",
                name=cells[6],
                # A driver that cannot tell is older than any that CUDA 12 or 13 works with.
                capability=(int(capability[1]), int(capability[2])) if capability else (0, 0),
                memory_total=int(cells[4]) << 20 if cells[4].isdigit() else None,
                memory_free=int(cells[5]) << 20 if cells[5].isdigit() else None,
            )
        )
    return Driver(version, tuple(gpus))


def _processor(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    fields: dict[str, str] = {}
    for line in _text(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # x86 calls the list "flags", Arm "Features".
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", ""), frozenset(flags.split())


def _usable_cpus() -> tuple[int, ...]:
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        allowed = list(range(os.cpu_count() or 1))
    cores: dict[str, int] = {}
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.setdefault(_text(siblings).strip() or str(cpu), cpu)
    # Two threads of one core share its arithmetic units, so one of them is enough for matrices.
    usable = list(cores.values()) if len(cores) >= 2 else allowed
    quota = _cpu_quota()
    return tuple(usable[: max(1, math.ceil(quota))] if quota else usable)


def _cgroup_folders() -> list[Path]:
    """List the control groups of this process, innermost first, as far as they can be seen."""
    root = Path("/sys/fs/cgroup")
    entries = _text(Path("/proc/self/cgroup")).splitlines()
    own = next((line[3:] for line in entries if line.startswith("0::")), "/")
    folder = root / own.lstrip("/")
    return [path for path in (folder, *folder.parents) if path.is_relative_to(root)]


def _cpu_quota() -> float | None:
    old = Path("/sys/fs/cgroup/cpu")  # version 1 of control groups
    pairs = [_text(folder / "cpu.max").split() for folder in _cgroup_folders()]
    pairs.append([_text(old / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])
    quotas = []
    for pair in pairs:
        with suppress(ValueError):  # no such file, or "max"
            quota, period = map(int, pair)
            quotas.append(quota / period)
    return min((quota for quota in quotas if quota > 0), default=None)


def _memory() -> tuple[int, int]:
    try:
        import psutil

        memory = psutil.virtual_memory()
        total, free = memory.total, memory.available
    except ImportError:  # the machine check tells of it, and works on
        pages = (os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_AVPHYS_PAGES"))
        total, free = (count * os.sysconf("SC_PAGE_SIZE") for count in pages)
    limits = [(folder / "memory.max", folder / "memory.current") for folder in _cgroup_folders()]
    old = Path("/sys/fs/cgroup/memory")
    limits.append((old / "memory.limit_in_bytes", old / "memory.usage_in_bytes"))
    for limit_file, used_file in limits:
        with suppress(ValueError):  # no such file, or "max"
            limit, used = int(_text(limit_file)), int(_text(used_file))
            # The page cache counts as used there, but it gives way.
            cache = _named(limit_file.parent / "memory.stat", "inactive_file")
            total, free = min(total, limit), min(free, max(0, limit - used + cache))
    with suppress(ImportError):  # no Linux
        import resource

        # A shell's `ulimit -v` and `ulimit -d` hold for each process that is started from it.
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            if (limit := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY:
                total, free = min(total, limit), min(free, limit)
    return total, free


def oom_kills() -> int:
    """Count the processes that the kernel has ended for lack of memory, as far as it tells.

    Sources: `oom_kill` in /proc/vmstat, and in memory.events of our control group. Two readings,
    before and after, tell whether a SIGKILL came from the kernel.
    """
    events = [folder / "memory.events" for folder in _cgroup_folders()]
    return sum(_named(source, "oom_kill") for source in (Path("/proc/vmstat"), *events))


def _text(path: Path) -> str:
    """Return what a file of the system says, "" where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _named(path: Path, name: str) -> int:
    """Return the number beside a name in a file of the system, 0 where it is not there."""
    found = re.search(rf"^{name} (\d+)", _text(path), re.MULTILINE)
    return int(found[1]) if found else 0
