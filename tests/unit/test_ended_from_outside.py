"""A run of the tests that is ended from outside ends what its fixtures started."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TESTS = """
import time
import pytest

@pytest.fixture
def server(tmp_path_factory):
    yield
    print("ended", flush=True)

def test_that_takes_its_time(server):
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_run_that_is_terminated_runs_the_ends_of_its_fixtures(tmp_path):
    (tmp_path / "test_slow.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    folders = [str(REPOSITORY / name) for name in (".", "tests", "scripts")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-m", "pytest", "-s", "-p", "conftest", str(tmp_path)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=-1, text=True) as run:
        assert run.stdout is not None
        assert any("begun" in line for line in iter(run.stdout.readline, ""))
        run.terminate()
        assert "ended" in run.stdout.read()
    assert run.returncode != 0
