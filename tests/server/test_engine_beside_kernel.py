"""A notebook that was opened by its badge, in a kernel with packages of its own.

That notebooks 01 to 13 run whole in such a kernel is seen where nbval runs them: `conftest.py` in
the repository's root gives them one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from badges import install_source
from helpers.server.engine import REPOSITORY
from hosted_kernel import OUTSIDE, NotHereError, kernel_environment

# The first code cell of a notebook, given as the first argument.
FIRST_CELL = """
import importlib.util, sys
from IPython.core.interactiveshell import InteractiveShell
assert importlib.util.find_spec("helpers") is None, "the cell shall have something to do"
InteractiveShell.instance().run_cell(sys.argv[1]).raise_error()
import helpers
print("helpers", helpers.__file__)
"""


def test_a_notebook_opened_by_its_badge_fetches_the_rest(tmp_path: Path) -> None:
    try:
        kernel_environment(tmp_path / "kernel")
    except NotHereError as reason:
        pytest.skip(str(reason))
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
    inherited = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
    done = subprocess.run(
        [environment / "bin/python", "-c", code, install_source(repo, "main")],
        cwd=folder,
        env=inherited | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
