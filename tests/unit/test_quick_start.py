"""What makes a server's start shorter on a CPU: the file that runs vLLM's command there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machines import CPU_BF16, CPU_ENGINE, T4, engine

from helpers.server.asked import Asked
from helpers.server.command import QUICK_START, build_command
from helpers.server.plan import decide

# A vLLM that only says how it would start its engine, and what then is left of its port.
PLAYED = {
    "utils/system_utils.py": """
import multiprocessing, os
def get_mp_context():
    if os.environ.get("IN_WSL"):
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    return multiprocessing.get_context(os.environ.get("VLLM_WORKER_MULTIPROC_METHOD", "fork"))
""",
    "entrypoints/cli/main.py": """
import gc, os, signal, socket, sys
from vllm.utils.system_utils import get_mp_context

def main():
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as on every CPU
    loading = gc.get_threshold()[0]
    print(*sys.argv, get_mp_context().get_start_method(), flush=True)
    print(loading, gc.get_threshold()[0], gc.get_freeze_count() > 1000, flush=True)
    server, local = socket.socket(), socket.socket(socket.AF_UNIX)
    server.bind(("127.0.0.1", 0))
    address = server.getsockname()
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, local.family.name.encode() if local.getsockname() == "" else b"lost")
        signal.pause()
    kept = os.read(ready, 100).decode()
    server.listen()  # vLLM, too, only does so when its engine is there
    server.close()
    try:
        socket.create_connection(address, timeout=5)
        print("still open", kept)
    except ConnectionRefusedError:
        print("closed", kept)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
""",
}


@pytest.fixture
def played(tmp_path):
    for name, code in PLAYED.items():
        path = tmp_path / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        for folder in path.relative_to(tmp_path).parents:
            if folder != Path("."):
                (tmp_path / folder / "__init__.py").touch()
    return tmp_path


def run(played, *words, **variables):
    environment = {**os.environ, "PYTHONPATH": str(played), **variables}
    environment.pop("VLLM_WORKER_MULTIPROC_METHOD", None)
    environment |= variables
    command = [sys.executable, str(QUICK_START), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_engine_is_forked_and_holds_nothing_of_the_port(played):
    said, _, port = run(played, "serve", "m", "--port", "1")
    assert said == "vllm serve m --port 1 fork"
    assert port == "closed AF_UNIX", "other sockets are left alone"


def test_what_was_loaded_is_collected_no_more_once_the_engine_starts(played):
    assert run(played, "serve", "m")[1] == "1000000 50000 True"


def test_the_grammar_of_addresses_is_not_built(played):
    main = "import jsonschema, sys\ndef main(): print(bool(sys.modules['rfc3987_syntax']))\n"
    (played / "vllm/entrypoints/cli/main.py").write_text(main)
    assert run(played) == ["False"]


def test_a_new_kind_of_model_is_looked_at_in_the_server_itself(played):
    registry = played / "vllm/model_executor/models/registry.py"
    registry.parent.mkdir(parents=True)
    registry.write_text("def _run_in_subprocess(look): return 'elsewhere'\n")
    (played / "vllm/entrypoints/cli/main.py").write_text(
        "from vllm.model_executor.models import registry\n"
        "def main(): print(registry._run_in_subprocess(lambda: 'here'))\n"
    )
    assert run(played) == ["here"]


# At some depth a call crosses the edge of a chunk, and gets one that was never touched.
FAULTS = """
import runpy, sys
from resource import RUSAGE_SELF, getrusage

def called(): pass
called.__code__ = called.__code__.replace(co_stacksize=40)  # a larger frame than that of `faults`

def faults(depth):
    if depth:
        return faults(depth - 1)
    before = getrusage(RUSAGE_SELF).ru_minflt
    for _ in range(100):
        called()
    return getrusage(RUSAGE_SELF).ru_minflt - before

def most():
    return max(map(faults, range(500)))

print(most(), runpy.run_path(sys.argv[1])["with_room"](most))
"""


def test_a_call_in_a_large_frame_gets_no_memory_from_the_system():
    command = [sys.executable, "-c", FAULTS, str(QUICK_START)]
    alone, with_room = map(int, subprocess.check_output(command, text=True).split())
    assert alone >= 100 and with_room < 50


@pytest.mark.parametrize("reason", ["IN_WSL", "VLLM_WORKER_MULTIPROC_METHOD"])
def test_where_vllm_or_the_person_insists_on_a_new_python_there_is_one(played, reason):
    assert run(played, "serve", "m", **{reason: "spawn"})[0] == "vllm serve m spawn"


def test_a_vllm_that_has_changed_starts_as_it_always_does(played):
    (played / "vllm/utils/system_utils.py").write_text("")
    main = played / "vllm/entrypoints/cli/main.py"
    main.write_text("import gc, sys\ndef main(): print(*sys.argv, gc.get_threshold()[0])\n")
    assert run(played, "serve", "m") == ["vllm serve m 50000"]


def command(engine, **asked):
    request = Asked("/models/m", **asked)
    made = decide(request, CPU_BF16, engine)
    return build_command(
        engine,
        made.choices,
        model=made.model,
        served_name=made.served_name,
        port=8000,
        flags=request.flags,
        env=made.env,
    )


def test_it_runs_on_a_cpu_alone_and_is_not_part_of_what_is_printed():
    on_cpu = command(CPU_ENGINE)
    assert on_cpu.argv[1] == str(QUICK_START)
    for other in (
        command(engine(T4)),
        command(CPU_ENGINE, flags={"tensor-parallel-size": 2}),
    ):
        assert other.argv[1:3] == ("-m", "vllm.entrypoints.cli.main")
    for text in (on_cpu.text, on_cpu.lines, *on_cpu.environment):
        assert "quick_start" not in text and "PYTHONPATH" not in text
