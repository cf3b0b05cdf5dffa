"""An environment of its own for other people's tools, built from wheels that this test writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_setup import write_wheel

import setup_env
from helpers.errors import InputError, SideEnvironmentError
from helpers.server import side_environment

REPOSITORY = Path(__file__).parents[2]
PINS = "requirements/environments"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the scripts of ours and the pins of one tiny package."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(REPOSITORY / "scripts", folder / "scripts")
    (folder / PINS).mkdir(parents=True)
    (folder / "wheels").mkdir()
    for version in ("1", "2"):
        write_wheel(folder / "wheels", "alpha", version, {"alpha.py": f"v = {version}".encode()})
    (folder / PINS / "tiny.txt").write_text("# why\nalpha==1\n")
    (folder / PINS / "broken.txt").write_text("nowhere==1\n")
    return folder


@pytest.fixture(autouse=True)
def no_index(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(clone / "wheels"))


def version_in(python: str) -> str:
    code = "import alpha; print(alpha.v)"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def test_it_is_built_on_first_use_found_again_and_renewed_with_its_pins(clone, capfd) -> None:
    python = side_environment("tiny", clone)
    assert python == str(clone / ".envs/tiny/.venv/bin/python")
    said = capfd.readouterr().out
    assert "Building the environment tiny: 1 packages" in said and "Ready after" in said
    assert version_in(python) == "1"

    assert side_environment("tiny", clone) == python
    assert capfd.readouterr().out == "", "where all is ready nothing is said"

    (clone / PINS / "tiny.txt").write_text("alpha==2\n")
    assert version_in(side_environment("tiny", clone)) == "2"


def test_a_package_that_cannot_be_had_ends_in_pips_words_and_what_to_do(clone, capfd) -> None:
    with pytest.raises(SideEnvironmentError) as failed:
        side_environment("broken", clone)
    assert "The environment broken could not be built. pip could not install" in str(failed.value)
    assert "No matching distribution found for nowhere==1" in str(failed.value)
    assert "Once the cause is gone" in str(failed.value)
    assert not (clone / ".envs/broken/.venv/setup-stamp.json").exists()


def test_an_unknown_name_is_refused_with_the_names_that_there_are(clone) -> None:
    with pytest.raises(InputError, match=r"no environment 'tinny'. There are: broken, tiny"):
        side_environment("tinny", clone)


def test_without_a_clone_it_says_what_to_do(tmp_path) -> None:
    with pytest.raises(SideEnvironmentError, match="Clone it"):
        side_environment("tiny", tmp_path)


@pytest.mark.parametrize("path", sorted((REPOSITORY / PINS).glob("*.txt")), ids=lambda p: p.stem)
def test_the_pins_are_exact_versions_without_addresses(path: Path) -> None:
    assert "://" not in path.read_text()
    for line in setup_env.pins(path):
        requirement = Requirement(line)
        assert requirement.url is None, line
        assert [part.operator for part in requirement.specifier] == ["=="], line
