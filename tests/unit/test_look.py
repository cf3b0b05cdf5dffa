"""What the machine check sees, and that it sees with whatever packages there are."""

import runpy
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from helpers.server import look
from helpers.server.check import check_machine
from helpers.server.look import ask_set_up, numbers, unmet_requirements
from helpers.server.machine import Driver, Gpu

REPOSITORY = Path(__file__).parents[2]
FLOORS = runpy.run_path(str(REPOSITORY / "scripts" / "floors.py"))
GOOD = FLOORS["Machine"](
    system="Linux",
    architecture="x86_64",
    libc=("glibc", (2, 36)),
    cpu_flags=frozenset({"avx2"}),
    free_disk=100e9,
    free_memory=16e9,
    compiler=True,
    python_header=True,
)


def driver(name="Tesla T4", capability=(7, 5), version="580.82.07"):
    return Driver(version, (Gpu(0, "GPU-1", name, capability, 16 << 30, 15 << 30),))


# What the set-up says


def test_a_machine_that_fits_has_nothing_in_its_way():
    said = ask_set_up(driver(), GOOD)
    assert said.obstacles == () and said.refused == {"CPU": said.lacking, "GPU": ""}


@pytest.mark.parametrize(
    ("seen", "changes", "words"),
    [
        (driver(version="550.54.15"), {}, "580 or newer, and this one is 550.54.15"),
        (driver("Tesla P100-PCIE-16GB", (6, 0)), {}, "this GPU has 6.0"),
        (driver("Tesla V100-SXM2-16GB", (7, 0)), {}, "this GPU has 7.0"),
        (driver(), {"compiler": False}, "no C compiler"),
        (driver(), {"python_header": False}, "Python.h"),
        (driver(), {"libc": ("glibc", (2, 28))}, "glibc 2.31"),
        (driver(), {"libc": ("glibc", (2, 31)), "architecture": "aarch64"}, "glibc 2.34"),
        (Driver(fault="nvidia-smi says: Driver/library version mismatch"), {}, "mismatch"),
    ],
)
def test_each_floor_of_the_gpu_build_is_told_in_the_set_ups_words(seen, changes, words):
    said = ask_set_up(seen, GOOD._replace(**changes))
    assert any(words in text for text, _ in said.obstacles), said


@pytest.mark.parametrize(
    ("changes", "profiles"),
    [
        ({"free_disk": 10e9}, ["GPU"]),
        ({"free_disk": 1e9}, ["CPU", "GPU"]),
        ({"free_memory": 1e9}, ["CPU", "GPU"]),
        ({"libc": ("glibc", (2, 28))}, ["CPU", "GPU"]),
        ({"libc": ("musl", (1, 2))}, ["CPU", "GPU"]),
        ({"system": "Darwin", "architecture": "arm64"}, ["CPU", "GPU"]),
        ({"cpu_flags": frozenset({"sse4_2"})}, ["CPU"]),
    ],
)
def test_what_the_set_up_would_refuse_is_asked_before_it_is_started(changes, profiles):
    said = ask_set_up(Driver(), GOOD._replace(**changes))
    assert [profile for profile, why in said.refused.items() if why] == profiles


def test_without_a_clone_the_set_up_says_nothing(tmp_path):
    assert ask_set_up(driver(), repository=tmp_path) == look.NOTHING_SAID


# What packages there are


def test_the_requirements_are_those_of_the_project(tmp_path):
    assert list(unmet_requirements()) == []
    (tmp_path / "pyproject.toml").write_text(
        "[project]\ndependencies = ["
        "'requests>=99', 'no-such-package>=1', 'numpy>=1.0', 'pandas>=2.1.4.5']"
    )
    unmet = dict(unmet_requirements(tmp_path))
    assert set(unmet) == {"requests>=99", "no-such-package>=1"}
    assert unmet["no-such-package>=1"] == "missing" and numbers(unmet["requests>=99"])


def test_every_requirement_of_the_project_is_looked_at(monkeypatch):
    def missing(name):
        raise look.importlib.metadata.PackageNotFoundError(name)

    text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    stated = tomllib.loads(text)["project"]["dependencies"]
    monkeypatch.setattr(look.importlib.metadata, "version", missing)
    assert [requirement for requirement, _ in unmet_requirements()] == stated


def test_without_a_clone_the_installed_package_says_what_it_needs(tmp_path):
    assert list(unmet_requirements(tmp_path)) == []


@pytest.mark.parametrize(
    ("version", "floor", "is_older"),
    [
        ("7.7.1", "8.1", True),
        ("8.1", "8.1.0", False),
        ("8", "8.0", False),
        ("1.26.20", "2.2", True),
        ("2.10.0", "2.9", False),
        ("3.0rc1", "2.1", False),
        ("2024.1", "24", False),
    ],
)
def test_versions_are_compared_as_numbers(version, floor, is_older):
    assert (numbers(version) < numbers(floor)) is is_older


@pytest.mark.parametrize(
    "package",
    [
        *("pyarrow", "ipywidgets", "tqdm", "safetensors", "prometheus_client", "filelock"),
        *("pandas", "matplotlib", "requests", "psutil", "platformdirs", "jinja2", "urllib3"),
        "numpy",
    ],
)
def test_the_check_works_without_any_package_and_names_it(package, tmp_path):
    # A finder before all others hides the package and what the system knows of it.
    code = f"""
import importlib.abc, importlib.metadata, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Hidden())
version = importlib.metadata.version
def known(name):
    if name.replace("-", "_") == {package!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = known
from helpers import check_machine
check = check_machine()
print([row for row in check.rows if row.name == "Packages"][0])
print(len(check.rows), repr(check)[:0])
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "SCORE_STATE_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert told.returncode == 0, told.stderr
    assert f"found='{package.replace('_', '-')} missing'" in told.stdout


# The whole


def test_a_remote_server_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("SCORE_SERVER_URL", f" http://me:secret@127.0.0.1:{port} ")
    check = check_machine()
    assert [row.name for row in check.to_fix] == ["Score server"]
    assert "SCORE_SERVER_URL" in check.to_fix[0].advice
    assert "secret" not in repr(check) + check._repr_html_()


def test_the_real_machine_is_checked_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SCORE_SERVER_PYTHON", str(tmp_path / "no-python"))
    check = check_machine()
    rows = {row.name: row for row in check.rows}
    assert "vLLM" in [row.name for row in check.to_fix]
    assert ".".join(map(str, sys.version_info[:3])) == rows["Python"].found
    assert "none runs yet" in rows["Score server"].found
    assert rows["Disk"].state == "ok"


def test_a_state_folder_that_cannot_be_written_is_a_row_of_the_check(monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", "/proc/no-such-folder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (row,) = [row for row in check_machine().rows if row.name == "State folder"]
    assert row.state == "fix" and "SCORE_STATE_DIR" in row.found + row.advice


def test_the_places_of_models_are_looked_at_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HOME", "/dev/shm/hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rooms = {room.use: room for room in look.look_around().rooms}
    assert set(rooms) == {"state", "hub"}
    assert rooms["hub"].device == Path("/dev/shm").stat().st_dev != rooms["state"].device


def test_the_names_of_the_variables_are_those_of_the_server():
    from helpers.server import server

    assert (look.URL_VARIABLE, look.MODEL_VARIABLE) == (server.URL_VARIABLE, server.MODEL_VARIABLE)


def test_what_is_seen_holds_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SCORE_SERVER_URL", "http://me:s3cret@127.0.0.1:9")
    assert "s3cret" not in repr(look.look_around())
