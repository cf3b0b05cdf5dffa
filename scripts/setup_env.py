"""Build .venv, the environment of the notebooks; what `make` runs before every target.

Runs on the standard library alone. It looks whether this machine can do it, picks the profile,
installs the pins of that profile, and writes a stamp last: a call that finds a valid stamp does
nothing, and an environment without one is an interrupted install and is built anew.

The syntax stays that of Python 3.6, so that an old Python can say that it is too old.
"""

import argparse
import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12), (3, 13))
ARCHITECTURES = ("x86_64", "aarch64")
# The oldest C library that the wheels of vLLM and torch are built for (manylinux_2_28).
GLIBC = (2, 28)
# Free disk space in GB: what .venv takes, the downloads, and a margin. Measured for the CPU
# profile (3.4 GB and 0.9 GB); estimated for the GPU profile, whose CUDA libraries are larger.
DISK_GB = {"cpu": 6, "gpu": 16}
# The three processes of a server take about 2 GB, a kernel with pandas and the tests the rest.
MEMORY_GB = 4
# pip asks here only for the CPU build of torch, and only if its own sources lack it.
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NOT_FOUND = "No matching distribution found for "
REMOTE_HINT = (
    "The notebooks also work with a server that runs elsewhere. There, in a network you trust:\n"
    "  vllm serve BAAI/bge-reranker-v2-m3 --host 0.0.0.0 --port 8000\n"
    "Here, with Python 3.11 or newer, in this folder:\n"
    "  pip install jupyterlab -e .\n"
    "  SCORE_SERVER_URL=http://that-machine:8000 jupyter lab notebooks/00_start_here.ipynb"
)

Machine = namedtuple("Machine", "system architecture libc cpu_flags free_disk free_memory")


class Refusal(Exception):
    """This machine, or its state, cannot carry the environment; the text says what to do."""


def dotted(version):
    """Write a version tuple as text."""
    return ".".join(map(str, version))


def report(text=""):
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


# What this machine is, and whether that is enough.


def check_python(version):
    """Refuse a Python version, given as a tuple, that the pins do not serve."""
    if tuple(version[:2]) in PYTHONS:
        return
    age = "older" if tuple(version[:2]) < PYTHONS[0] else "newer"
    raise Refusal(
        "Python 3.11, 3.12 or 3.13 is needed; this is Python %s, which is %s.\n"
        "Install one of them and name it: make PYTHON=python3.12 lab" % (dotted(version[:3]), age)
    )


def check_venv_module():
    """Refuse a Python that cannot create environments with pip in them.

    Debian ships ensurepip separately, and hosted platforms often leave it out; their own pip will
    do in its place.
    """
    if not (is_there("venv") and (is_there("ensurepip") or is_there("pip"))):
        raise Refusal(
            "This Python (%s) cannot create environments: its venv module is not complete.\n"
            "On Debian and Ubuntu: sudo apt install python3-venv. "
            "Or name another Python: make PYTHON=python3.12 lab" % sys.executable
        )


def is_there(module):
    """Tell whether a module could be imported."""
    return importlib.util.find_spec(module) is not None


def check_platform(machine):
    """Refuse an operating system or a processor family that vLLM is not built for."""
    if machine.system != "Linux" or machine.architecture not in ARCHITECTURES:
        raise Refusal(
            "vLLM runs on Linux, on x86-64 or aarch64 (ARM64) processors; this is %s on %s.\n%s"
            % (machine.system, machine.architecture, REMOTE_HINT)
        )
    if machine.libc[0] != "glibc" or machine.libc[1] < GLIBC:
        raise Refusal(
            "vLLM is built for Linux with glibc %d.%d or newer; this system has %s.\n%s"
            % (
                *GLIBC,
                " ".join([machine.libc[0] or "another C library", dotted(machine.libc[1])]),
                REMOTE_HINT,
            )
        )


def check_room(machine, profile, already_there=0):
    """Refuse a machine that lacks the instructions, the disk or the memory for a profile.

    already_there: bytes of disk that an earlier environment holds and the new one takes over.
    """
    if (
        profile == "cpu"
        and machine.architecture == "x86_64"
        and not machine.cpu_flags & {"avx2", "avx512f"}
    ):
        raise Refusal(
            "vLLM on a processor needs AVX2 instructions, and this one has none "
            "(no avx2 among the flags in /proc/cpuinfo).\n" + REMOTE_HINT
        )
    missing = DISK_GB[profile] - (machine.free_disk + already_there) / 1e9
    if missing > 0:
        raise Refusal(
            "Not enough disk space: the %s profile needs %d GB free, and there are %.1f GB.\n"
            "Free %.1f GB more, or put a clone of this repository on a larger disk."
            % (profile, DISK_GB[profile], machine.free_disk / 1e9, missing)
        )
    if machine.free_memory < MEMORY_GB * 1e9:
        raise Refusal(
            "Not enough memory: a score server and a notebook need %d GB free, and there are "
            "%.1f GB.\nClose other programs (a score server that still runs: make stop), or:\n%s"
            % (MEMORY_GB, machine.free_memory / 1e9, REMOTE_HINT)
        )


def check_libraries(profile):
    """Refuse a system without the one library that vLLM's CPU build expects to find there."""
    if profile != "cpu":
        return
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        raise Refusal(
            "vLLM's CPU build needs the system's library libnuma, which is not installed.\n"
            "On Debian and Ubuntu: sudo apt install libnuma1. On Fedora: sudo dnf install "
            "numactl-libs. Then call make again."
        ) from None


def this_machine():
    """Look at this machine: sizes in bytes, processor flags as a set."""
    linux = platform.system() == "Linux"
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        libc=libc(*platform.libc_ver()),
        cpu_flags=cpu_flags(Path("/proc/cpuinfo").read_text()) if linux else frozenset(),
        free_disk=shutil.disk_usage(str(REPOSITORY)).free,
        free_memory=free_memory() if linux else 0,
    )


def libc(name, version):
    """Return the name of the C library and its version as a tuple."""
    return name, tuple(int(part) for part in version.split(".") if part.isdigit())


def cpu_flags(cpuinfo):
    """Read the instruction sets from the text of /proc/cpuinfo."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def free_memory(meminfo=Path("/proc/meminfo"), cgroup=Path("/sys/fs/cgroup")):
    """Return the memory in bytes that programs can still take, inside a container's limit too."""
    kilobytes = re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text()).group(1)
    free = int(kilobytes) * 1024
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and limit.read_text().strip() != "max":
        # The page cache counts as used there, but it gives way.
        cache = re.search(r"^inactive_file (\d+)", (cgroup / "memory.stat").read_text(), re.M)
        held = int(used.read_text()) - int(cache.group(1))
        free = min(free, int(limit.read_text()) - held)
    return free


def gpu_answers(command="nvidia-smi"):
    """Tell whether an NVIDIA driver answers and names a GPU."""
    try:
        done = subprocess.run(
            [command, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"GPU " in done.stdout


# What the environment should be, and what it is.


def pins(path):
    """Read a pin file: the requirement of each line, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def pin_for(name, path):
    """Return the one line of a pin file that pins a package."""
    (found,) = [pin for pin in pins(path) if pin.split("==")[0] == name]
    return found


def stamp_key(repository, profile, python_version):
    """Digest everything an environment is made from.

    Of pyproject.toml only what describes the distribution counts, not the settings of its tools.
    """
    import tomllib

    described = tomllib.loads((repository / "pyproject.toml").read_text())
    digest = hashlib.sha256()
    for part in (
        profile,
        python_version,
        pins(repository / "requirements" / (profile + ".txt")),
        {name: described[name] for name in ("build-system", "project")},
        (repository / "requirements" / "vllm-shim" / "pyproject.toml").read_text(),
    ):
        digest.update(json.dumps(part, sort_keys=True).encode() + b"\0")
    return digest.hexdigest()


class Environment:
    """The folder .venv of a repository and the stamp in it."""

    def __init__(self, repository):
        self.repository = repository
        self.folder = repository / ".venv"
        self.python = self.folder / "bin" / "python"
        self.stamp = self.folder / "setup-stamp.json"
        self.log = self.folder / "setup.log"

    def pin_file(self, profile):
        """Return the path of the pins of a profile."""
        return self.repository / "requirements" / (profile + ".txt")

    def read_stamp(self):
        """Return the stamp as a dict; empty where no install was finished."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.stamp.read_text())
        return {}

    def write_stamp(self, key, profile, names):
        """Declare the environment finished, all at once."""
        draft = self.stamp.with_suffix(".draft")
        stamp = {"key": key, "profile": profile, "folder": str(self.folder), "packages": names}
        draft.write_text(json.dumps(stamp))
        os.replace(str(draft), str(self.stamp))

    def python_version(self):
        """Return the version of the Python it was created with, or None."""
        with contextlib.suppress(OSError):
            found = re.search(
                r"^version *= *(\S+)", (self.folder / "pyvenv.cfg").read_text(), re.MULTILINE
            )
            return found and found.group(1)
        return None

    def python_runs(self):
        """Tell whether its interpreter still starts."""
        try:
            done = subprocess.run([str(self.python), "-c", ""], stderr=subprocess.DEVNULL)
        except OSError:
            return False
        return done.returncode == 0

    def packages_inside(self):
        """Count the distributions in it."""
        return sum(1 for _ in self.folder.glob("lib/python*/site-packages/*.dist-info"))

    def size(self):
        """Return its size on disk in bytes."""
        files = (
            os.path.join(top, name) for top, _, names in os.walk(self.folder) for name in names
        )
        return sum(os.lstat(file).st_size for file in files)


# Installing, with a line that shows how far it is.


class Ticker:
    """A progress line: rewritten in a terminal, written every ten seconds elsewhere."""

    def __init__(self, total, count_installed):
        self.total = total
        self.count_installed = count_installed
        self.looked_up = 0
        self.now = "asking the package index"
        self.installing = False
        self.stopped = threading.Event()
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.before = self.count_installed()
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()
        if sys.stdout.isatty():
            report()

    def read(self, line):
        """Take in one line of what pip prints."""
        met = re.match(r"(?:Collecting|Processing|Requirement already satisfied:) (\S+)", line)
        if met:
            self.looked_up += 1
            self.now = re.split("[=-]", met.group(1).split("/")[-1])[0]
        elif line.lstrip().startswith("Downloading"):
            size = re.search(r"\([\d.]+ [kMG]B\)", line)
            self.now = " ".join([self.now.split(" (")[0], size.group(0) if size else ""]).strip()
        elif line.startswith("Installing collected packages"):
            self.installing = True

    def text(self):
        """Say where the install stands."""
        seconds = time.monotonic() - self.began
        if self.installing:
            done = min(max(self.count_installed() - self.before, 0), self.total)
            step = "unpacking %d of %d packages" % (done, self.total)
        else:
            step = "fetching %d of %d packages: %s" % (self.looked_up, self.total, self.now)
        return "    %3d s  %s" % (seconds, step)

    def _run(self):
        terminal = sys.stdout.isatty()
        while not self.stopped.wait(0.5 if terminal else 10):
            if terminal:
                width = shutil.get_terminal_size().columns - 1
                sys.stdout.write("\r" + self.text()[:width].ljust(width))
                sys.stdout.flush()
            else:
                report(self.text())


def pip_environment():
    """Return the variables for pip: the user's sources stay, what would misplace packages goes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME")
    }
    return dict(kept, PIP_USER="0", PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")


def pip(environment, arguments, total=1):
    """Run pip in an environment, its output in the log; return its exit status and last lines."""
    command = [str(environment.python), "-m", "pip", "install", "--no-deps", *arguments]
    command += ["--disable-pip-version-check", "--progress-bar=off"]
    tail = []
    with open(str(environment.log), "a") as log, contextlib.ExitStack() as stack:
        ticker = stack.enter_context(Ticker(total, environment.packages_inside))
        log.write("$ %s\n" % " ".join(command))
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                universal_newlines=True,
                env=pip_environment(),
            )
        )
        try:
            for line in process.stdout:
                log.write(line)
                tail = [*tail, line.rstrip()][-12:]
                ticker.read(line)
        except BaseException:
            # Whatever ends this call must end pip too: it must not write on into .venv.
            process.terminate()
            raise
    return process.returncode, tail


def install(environment, arguments, total=1):
    """Run pip and refuse to go on if it fails."""
    status, tail = pip(environment, arguments, total)
    if status:
        raise failure(environment, arguments, tail)


def failure(environment, arguments, tail):
    """Say what pip could not install, and why."""
    return Refusal(
        "pip could not install %s. Its last lines:\n  %s\nThe whole log: %s\n"
        "Once the cause is gone, call make again: it goes on from the downloads that pip has kept."
        % (arguments[-1], "\n  ".join(tail), environment.log)
    )


def install_cpu_torch(environment, requirement):
    """Install the CPU build of torch from pip's own sources, or else from PyTorch's CPU index."""
    status, tail = pip(environment, [requirement])
    if status and any(NOT_FOUND + "torch" in line for line in tail):
        report("    pip's own sources do not have it: asking %s" % CPU_TORCH_INDEX)
        install(environment, ["--index-url", CPU_TORCH_INDEX, requirement])
    elif status:
        raise failure(environment, [requirement], tail)


def create(environment):
    """Create the environment anew."""
    import venv

    if environment.folder.exists():
        shutil.rmtree(str(environment.folder))
    own_pip = is_there("ensurepip")
    venv.EnvBuilder(with_pip=own_pip, symlinks=True, prompt=environment.repository.name).create(
        str(environment.folder)
    )
    if not own_pip:
        command = [sys.executable, "-m", "pip", "--python", str(environment.python), "install"]
        command += ["--quiet", "--disable-pip-version-check", "pip"]
        if subprocess.call(command, env=pip_environment()):
            raise Refusal(
                "The pip of this Python (%s) could not put a pip into .venv; what it said stands "
                "above. It takes pip 22.3 or newer: %s -m pip install --upgrade pip"
                % (sys.executable, sys.executable)
            )


def fill(environment, profile, dropped):
    """Bring an environment to the pins of a profile and take dropped packages out."""
    pin_file = environment.pin_file(profile)
    if dropped:
        report("  taking out %s" % ", ".join(dropped))
        command = [str(environment.python), "-m", "pip", "uninstall", "--yes", "--quiet"]
        subprocess.run([*command, *dropped], check=True, env=pip_environment())
    report("  step 1 of 4: the installer")
    install(environment, [pin_for("pip", pin_file), pin_for("setuptools", pin_file)], total=2)
    report("  step 2 of 4: torch")
    torch = pin_for("torch", pin_file)
    if profile == "cpu":
        install_cpu_torch(environment, torch)
    else:
        install(environment, [torch])
    report("  step 3 of 4: vLLM, JupyterLab and what they need")
    install(environment, ["-r", str(pin_file)], total=len(pins(pin_file)))
    report("  step 4 of 4: the helpers of the notebooks")
    if profile == "cpu":
        # Built from a copy, so that the build leaves nothing in the repository.
        shim = environment.folder / "vllm-shim"
        shutil.rmtree(str(shim), ignore_errors=True)
        shutil.copytree(str(environment.repository / "requirements" / "vllm-shim"), str(shim))
        install(environment, ["--no-build-isolation", "--force-reinstall", str(shim)])
    install(environment, ["--no-build-isolation", "--editable", str(environment.repository)])


def set_up(environment, profile=None, this_python=False, machine=None):
    """Make the environment ready; return True if there was anything to do.

    profile: "cpu" or "gpu"; None keeps the one that is there, or chooses by looking.
    this_python: rebuild an environment of another Python version than the running one.
    machine: what to judge instead of this machine.
    """
    running = platform.python_version()
    stamp = environment.read_stamp()
    version = environment.python_version()
    wanted = profile or stamp.get("profile") or ("gpu" if gpu_answers() else "cpu")
    usable = (
        stamp.get("profile") == wanted
        # The scripts inside name the folder they were installed in: a moved clone starts anew.
        and stamp.get("folder") == str(environment.folder)
        and version is not None
        and (not this_python or version.split(".")[:2] == running.split(".")[:2])
        and environment.python_runs()
    )
    if usable and stamp.get("key") == stamp_key(environment.repository, wanted, version):
        if profile is None and wanted == "cpu" and gpu_answers():
            report(
                "An NVIDIA driver answers here, but .venv holds the CPU build of vLLM. "
                "To change that: make PROFILE=gpu setup"
            )
        return False
    check_venv_module()
    already_there = environment.size() if environment.folder.exists() else 0
    check_room(machine or this_machine(), wanted, already_there)
    check_libraries(wanted)
    names = [re.split("[ =;]", pin)[0] for pin in pins(environment.pin_file(wanted))]
    began = time.monotonic()
    if usable:
        report("The pins have changed: bringing .venv (%s profile) up to date." % wanted)
        dropped = sorted(set(stamp.get("packages", ())) - set(names))
        environment.stamp.unlink()
    else:
        why = "rebuilding" if environment.folder.exists() else "building"
        report(
            "Setting up: %s .venv, %s profile, Python %s, %d packages. "
            "This takes a few minutes the first time." % (why, wanted, running, len(names))
        )
        dropped = []
        create(environment)
        version = running
    fill(environment, wanted, dropped)
    environment.write_stamp(stamp_key(environment.repository, wanted, version), wanted, names)
    seconds, size = time.monotonic() - began, environment.size() / 1e9
    report("Ready after %d s; .venv takes %.1f GB." % (seconds, size))
    return True


@contextlib.contextmanager
def alone(repository):
    """Let only one set-up at a time work on a repository; the next one waits."""
    import fcntl

    with open(str(repository / ".venv.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            report("Another set-up of this folder is under way: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments=None, version=sys.version_info, machine=None, repository=REPOSITORY):
    """Set up .venv from the command line; the other parameters are for the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=("cpu", "gpu"), help="default: chosen by looking")
    parser.add_argument(
        "--this-python", action="store_true", help="rebuild a .venv of another Python version"
    )
    parser.add_argument(
        "--probe", action="store_true", help="only tell by the exit status if this Python will do"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_python(version)
        if options.probe:
            check_venv_module()
            return 0
        check_platform(machine or this_machine())
        with alone(repository):
            set_up(Environment(repository), options.profile, options.this_python, machine)
    except Refusal as refusal:
        print("\nSet-up stopped. %s" % refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted. The next call starts it again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
