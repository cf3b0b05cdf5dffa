"""The pins: they hold on every supported Python and processor, and pyproject.toml leads to them."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lock
import setup_env

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROFILES = pytest.mark.parametrize("profile", ["cpu", "gpu"])


def pin_file(profile: str) -> Path:
    return REPOSITORY / "requirements" / f"{profile}.txt"


def pins_in(profile: str, environment: dict[str, str]) -> dict[str, Requirement]:
    """The pins that apply in an environment."""
    pins = [Requirement(line) for line in setup_env.pins(pin_file(profile))]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    return {canonicalize_name(pin.name): pin for pin in pins}


# What holds without a network: the requirements that the installed packages have on record.


@PROFILES
def test_the_pins_satisfy_what_the_installed_packages_require(profile: str) -> None:
    left_out = set(PROJECT["tool"]["profiles"][profile]["leave-out"])
    installed = {
        canonicalize_name(found.metadata["Name"]): found
        for found in importlib.metadata.distributions()
    }
    broken, looked_at = set(), set()
    for environment in lock.ENVIRONMENTS:
        pins = pins_in(profile, environment)
        for name, pin in pins.items():
            found = installed.get(name)
            (exact,) = pin.specifier
            if found is None or found.version != exact.version:
                continue
            looked_at.add(name)
            for text in found.requires or ():
                wanted = Requirement(text)
                asked_for = canonicalize_name(wanted.name)
                if asked_for in left_out or "extra" in str(wanted.marker):
                    continue
                if wanted.marker is None or wanted.marker.evaluate(environment):
                    given = pins.get(asked_for)
                    versions = [each.version for each in (given.specifier if given else ())]
                    if not any(wanted.specifier.contains(v, True) for v in versions):
                        broken.add(f"{pin} requires {wanted}, and the pin is {given}")
    assert not broken
    assert len(looked_at) > 200


def test_the_record_would_show_a_pin_that_breaks_a_newer_python() -> None:
    """vLLM's bound on setuptools, which stood behind an environment.yml that had no solution."""
    bound = Requirement('setuptools<81.0.0,>=78.1.1; python_version > "3.11"')
    newer = [e for e in lock.ENVIRONMENTS if bound.marker.evaluate(e)]
    assert {e["python_version"] for e in newer} == {"3.12", "3.13"}
    for environment in newer:
        (pin,) = pins_in("gpu", environment)["setuptools"].specifier
        assert pin.version in bound.specifier


# What uv says.


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install uv into a folder of its own, as `make lock` does; return that folder."""
    folder = tmp_path_factory.mktemp("uv")
    (wanted,) = re.findall(r"'(uv\S*)'", (REPOSITORY / "Makefile").read_text())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"uv cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    return folder


@PROFILES
def test_resolving_pyproject_leads_to_the_pins_on_every_machine(
    profile: str, uv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(uv))
    try:
        due = lock.lock(profile, PROJECT, seed=pin_file(profile).read_text())
    except SystemExit as error:
        if "Failed to fetch" in str(error):
            pytest.skip(f"the package index cannot be reached: {error}")
        raise
    (tmp_path / "due").write_text(due)
    stale = set(setup_env.pins(tmp_path / "due")) ^ set(setup_env.pins(pin_file(profile)))
    assert not stale, "make lock LOCK_FLAGS=--keep"


def test_a_pin_that_no_python_can_have_stops_the_lock(
    uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(uv))
    project = {
        "project": {"dependencies": ["packaging==26.3", "packaging<26"]},
        "tool": {"profiles": {"cpu": {"extras": [], "leave-out": []}}},
    }
    project["project"]["optional-dependencies"] = {}
    with pytest.raises(SystemExit, match="uv could not resolve"):
        lock.lock("cpu", project)


def test_markers_are_shortened_to_what_tells_the_supported_machines_apart() -> None:
    linux = "(platform_machine == 'aarch64' or platform_machine == 'x86_64') and sys_platform == "
    assert lock.short_marker(linux + "'linux'") == ""
    assert lock.short_marker("implementation_name != 'PyPy'") == ""
    older = "python_full_version < '3.12' and sys_platform == 'linux'"
    assert lock.short_marker(older) == ' ; python_version < "3.12"'
    intel = "platform_machine == 'x86_64' and sys_platform == 'linux'"
    assert lock.short_marker(intel) == ' ; platform_machine == "x86_64"'
    both = "platform_machine == 'x86_64' and python_full_version >= '3.13'"
    assert lock.short_marker(both) == f" ; {both}"


def test_uv_is_told_what_pip_is_set_to_unless_it_was_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "5")
    told = lock.uv_environment(
        {"index-url": "https://mirror.invalid/simple", "timeout": "60", "retries": "3"}
    )
    assert told["UV_DEFAULT_INDEX"] == "https://mirror.invalid/simple"
    assert told["UV_HTTP_TIMEOUT"] == "5"
