"""The pins of the optional extras: whole, exact, and on top of the profiles without moving them."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lock
import setup_env

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS = setup_env.optional_extras(REPOSITORY)
each_extra = pytest.mark.parametrize("extra", EXTRAS)


def pinned(path: Path) -> dict[str, Requirement]:
    lines = map(Requirement, setup_env.pins(path))
    return {canonicalize_name(pin.name): pin for pin in lines}


def profile_pins(profile: str) -> dict[str, Requirement]:
    return pinned(REPOSITORY / "requirements" / f"{profile}.txt")


def test_the_set_up_reads_the_same_extras_as_the_lock() -> None:
    assert list(EXTRAS) == PROJECT["tool"]["optional-extras"]["names"]
    assert set(EXTRAS) <= PROJECT["project"]["optional-dependencies"].keys()


@each_extra
def test_an_extra_pins_exact_versions_that_its_profiles_do_not_pin(extra: str) -> None:
    pins = pinned(EXTRAS[extra])
    assert pins
    assert not pins.keys() & profile_pins("cpu").keys()
    assert "://" not in EXTRAS[extra].read_text()
    for pin in pins.values():
        (part,) = pin.specifier
        assert part.operator == "==", str(pin)


@each_extra
def test_what_pyproject_asks_for_is_pinned_within_its_bounds(extra: str) -> None:
    pins = {**profile_pins("cpu"), **pinned(EXTRAS[extra])}
    for text in PROJECT["project"]["optional-dependencies"][extra]:
        wanted = Requirement(text)
        (part,) = pins[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(part.version, prereleases=True), text


@each_extra
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_with_an_extra_the_installed_packages_have_what_they_require(
    extra: str, profile: str
) -> None:
    added = [Requirement(p) for p in setup_env.extra_pins(REPOSITORY, profile, {extra})]
    asked = {canonicalize_name(Requirement(t).name): Requirement(t).extras
             for t in PROJECT["project"]["optional-dependencies"][extra]}  # fmt: skip
    missing, looked_at = [], 0
    for environment in lock.ENVIRONMENTS:
        every = {**profile_pins(profile), **{canonicalize_name(p.name): p for p in added}}
        for pin in added:
            name = canonicalize_name(pin.name)
            try:
                found = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            (part,) = pin.specifier
            if found.version != part.version:
                continue
            looked_at += 1
            for text in found.requires or ():
                need = Requirement(text)
                marks = [{**environment, "extra": e} for e in ("", *asked.get(name, ()))]
                if need.marker is not None and not any(need.marker.evaluate(m) for m in marks):
                    continue
                given = every.get(canonicalize_name(need.name))
                held = [p.version for p in given.specifier] if given else []
                if not any(need.specifier.contains(version, True) for version in held):
                    missing.append(f"{pin} requires {need}, and the pin is {given}")
    if not looked_at:
        pytest.skip(f"the extra {extra} is not installed: make setup EXTRAS={extra}")
    assert not missing


def test_the_stamp_of_an_environment_changes_with_its_extras() -> None:
    plain = setup_env.stamp_key(REPOSITORY, "cpu", "3.11.9")
    more = setup_env.stamp_key(REPOSITORY, "cpu", "3.11.9", set(EXTRAS))
    assert plain != more


def test_a_lock_that_would_move_a_pin_of_the_profile_stops() -> None:
    with pytest.raises(SystemExit, match="would move a pin of cpu: numpy==3"):
        lock.beyond(["numpy==3", "    # via x"], "numpy==2\n    # via x\n", "cpu")


def test_an_unknown_extra_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        setup_env.main(["--extras", "nothing"])
    assert ended.value.code == 2
    assert "unknown extras: nothing" in capsys.readouterr().err
