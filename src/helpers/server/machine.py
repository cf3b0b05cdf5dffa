"""What this machine has: processor, memory, disk, GPUs, and whether the model hub can be reached.

Nothing here decides anything; `choices` does. Nothing here needs PyTorch: the kernel of a notebook
must be able to look before vLLM is installed at all.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

GIB = 2**30
# Instructions that multiply bfloat16 numbers: x86 (AVX-512, AMX) and Arm.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_NVIDIA_QUERY = "index,uuid,name,compute_cap,memory.total,memory.free"


@dataclass(frozen=True)
class Gpu:
    """Describe one NVIDIA GPU.

    capability: compute capability, such as (7, 5) for a T4 and (9, 0) for an H100.
    memory_total, memory_free: bytes.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class Machine:
    """Describe the machine that a server would run on.

    cpu_flags: the features in /proc/cpuinfo.
    cpus: numbers of the processors that this process may use, one per physical core where there
        are at least two cores, and no more than the container's share of processor time.
    memory_total, memory_free, disk_free: bytes; a container's limit counts as the total.
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
        """Return the GPU that vLLM would use, which is the first visible one."""
        return self.gpus[0] if self.gpus else None

    @property
    def has_bfloat16(self) -> bool:
        """Tell whether the processor multiplies bfloat16 numbers by itself."""
        return bool(self.cpu_flags & BFLOAT16_FLAGS)


def look_at_machine(folder: Path | None = None) -> Machine:
    """Look at this machine; `folder` names the disk whose free space counts (default: home)."""
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
        disk_free=shutil.disk_usage(_existing(folder or Path.home())).free,
        gpus=find_gpus(),
    )


def find_gpus() -> tuple[Gpu, ...]:
    """Ask the NVIDIA driver for its GPUs, in the order in which CUDA would see them.

    Returns an empty tuple where there is no driver, where it does not answer within 20 s, and
    where CUDA_VISIBLE_DEVICES hides every GPU.
    """
    command = ["nvidia-smi", f"--query-gpu={_NVIDIA_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(answer.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(listing: str, visible: str | None) -> tuple[Gpu, ...]:
    """Read nvidia-smi's table (memory in MiB); keep what CUDA_VISIBLE_DEVICES leaves visible.

    >>> parse_gpus("0, GPU-1a, Tesla T4, 7.5, 15360, 14900", None)[0].capability
    (7, 5)
    >>> parse_gpus("0, GPU-1a, Tesla T4, 7.5, 15360, 14900", "-1")
    ()
    """
    found: dict[str, Gpu] = {}
    for line in listing.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        try:
            index, uuid, name, capability, total, free = cells
            major, _, minor = capability.partition(".")
            found[uuid] = Gpu(
                int(index), name, (int(major), int(minor)), int(total) << 20, int(free) << 20
            )
        except ValueError:
            # A row that the driver could not fill ("[N/A]"): vLLM could not use that GPU either.
            continue
    if visible is None:
        return tuple(found.values())
    chosen = []
    for wanted in (part.strip() for part in visible.split(",")):
        match = [
            gpu
            for uuid, gpu in found.items()
            if wanted and (wanted == str(gpu.index) or uuid.startswith(wanted))
        ]
        if not match:
            # CUDA stops at the first entry that it does not know.
            break
        chosen.append(match[0])
    return tuple(chosen)


def hub_state(repository: str, *, timeout: float = 5.0) -> str:
    """Say how the model hub stands to a model: "cached", "reachable", "missing" or "offline".

    "missing" means that the hub answers and knows no such public model. Other than that, no
    answer within `timeout` seconds counts as "offline", as does HF_HUB_OFFLINE.
    """
    if _is_cached(repository):
        return "cached"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "offline"
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.head(
            f"{address}/{repository}/resolve/main/config.json",
            headers=headers,
            timeout=timeout,
            allow_redirects=True,
        )
    except requests.RequestException:
        return "offline"
    if answer.ok:
        return "reachable"
    return "missing" if answer.status_code in {401, 403, 404} else "offline"


def _is_cached(repository: str) -> bool:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(
        (config.parent / weights).exists()
        for config in snapshots.glob("*/config.json")
        for weights in (
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
        )
    )


def _existing(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _processor(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return "", frozenset()
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # x86 calls the list "flags", Arm "Features".
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", ""), frozenset(flags.split())


def _usable_cpus() -> tuple[int, ...]:
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:
        allowed = list(range(os.cpu_count() or 1))
    cores: dict[str, int] = {}
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            core = siblings.read_text().strip()
        except OSError:
            core = str(cpu)
        cores.setdefault(core, cpu)
    # Two threads of one core share its arithmetic units, so one of them is enough for matrices.
    usable = list(cores.values()) if len(cores) >= 2 else allowed
    quota = _cpu_quota()
    return tuple(usable[: max(1, math.ceil(quota))] if quota else usable)


def _cgroup_folders() -> list[Path]:
    """List the control groups of this process, innermost first, as far as they can be seen."""
    root = Path("/sys/fs/cgroup")
    try:
        entries = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        entries = []
    own = next((line[3:] for line in entries if line.startswith("0::")), "/")
    folder = root / own.lstrip("/")
    return [path for path in (folder, *folder.parents) if path.is_relative_to(root)]


def _cpu_quota() -> float | None:
    quotas = []
    for folder in _cgroup_folders():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    try:
        # Version 1 of control groups.
        quota, period = (
            int(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text())
            for name in ("quota", "period")
        )
        if quota > 0:
            quotas.append(quota / period)
    except (OSError, ValueError):
        pass
    return min(quotas, default=None)


def _memory() -> tuple[int, int]:
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limits = [(folder / "memory.max", folder / "memory.current") for folder in _cgroup_folders()]
    old = Path("/sys/fs/cgroup/memory")
    limits.append((old / "memory.limit_in_bytes", old / "memory.usage_in_bytes"))
    for limit_file, used_file in limits:
        try:
            limit, used = int(limit_file.read_text()), int(used_file.read_text())
        except (OSError, ValueError):
            continue
        total = min(total, limit)
        free = min(free, max(0, limit - used + _reclaimable(limit_file.parent)))
    return total, free


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache that a control group would give up under pressure."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def oom_kills() -> int:
    """Count the processes that the kernel has ended for lack of memory, as far as it tells.

    Sources: `oom_kill` in /proc/vmstat, and in memory.events of our control group. Two readings,
    before and after, tell whether a SIGKILL came from the kernel.
    """
    count = 0
    for source in (Path("/proc/vmstat"), *(f / "memory.events" for f in _cgroup_folders())):
        try:
            lines = source.read_text().splitlines()
        except OSError:
            continue
        count += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return count
