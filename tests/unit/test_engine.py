"""Which Python's vLLM serves, and the environment that is built where a kernel has none."""

import importlib.util
import sys
from pathlib import Path

import pytest

from helpers.errors import EngineMissingError
from helpers.server import engine
from helpers.server.engine import (
    can_build_engine,
    engine_packages,
    engine_python,
    prepare_engine,
)

BUILDS = """
import pathlib
folder = pathlib.Path(__file__).parents[1] / ".venv"
folder.mkdir(exist_ok=True)
print("step 1 of 4: the installer", flush=True)
(folder / "setup-stamp.json").write_text("{}")
"""
REFUSES = """
import sys
print("Setting up", flush=True)
sys.exit("\\nSet-up stopped. Not enough disk space: 3 GB more.")
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone without an engine, seen from a kernel without vLLM."""
    monkeypatch.delenv(engine.PYTHON_VARIABLE, raising=False)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "vllm" else find_spec(name)
    )
    (tmp_path / "scripts").mkdir()
    return tmp_path


def script(clone: Path, text: str) -> None:
    (clone / "scripts" / "setup_env.py").write_text(text)


def finish(clone: Path) -> None:
    packages = clone / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (clone / ".venv" / "setup-stamp.json").write_text("{}")


def test_a_kernel_that_has_vllm_serves_itself(tmp_path, monkeypatch):
    monkeypatch.delenv(engine.PYTHON_VARIABLE, raising=False)
    finish(tmp_path)
    assert engine_python(tmp_path) == prepare_engine(tmp_path) == sys.executable


def test_a_kernel_without_vllm_uses_the_finished_environment_of_the_clone(clone, capsys):
    finish(clone)
    script(clone, "")
    assert engine_python(clone) == prepare_engine(clone) == str(clone / ".venv/bin/python")
    assert engine_packages(clone) == [str(clone / ".venv/lib/python3.11/site-packages")]
    assert capsys.readouterr().out == "", "where all is ready nothing is said"


def test_new_pins_in_a_kept_clone_renew_its_environment(clone, capsys):
    finish(clone)
    script(clone, "print('The pins have changed: bringing .venv (cpu profile) up to date.')")
    assert prepare_engine(clone) == str(clone / ".venv/bin/python")
    said = capsys.readouterr().out
    assert "up to date" in said and "has no vLLM" not in said


def test_a_folder_called_vllm_is_no_vllm(tmp_path, monkeypatch):
    monkeypatch.delenv(engine.PYTHON_VARIABLE, raising=False)
    (tmp_path / "vllm" / "docs").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [m for m in sys.modules if m.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)  # another test's import would answer for the search
    finish(tmp_path)
    assert importlib.util.find_spec("vllm") is not None, "a namespace package, as Python says"
    assert engine_python(tmp_path) == str(tmp_path / ".venv/bin/python")


def test_an_environment_that_was_not_finished_does_not_count(clone):
    finish(clone)
    (clone / ".venv" / "setup-stamp.json").unlink()
    assert engine_python(clone) == sys.executable


@pytest.mark.parametrize("named", ["~/python", " ~/python\n"])
def test_a_named_interpreter_comes_first_and_nothing_is_built(clone, monkeypatch, named):
    finish(clone)
    script(clone, REFUSES)
    monkeypatch.setenv("HOME", "/some")
    monkeypatch.setenv(engine.PYTHON_VARIABLE, named)
    assert engine_python(clone) == prepare_engine(clone) == "/some/python"
    assert not can_build_engine(clone)


def test_the_environment_is_built_once_and_shows_its_progress(clone, capsys):
    script(clone, BUILDS)
    assert prepare_engine(clone) == str(clone / ".venv/bin/python")
    said = capsys.readouterr().out
    assert "beside the kernel's" in said and "step 1 of 4" in said
    assert engine_python(clone) == str(clone / ".venv/bin/python"), "found again"


def test_a_set_up_that_fails_says_why(clone):
    script(clone, REFUSES)
    with pytest.raises(EngineMissingError, match=r"could not be built\. Not enough disk space"):
        prepare_engine(clone)


def test_only_where_there_is_none_an_engine_would_be_built(clone, monkeypatch):
    assert not can_build_engine(clone)
    script(clone, BUILDS)
    assert can_build_engine(clone)
    monkeypatch.undo()
    assert not can_build_engine(clone), "this kernel has a vLLM"


def test_without_a_clone_it_says_how_to_get_one(clone):
    with pytest.raises(EngineMissingError, match=r"Clone it.*SCORE_SERVER_PYTHON"):
        prepare_engine(clone)


def test_an_interrupt_ends_the_install_too(clone, monkeypatch):
    script(clone, "import time\nprint('step 1', flush=True)\ntime.sleep(600)\n")

    def interrupted(line: str, end: str = "\n") -> None:
        if line.startswith("step 1"):
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_engine(clone)
