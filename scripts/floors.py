"""What this machine is, and whether that is enough: asked before anything is downloaded.

Part of the set-up (setup_env.py): the standard library alone, in the syntax of Python 3.6.
"""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12), (3, 13))
ARCHITECTURES = ("x86_64", "aarch64")
# The oldest C library that all wheels of the pins are built for: llguidance sets it, and for the
# GPU profile on aarch64 tilelang does. scripts/lock.py holds the pins to it.
GLIBC = (2, 31)
GLIBC_GPU_AARCH64 = (2, 34)
# Free disk space in GB at the peak: .venv, the downloads, and pip's copy of them until all are
# unpacked. Measured: 3.4 GB and 0.9 GB for the CPU profile, 9.8 GB and twice 4 GB for the GPU's.
DISK_GB = {"cpu": 6, "gpu": 18}
# The three processes of a server take about 2 GB, a kernel with pandas and the tests the rest.
MEMORY_GB = 4
# torch brings CUDA 13, which NVIDIA's drivers serve from 580 on (docs.nvidia.com/deploy/
# cuda-compatibility); its kernels, and vLLM's, begin with Turing.
DRIVER = (580,)
CAPABILITY = (7, 5)
REMOTE_HINT = (
    "The notebooks also work with a server that runs elsewhere. There, in a network you trust:\n"
    "  vllm serve BAAI/bge-reranker-v2-m3 --host 0.0.0.0 --port 8000\n"
    "Here, with Python 3.11 or newer, in this folder:\n"
    "  pip install jupyterlab -e .\n"
    "  SCORE_SERVER_URL=http://that-machine:8000 jupyter lab notebooks/00_start_here.ipynb"
)

# Sizes are in bytes. Flags and memory are None where the system does not say.
Machine = namedtuple(
    "Machine", "system architecture libc cpu_flags free_disk free_memory compiler python_header"
)
# The driver's version and each GPU's compute capability as tuples, None for [N/A]; or a complaint.
Driver = namedtuple("Driver", "version capabilities complaint")
NO_DRIVER = Driver(None, (), "")


class Refusal(Exception):
    """This machine, or its state, cannot carry the environment; the text says what to do."""


def dotted(version):
    """Write a version tuple as text."""
    return ".".join(map(str, version))


def numbers(text):
    """Read a version such as 580.82.07 as a tuple; None where the text is none."""
    return tuple(map(int, text.split("."))) if re.match(r"\d+(\.\d+)*$", text) else None


# What this machine is.


def this_machine():
    """Look at this machine."""
    name, version = platform.libc_ver()
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        libc=(name, numbers(version) or ()),
        cpu_flags=cpu_flags(text_of(Path("/proc/cpuinfo"))),
        free_disk=shutil.disk_usage(str(REPOSITORY)).free,
        free_memory=free_memory(),
        compiler=any(map(shutil.which, [os.environ.get("CC", "gcc"), "gcc", "clang"])),
        python_header=Path(sysconfig.get_paths()["include"], "Python.h").is_file(),
    )


def text_of(path):
    """Return the text of a file of the system; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def cpu_flags(cpuinfo):
    """Read the instruction sets from the text of /proc/cpuinfo; None where it names none."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return found and frozenset(found.group(1).split())


def free_memory(meminfo=Path("/proc/meminfo"), cgroup=Path("/sys/fs/cgroup")):
    """Return the memory in bytes that programs can still take, inside a container's limit too."""

    def number(path, name=""):
        found = re.search(rf"^{name}\s*(\d+)", text_of(path), re.MULTILINE)
        return found and int(found.group(1))

    kilobytes = number(meminfo, "MemAvailable:")
    rooms = [] if kilobytes is None else [kilobytes * 1024]
    # No limit is written "max" in the second version of cgroups, as a huge number in the first.
    for folder, limit, used, cache in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (
            cgroup / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        most = number(folder / limit)
        if most is not None:
            # The page cache counts as used there, but it gives way.
            held = (number(folder / used) or 0) - (number(folder / "memory.stat", cache) or 0)
            rooms.append(most - held)
    return min(rooms) if rooms else None


def ask_driver(patience=30):
    """Ask NVIDIA's driver for its version and the compute capability of each GPU.

    Args:
        patience: Seconds to wait for an answer.

    Returns:
        A Driver: NO_DRIVER where there is none; with a complaint where one is there but broken.
    """
    # WSL keeps the program where not every PATH leads.
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/lib/wsl/lib"])
    program = shutil.which("nvidia-smi", path=folders)
    if program is None:
        return NO_DRIVER
    command = [program, "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=patience)
    except OSError as error:
        return NO_DRIVER._replace(complaint=f"nvidia-smi cannot be started ({error})")
    except subprocess.TimeoutExpired:
        # Not waited for: what hangs in a driver may never end.
        process.kill()
        return NO_DRIVER._replace(
            complaint=f"nvidia-smi has not answered within {patience} seconds"
        )
    lines = output.decode("utf-8", "replace").strip().splitlines()
    rows = [[numbers(part.strip()) for part in line.split(",")] for line in lines if "," in line]
    if process.returncode or not rows:
        return NO_DRIVER._replace(complaint=f"nvidia-smi says: {lines[0] if lines else 'nothing'}")
    return Driver(rows[0][0], tuple(row[1] for row in rows), "")


# Whether that is enough.


def check_python(version):
    """Refuse a Python version, given as a tuple, that the pins do not serve."""
    if tuple(version[:2]) in PYTHONS:
        return
    age = "older" if tuple(version[:2]) < PYTHONS[0] else "newer"
    raise Refusal(
        f"Python 3.11, 3.12 or 3.13 is needed; this is Python {dotted(version[:3])}, which is "
        f"{age}.\nInstall one of them and name it: make PYTHON=python3.12 lab"
    )


def check_platform(machine):
    """Refuse an operating system or a processor family that vLLM is not built for."""
    if machine.system != "Linux" or machine.architecture not in ARCHITECTURES:
        raise Refusal(
            "vLLM runs on Linux, on x86-64 or aarch64 (ARM64) processors; "
            f"this is {machine.system} on {machine.architecture}.\n{REMOTE_HINT}"
        )
    name, version = machine.libc
    if name != "glibc" or version < GLIBC:
        raise Refusal(
            f"vLLM is built for Linux with glibc {dotted(GLIBC)} or newer; this system has "
            f"{name or 'another C library'} {dotted(version)}.\n{REMOTE_HINT}"
        )


def glibc_floor(profile, architecture):
    """Return the oldest C library that the wheels of a profile run with."""
    return GLIBC_GPU_AARCH64 if (profile, architecture) == ("gpu", "aarch64") else GLIBC


def check_room(machine, profile, already_there=0):
    """Refuse a machine that lacks the disk or the memory for a profile.

    Args:
        machine: The Machine to judge.
        profile: "cpu" or "gpu".
        already_there: Bytes of disk that an earlier environment holds and the new one takes over.
    """
    wanted, free = DISK_GB[profile], machine.free_disk / 1e9
    missing = wanted - free - already_there / 1e9
    if missing > 0:
        raise Refusal(
            f"Not enough disk space: the {profile} profile needs {wanted} GB free, and there are "
            f"{free:.1f} GB.\nFree {missing:.1f} GB more, or put a clone of this repository on a "
            "larger disk."
        )
    if machine.free_memory is not None and machine.free_memory < MEMORY_GB * 1e9:
        raise Refusal(
            f"Not enough memory: a score server and a notebook need {MEMORY_GB} GB free, and there "
            f"are {machine.free_memory / 1e9:.1f} GB.\nClose other programs (a score server that "
            f"still runs: make stop), or:\n{REMOTE_HINT}"
        )


def check_cpu(machine):
    """Refuse a machine without the instructions or the library that vLLM's CPU build needs."""
    flags = machine.cpu_flags
    if machine.architecture == "x86_64" and flags and not flags & {"avx2", "avx512f"}:
        raise Refusal(
            "vLLM on a processor needs AVX2 instructions, and this one has none "
            "(no avx2 among the flags in /proc/cpuinfo).\n" + REMOTE_HINT
        )
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        raise Refusal(
            "vLLM's CPU build needs the system's library libnuma, which is not installed.\n"
            "On Debian and Ubuntu: sudo apt install libnuma1. On Fedora: sudo dnf install "
            "numactl-libs. Then call make again."
        ) from None


def gpu_obstacles(machine, driver):
    """Tell what keeps a machine from vLLM's GPU build.

    No driver at all is not among it: a container's image is built without one.

    Args:
        machine: The Machine to judge.
        driver: What `ask_driver` has returned.

    Yields:
        A sentence that says what is wrong and what helps, and whether it rules the GPU out.
    """
    if driver.complaint:
        yield (
            f"{driver.complaint}. NVIDIA's driver {dotted(DRIVER)} or newer is needed, and after "
            "an update of the driver a restart of the machine.",
            False,
        )
    if driver.version and driver.version < DRIVER:
        # NVIDIA's cuda-compat packages make some older drivers do.
        yield (
            f"CUDA 13 needs NVIDIA's driver {dotted(DRIVER)} or newer, and this one is "
            f"{dotted(driver.version)}. Update the driver.",
            False,
        )
    if driver.capabilities and all(able and able < CAPABILITY for able in driver.capabilities):
        yield (
            f"it needs compute capability {dotted(CAPABILITY)} (Turing) or newer, and this GPU has "
            f"{dotted(max(driver.capabilities))}.",
            True,
        )
    floor = glibc_floor("gpu", machine.architecture)
    if machine.libc[1] < floor:
        yield (
            f"it needs glibc {dotted(floor)} or newer, and this system has "
            f"{dotted(machine.libc[1])}.",
            True,
        )
    if not machine.compiler:
        yield (
            "it compiles when it starts, and there is no C compiler. "
            "On Debian and Ubuntu: sudo apt install gcc.",
            True,
        )
    if not machine.python_header:
        yield (
            f"it compiles when it starts, and {sys.executable} has no Python.h. "
            "On Debian and Ubuntu: sudo apt install python3-dev.",
            True,
        )
