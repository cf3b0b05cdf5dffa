"""What makes a server's start shorter: the folder that its PYTHONPATH names."""

import os
import subprocess
import sys

from helpers.command import QUICK_START


def python(code, *paths):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (QUICK_START, *paths)))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_scikit_learn_counts_as_not_installed():
    code = "import importlib.util; print(importlib.util.find_spec('sklearn'))"
    assert python(code).stdout.strip() == "None"


def test_the_garbage_collector_runs_less_often():
    assert python("import gc; print(gc.get_threshold()[0])").stdout.strip() == "10000"


def test_the_environments_own_module_of_this_name_keeps_its_turn(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    assert python("print('then the program')", tmp_path).stdout.split("\n")[0] == "theirs"


def test_an_environment_without_one_starts_in_silence():
    done = python("pass")
    assert (done.stdout, done.stderr) == ("", "")
