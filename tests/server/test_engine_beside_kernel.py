"""A kernel with a numpy and a torch of its own, as on a hosted platform: vLLM serves beside it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import setup_env
from badges import install_source
from helpers.server.engine import REPOSITORY

OLDER_NUMPY = "2.1.3"
OTHER_TORCH = "2.4.1"
# The first code cell of a notebook, given as the first argument, and then what a learner does.
FIRST_CELL = """
import importlib.util, sys
from IPython.core.interactiveshell import InteractiveShell
assert importlib.util.find_spec("helpers") is None, "the cell shall have something to do"
InteractiveShell.instance().run_cell(sys.argv[1]).raise_error()
import helpers
print("helpers", helpers.__file__)
"""
LESSON = """
import numpy, psutil, torch
assert importlib.util.find_spec("vllm") is None, "this kernel must have no vLLM"
from helpers import ScoreServer
server = ScoreServer("offline-reranker", port=0)
print("chosen", server.choices.device.value, len(server.choices._repr_html_()), server.model)
with server:
    with server.client() as client:
        result = client.score("What is the capital of France?", "The capital of France is Paris.")
    program = psutil.Process(server.pid).cmdline()[0]
print("score", result.score, numpy.__version__, torch.__version__, program)
"""


def test_vllm_serves_a_kernel_whose_packages_stay_as_they_are(state: Path, tmp_path: Path) -> None:
    made = setup_env.Environment(REPOSITORY)
    stamp = made.read_stamp()
    current = (stamp.get("profile") or "cpu", made.python_version())
    if stamp.get("key") != setup_env.stamp_key(REPOSITORY, *current):
        pytest.skip("`.venv` is not there or not up to date, and would be renewed: run make test")
    packages = kernel_environment(tmp_path / "kernel")
    before = digests(packages)
    out = run(tmp_path / "kernel", FIRST_CELL + LESSON, "none", REPOSITORY / "notebooks")
    assert re.search(r"chosen (cpu|gpu) \d{3,} offline-reranker", out)
    score, numpy, torch, program = re.search(r"score" + r" (\S+)" * 4, out).groups()
    assert float(score) > 0.5
    assert (numpy, torch) == (OLDER_NUMPY, OTHER_TORCH)
    assert Path(program).is_relative_to(REPOSITORY / ".venv"), program
    # The collection's own entry is new; what was there is as it was.
    assert digests(packages).items() >= before.items()


def test_a_notebook_opened_by_its_badge_fetches_the_rest(tmp_path: Path) -> None:
    kernel_environment(tmp_path / "kernel")
    origin = tmp_path / "origin"
    for name in ("src", "notebooks"):
        shutil.copytree(REPOSITORY / name, origin / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, origin)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    for words in (("init", "-b", "main"), ("add", "."), (*identity, "commit", "-m", "All")):
        subprocess.run(["git", "-C", origin, *words], check=True, capture_output=True)
    # Git reads the address of the published copy, and goes to this machine instead.
    redirected = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/some-body/a.copy",
    }
    platform = tmp_path / "content"
    platform.mkdir()
    out = run(tmp_path / "kernel", FIRST_CELL, "some-body/a.copy", platform, **redirected)
    assert f"helpers {platform / 'a.copy/src/helpers/__init__.py'}" in out


def run(environment: Path, code: str, repo: str, folder: Path, **variables: str) -> str:
    """Run code with an environment's Python and return its output; `repo` is the published copy."""
    outside = ("SCORE_SERVER_PYTHON", "PYTHONPATH", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if name not in outside}
    done = subprocess.run(
        [environment / "bin/python", "-B", "-c", code, install_source(repo, "main")],
        cwd=folder,
        env=inherited | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kernel_environment(folder: Path) -> Path:
    """Make an environment with what `helpers` needs, another numpy and another torch.

    The other packages are links to this environment's; IPython and pip are what every kernel has.
    Of torch there is only the name: nothing may import it, and nothing may replace it.
    """
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    needed = set.union(*map(needed_by, ("vllm-score-notebooks", "ipython", "pip")))
    for name in needed - {"numpy", "vllm-score-notebooks"}:
        for top in top_files(name):
            if not (packages / top.name).exists():
                (packages / top.name).symlink_to(top)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    done = subprocess.run([*pip, packages, f"numpy=={OLDER_NUMPY}"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index has numpy {OLDER_NUMPY} here: {done.stderr[-200:]}")
    (packages / "torch").mkdir()
    (packages / "torch/__init__.py").write_text(f"__version__ = '{OTHER_TORCH}'\n")
    return packages


def needed_by(name: str) -> set[str]:
    """Return a distribution and all that it needs, on this machine and without extras."""
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        for text in importlib.metadata.requires(current) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def top_files(name: str) -> set[Path]:
    """Return the files and folders that a distribution has put into site-packages."""
    distribution = importlib.metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    return {Path(distribution.locate_file(top)) for top in tops - {"__pycache__"}}


def digests(packages: Path) -> dict[str, str]:
    """Return the hash of every file of the environment's own, links left out."""
    return {
        str(path.relative_to(packages)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in packages.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
