"""What makes a server's start shorter: the folder that its PYTHONPATH names."""

import os
import subprocess
import sys

import pytest

from helpers.server.command import QUICK_START

ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
# Who asks for a way to start processes is told by the name of the module that asks.
ASK = """
import multiprocessing
asks = {"__name__": %r, "multiprocessing": multiprocessing}
print(eval("multiprocessing.get_context('spawn').get_start_method()", asks))
"""
LISTEN = """
import os, signal, socket
server = socket.socket()
server.bind(("127.0.0.1", 0))
address = server.getsockname()
child = os.fork()
if child == 0:
    signal.pause()
server.listen()  # vLLM, too, only does so when its engine is there
server.close()
try:
    socket.create_connection(address, timeout=5)
    print("still open")
except ConnectionRefusedError:
    print("closed")
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def python(code, *paths, **variables):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (QUICK_START, *paths)))}
    environment |= variables
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_scikit_learn_counts_as_not_installed():
    code = "import importlib.util; print(importlib.util.find_spec('sklearn'))"
    assert python(code).stdout.strip() == "None"


def test_the_garbage_collector_runs_less_often():
    assert python("import gc; print(gc.get_threshold()[0])").stdout.strip() == "10000"


@pytest.mark.parametrize(
    ("asks", "variables", "way"),
    [
        ("vllm.utils.system_utils", ONE_PROCESS, "fork"),
        ("vllm.utils.system_utils", {}, "spawn"),
        ("torch.multiprocessing", ONE_PROCESS, "spawn"),
    ],
)
def test_only_vllm_on_a_cpu_forks_where_it_would_spawn(asks, variables, way):
    assert python(ASK % asks, **variables).stdout.strip() == way


def test_the_port_is_closed_when_the_first_process_leaves_it_and_the_fork_lives():
    assert python(LISTEN).stdout.strip() == "still open"
    assert python(LISTEN, **ONE_PROCESS).stdout.strip() == "closed"


def test_the_environments_own_module_of_this_name_keeps_its_turn(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    assert python("print('then the program')", tmp_path).stdout.split("\n")[0] == "theirs"


def test_an_environment_without_one_starts_in_silence():
    done = python("pass")
    assert (done.stdout, done.stderr) == ("", "")
