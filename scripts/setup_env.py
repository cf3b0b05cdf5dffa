"""Build .venv, the environment of the notebooks; what `make` runs before every target.

Runs on the standard library alone. It looks whether this machine can do it (floors.py), picks the
profile, installs the pins of that profile, and writes a stamp last: a call that finds a valid stamp
does nothing, and an environment without one is an interrupted install and is built anew.

The syntax stays that of Python 3.6, so that an old Python can say that it is too old.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time

from floors import (
    NO_DRIVER,
    REPOSITORY,
    Refusal,
    ask_driver,
    check_cpu,
    check_platform,
    check_python,
    check_room,
    gpu_obstacles,
    this_machine,
)

# pip asks here only for the CPU build of torch, and only if its own sources lack it.
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NOT_FOUND = "No matching distribution found for "
# The settings of pip that say where packages come from, and how to get there.
PIP_SOURCES = (
    *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host", "cert"),
    *("client-cert", "proxy", "timeout", "default-timeout", "retries", "keyring-provider"),
    *("use-feature", "cache-dir", "no-cache-dir"),
)
# JupyterLab shall not ask whether it may fetch news, nor look for a newer version than the pinned.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


def report(text=""):
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def is_there(module):
    """Tell whether a module could be imported."""
    return importlib.util.find_spec(module) is not None


def check_venv_module():
    """Refuse a Python that cannot create environments with pip in them.

    Debian ships ensurepip separately, and hosted platforms often leave it out; their own pip will
    do in its place.
    """
    if not (is_there("venv") and (is_there("ensurepip") or is_there("pip"))):
        raise Refusal(
            f"This Python ({sys.executable}) cannot create environments: its venv module is not "
            "complete.\nOn Debian and Ubuntu: sudo apt install python3-venv. "
            "Or name another Python: make PYTHON=python3.12 lab"
        )


# What the environment should be, and what it is.


def pins(path):
    """Read a pin file: the requirement of each line, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def name_of(pin):
    """Return the name that a pin begins with, in its normal form."""
    return re.sub("[-_.]+", "-", re.split("[ =;]", pin)[0]).lower()


def pin_for(name, path):
    """Return the one line of a pin file that pins a package."""
    (found,) = [pin for pin in pins(path) if name_of(pin) == name]
    return found


def optional_extras(repository):
    """Return the extras that have pins of their own, by name with the path of the pins."""
    # Not tomllib: older Pythons get as far as saying that they are too old.
    stated = None
    with contextlib.suppress(OSError):
        text = (repository / "pyproject.toml").read_text()
        stated = re.search(r"^\[tool\.optional-extras\]\nnames = (\[.*\])$", text, re.MULTILINE)
    extras = ast.literal_eval(stated.group(1)) if stated else []
    return {name: repository / "requirements" / (name + ".txt") for name in extras}


def extra_pins(repository, profile, extras):
    """Return what extras add to a profile: their pins of packages that the profile does not pin."""
    own = {name_of(pin) for pin in pins(repository / "requirements" / f"{profile}.txt")}
    files = [path for name, path in sorted(optional_extras(repository).items()) if name in extras]
    return [pin for path in files for pin in pins(path) if name_of(pin) not in own]


def stamp_key(repository, profile, python_version, extras=()):
    """Digest everything an environment is made from.

    Of pyproject.toml only what describes the distribution counts, not the settings of its tools.
    """
    import tomllib

    described = tomllib.loads((repository / "pyproject.toml").read_text())
    digest = hashlib.sha256()
    for part in (
        profile,
        python_version,
        pins(repository / "requirements" / f"{profile}.txt"),
        {name: described[name] for name in ("build-system", "project")},
        (repository / "requirements" / "vllm-shim" / "pyproject.toml").read_text(),
        LAB_SETTINGS,
        *([extra_pins(repository, profile, extras)] if extras else []),
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
        self._pip_variables = None

    def pip_variables(self):
        """Return the variables for its pip, which is asked for its settings once."""
        if self._pip_variables is None:
            self._pip_variables = pip_environment(self.python)
        return self._pip_variables

    def pin_file(self, profile):
        """Return the path of the pins of a profile."""
        return self.repository / "requirements" / f"{profile}.txt"

    def read_stamp(self):
        """Return the stamp as a dict; empty where no install was finished."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.stamp.read_text())
        return {}

    def write_stamp(self, key, profile, names, extras=()):
        """Declare the environment finished, all at once: a half-written stamp is none."""
        draft = self.stamp.with_suffix(".draft")
        stamp = {"key": key, "profile": profile, "folder": str(self.folder), "packages": names}
        stamp["extras"] = sorted(extras)
        draft.write_text(json.dumps(stamp))
        os.replace(str(draft), str(self.stamp))

    def python_version(self):
        """Ask its interpreter for its version; None where that does not start any more."""
        command = [str(self.python), "-c", "import platform; print(platform.python_version())"]
        try:
            return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode().strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    def python_runs(self):
        """Tell whether its interpreter still starts."""
        return self.python_version() is not None

    def packages_inside(self):
        """Count the distributions in it."""
        return sum(1 for _ in self.folder.glob("lib/python*/site-packages/*.dist-info"))

    def size(self):
        """Return its size on disk in bytes."""
        files = (
            os.path.join(top, name) for top, _, names in os.walk(self.folder) for name in names
        )
        return sum(os.lstat(file).st_size for file in files)


# Installing.


class Ticker:
    """Says every ten seconds how far the pips are that run side by side."""

    def __init__(self, total, count_installed):
        self.total = total
        self.count_installed = count_installed
        self.before = count_installed()
        self.fetched = 0
        # What each pip fetches, by its number; None from when it unpacks.
        self.fetching = {}
        self.began = time.monotonic()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join()

    def read(self, number, line):
        """Take in one line of what the pip of a number prints."""
        met = re.match(r"(?:Collecting|Processing|Requirement already satisfied:) (\S+)", line)
        size = re.match(r" +Downloading .*(\([\d.]+ [kMG]B\))", line)
        if met:
            self.fetched += 1
            name = re.split(r"[=<>]|-\d", met.group(1).split("/")[-1])[0]
            self.fetching[number] = f"fetching {self.fetched} of {self.total} packages: {name}"
        elif size and self.fetching.get(number):
            self.fetching[number] += " " + size.group(1)
        elif line.startswith("Installing collected packages"):
            self.fetching[number] = None

    def step(self):
        """Return what the pips are at, in words."""
        steps = list(self.fetching.values())
        if not steps:
            return "asking the package index"
        if any(steps):
            return next(step for step in steps if step)
        unpacked = min(max(self.count_installed() - self.before, 0), self.total)
        return f"unpacking {unpacked} of {self.total} packages"

    def _run(self):
        while not self.stopped.wait(10):
            report(f"    {time.monotonic() - self.began:3.0f} s  {self.step()}")


def pip_settings(python):
    """Return what pip's files and variables say about where packages come from.

    Everything else in them is for other installs: a constraint, a target folder or a demand for
    hashes would only break that of exact pins.
    """
    done = subprocess.run(
        [str(python), "-m", "pip", "--no-color", "config", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        # A quiet pip would not answer.
        env=dict(os.environ, PIP_QUIET="0"),
    )
    if done.returncode:
        raise Refusal(f"pip cannot read its own settings:\n  {done.stdout.strip()}")
    settings = {}
    # pip's order: an environment variable beats the section of a command, and that beats [global].
    for section in ("global", "install", ":env:"):
        start = rf"^{section}\.({'|'.join(PIP_SOURCES)})=(.*)$"
        for name, value in re.findall(start, done.stdout, re.MULTILINE):
            settings[name] = ast.literal_eval(value)
    return settings


def pip_environment(python):
    """Return the variables for the pip of an interpreter: the user's sources, and no file."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIP_") and name not in ("PYTHONPATH", "PYTHONHOME")
    }
    for name, value in pip_settings(python).items():
        kept["PIP_" + name.upper().replace("-", "_")] = value
    return dict(kept, PIP_CONFIG_FILE=os.devnull, PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")


def pip(environment, *jobs, total=1):
    """Run pip in an environment, once for each list of arguments and all at once.

    What it prints goes into the log. Returns the exit status, the last lines and the arguments of
    the first that failed, or else of the last.
    """
    run = [str(environment.python), "-m", "pip", "install", "--no-deps"]
    # Python compiles what it imports. That of all 28,000 files would take as long as the rest.
    options = ["--no-compile", "--disable-pip-version-check", "--progress-bar=off"]
    # A kernel asks for colours, and their signs would stand before the words that are looked for.
    options += ["--no-color"]
    started = []

    def read(number, process, tail):
        for line in process.stdout:
            log.write(line)
            tail[:] = [*tail[-11:], line.rstrip()]
            ticker.read(number, line)

    with open(str(environment.log), "a") as log, contextlib.ExitStack() as stack:
        ticker = stack.enter_context(Ticker(total, environment.packages_inside))
        try:
            for number, arguments in enumerate(jobs):
                command = [*run, *arguments, *options]
                log.write(f"$ {' '.join(command)}\n")
                process = stack.enter_context(
                    subprocess.Popen(
                        command,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        universal_newlines=True,
                        env=environment.pip_variables(),
                    )
                )
                tail = []
                reader = threading.Thread(target=read, args=(number, process, tail))
                reader.start()
                started.append((process, tail, reader, arguments))
            for _, _, reader, _ in started:
                reader.join()
        except BaseException:
            # Whatever ends this call must end pip too: it must not write on into .venv.
            for process, _, _, _ in started:
                process.terminate()
            raise
    done = [(process.returncode, tail, arguments) for process, tail, _, arguments in started]
    return next((each for each in done if each[0]), done[-1])


def install(environment, *jobs, total=1):
    """Run pip as above and refuse to go on if it fails."""
    status, tail, arguments = pip(environment, *jobs, total=total)
    if status:
        raise failure(environment, arguments, tail)


def install_pins(environment, pin_file):
    """Install a pin file in two halves at once: pip unpacks on one core alone.

    pip itself comes first and alone: a pip that is replaced while it runs breaks off.
    """
    every = pins(pin_file)
    installer = [pin for pin in every if name_of(pin) == "pip"]
    others = [pin for pin in every if pin not in installer]
    if installer:
        install(environment, installer)
    halves = [half for half in (others[::2], others[1::2]) if half]
    install(environment, *halves, total=len(others))


def failure(environment, arguments, tail, hint=""):
    """Say what pip could not install, and why."""
    what = arguments[-1] if len(arguments) < 5 else f"{len(arguments)} packages"
    return Refusal(
        f"pip could not install {what}. Its last lines:\n  "
        + "\n  ".join(tail)
        + f"\nThe whole log: {environment.log}\n{hint}"
        "Once the cause is gone, call make again: it goes on from the downloads that pip has kept."
    )


def install_cpu_torch(environment, requirement):
    """Install the CPU build of torch from pip's own sources, or else from PyTorch's CPU index."""
    arguments, hint = [requirement], ""
    status, tail, _ = pip(environment, arguments)
    if status and any(NOT_FOUND + "torch" in line for line in tail):
        report(f"    pip's own sources do not have it: asking {CPU_TORCH_INDEX}")
        arguments = ["--index-url", CPU_TORCH_INDEX, requirement]
        hint = "A folder with its wheel will do as well: PIP_FIND_LINKS=/that/folder make setup\n"
        status, tail, _ = pip(environment, arguments)
    if status:
        raise failure(environment, arguments, tail, hint)


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
        if subprocess.call(command, env=pip_environment(sys.executable)):
            raise Refusal(
                f"The pip of this Python ({sys.executable}) could not put a pip into .venv; what "
                "it said stands above. It takes pip 22.3 or newer: "
                f"{sys.executable} -m pip install --upgrade pip"
            )


def check_torch(environment, profile):
    """Refuse a torch without CUDA in the GPU profile, and one with it in the CPU profile."""
    (facts,) = environment.folder.glob("lib/python*/site-packages/torch/version.py")
    torch = runpy.run_path(str(facts))
    if bool(torch["cuda"]) != (profile == "gpu"):
        built, needed = ("with", "without") if torch["cuda"] else ("without", "with")
        raise Refusal(
            f"pip has installed torch {torch['__version__']}, built {built} CUDA, and the "
            f"{profile} profile needs one {needed} CUDA.\nOne of pip's sources holds that build; "
            "`pip config list` shows them. Take that source out, then call make again."
        )


def fill(environment, profile, dropped, added=()):
    """Bring an environment to the pins of a profile and of extras; take dropped packages out."""
    pin_file = environment.pin_file(profile)
    if dropped:
        report(f"  taking out {', '.join(dropped)}")
        command = [str(environment.python), "-m", "pip", "uninstall", "--yes", "--quiet"]
        subprocess.run([*command, *dropped], check=True, env=environment.pip_variables())
    report("  step 1 of 4: the installer")
    install(environment, [pin_for("pip", pin_file), pin_for("setuptools", pin_file)], total=2)
    report("  step 2 of 4: torch")
    torch = pin_for("torch", pin_file)
    if profile == "cpu":
        install_cpu_torch(environment, torch)
    else:
        install(environment, [torch])
    check_torch(environment, profile)
    report("  step 3 of 4: vLLM, JupyterLab and what they need")
    install_pins(environment, pin_file)
    if added:
        report("    and the optional extras")
        install(environment, list(added), total=len(added))
    report("  step 4 of 4: the helpers of the notebooks")
    if profile == "cpu":
        # Built from a copy, so that the build leaves nothing in the repository.
        shim = environment.folder / "vllm-shim"
        shutil.rmtree(str(shim), ignore_errors=True)
        shutil.copytree(str(environment.repository / "requirements" / "vllm-shim"), str(shim))
        install(environment, ["--no-build-isolation", "--force-reinstall", str(shim)])
    install(environment, ["--no-build-isolation", "--editable", str(environment.repository)])
    settings = environment.folder / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(LAB_SETTINGS))


def choose_profile(asked, machine, already_there=0):
    """Choose the build of vLLM: that for a GPU where nothing stands in its way.

    Args:
        asked: "cpu" or "gpu" where the choice was made; None to choose by looking.
        machine: The Machine to judge.
        already_there: Bytes of disk that the new environment takes over.

    Raises:
        Refusal: The GPU was asked for and is certain not to serve.
    """
    if asked == "cpu":
        return asked
    driver = ask_driver()
    obstacles = list(gpu_obstacles(machine, driver))
    if asked == "gpu":
        for text, certain in obstacles:
            if certain:
                raise Refusal(
                    f"vLLM's GPU build cannot work here: {text}\n"
                    "Without the GPU: make PROFILE=cpu lab"
                )
            report(f"Warning: vLLM's GPU build may not work here: {text}")
        return asked
    if driver == NO_DRIVER:
        return "cpu"
    try:
        check_room(machine, "gpu", already_there)
    except Refusal as refusal:
        obstacles.append((str(refusal).splitlines()[0], True))
    if obstacles:
        why = " ".join(text for text, _ in obstacles)
        report(f"NVIDIA's driver is here, but vLLM's GPU build will not do: {why}")
    return "cpu" if obstacles else "gpu"


def set_up(environment, profile=None, this_python=False, machine=None, extras=()):
    """Make the environment ready.

    Args:
        environment: The Environment to build or to bring up to date.
        profile: "cpu" or "gpu"; None keeps the one that is there, or chooses by looking.
        this_python: Rebuild an environment of another Python version than the running one.
        machine: What to judge instead of this machine.
        extras: Optional extras to have as well; those that are there stay.

    Returns:
        Whether there was anything to do.
    """
    machine = machine or this_machine()
    running = platform.python_version()
    stamp = environment.read_stamp()
    version = environment.python_version()
    there = stamp.get("profile")
    usable = (
        there is not None
        and profile in (None, there)
        # The scripts inside name the folder they were installed in: a moved clone starts anew.
        and stamp.get("folder") == str(environment.folder)
        and version is not None
        and (not this_python or version.split(".")[:2] == running.split(".")[:2])
        and environment.python_runs()
    )
    extras = set(extras) | set(stamp.get("extras", ()))
    extras &= set(optional_extras(environment.repository))
    if usable and stamp.get("key") == stamp_key(environment.repository, there, version, extras):
        if (profile, there) == (None, "cpu"):
            driver = ask_driver()
            if driver.capabilities and not list(gpu_obstacles(machine, driver)):
                report(
                    "An NVIDIA GPU is here, but .venv holds the CPU build of vLLM. "
                    "To change that: make PROFILE=gpu setup"
                )
        return False
    check_venv_module()
    already_there = environment.size() if environment.folder.exists() else 0
    wanted = choose_profile(profile or there, machine, already_there)
    check_room(machine, wanted, already_there)
    if wanted == "cpu":
        check_cpu(machine)
    added = extra_pins(environment.repository, wanted, extras)
    names = sorted(map(name_of, [*pins(environment.pin_file(wanted)), *added]))
    began = time.monotonic()
    if usable:
        report(f"The pins have changed: bringing .venv ({wanted} profile) up to date.")
        dropped = sorted(set(map(name_of, stamp.get("packages", ()))) - set(names))
        environment.stamp.unlink()
    else:
        why = "rebuilding" if environment.folder.exists() else "building"
        report(
            f"Setting up: {why} .venv, {wanted} profile, Python {running}, {len(names)} packages. "
            "This takes a few minutes the first time."
        )
        dropped = []
        create(environment)
        version = running
    fill(environment, wanted, dropped, added)
    key = stamp_key(environment.repository, wanted, version, extras)
    environment.write_stamp(key, wanted, names, extras)
    seconds, size = time.monotonic() - began, environment.size() / 1e9
    report(f"Ready after {seconds:.0f} s; .venv takes {size:.1f} GB.")
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
    known = sorted(optional_extras(repository))
    parser.add_argument(
        "--extras",
        default=[],
        type=lambda text: known if text == "all" else text.split(","),
        help=f"optional extras to install too, with commas: {', '.join(known)}; or all",
    )
    parser.add_argument(
        "--probe", action="store_true", help="only tell by the exit status if this Python will do"
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.extras) - set(known))
    if unknown:
        parser.error(f"unknown extras: {', '.join(unknown)}; there are: {', '.join(known)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_python(version)
        if options.probe:
            check_venv_module()
            return 0
        machine = machine or this_machine()
        check_platform(machine)
        with alone(repository):
            set_up(
                Environment(repository),
                options.profile,
                options.this_python,
                machine,
                options.extras,
            )
    except Refusal as refusal:
        print(f"\nSet-up stopped. {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted. The next call starts it again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
