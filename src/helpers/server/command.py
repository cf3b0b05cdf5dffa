"""Turn choices into the command and the environment that start vLLM.

The only module that knows vLLM's flags and environment variables; `probe` asks an interpreter what
vLLM it has. Written for vLLM 0.26 to 0.32.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import EngineMissingError, InputError
from helpers.server.choices import Choices
from helpers.server.probe import Engine as Engine
from helpers.server.probe import find_engine as find_engine
from helpers.server.probe import find_preloads as find_preloads
from helpers.server.probe import inherited_environment as inherited_environment

HOST = "127.0.0.1"
# Runs vLLM's command so that a server on a CPU starts sooner; the file tells how.
QUICK_START = Path(__file__).parent / "quick_start" / "serve.py"
_OURS = {"model": "model", "port": "port", "api-key": "api_key"}
_ELSEWHERE = (
    "A server that is started here listens on 127.0.0.1, over http, where it is watched. For "
    "clients on other machines or over TLS, put a proxy in front of it: helpers.server.ReverseProxy"
)
_IN_PARTS = (
    "A server that is started here is whole, on this machine and behind one address. Start the "
    "parts of a larger one yourself, and set SCORE_SERVER_URL to its address"
)
# Flags that would move the server away from where its start is watched.
_MOVING = {
    **dict.fromkeys(("host", "uds", "grpc", "grpc-port", "enable-ssl-refresh"), _ELSEWHERE),
    **{
        f"ssl-{name}": _ELSEWHERE
        for name in ("keyfile", "certfile", "ca-certs", "cert-reqs", "ciphers")
    },
    **dict.fromkeys(("headless", "nnodes", "node-rank", "master-addr", "master-port"), _IN_PARTS),
    **{
        f"data-parallel-{name}": _IN_PARTS
        for name in ("rank", "start-rank", "address", "rpc-port", "supervisor-port", "hybrid-lb")
    },
    **{f"data-parallel-{name}external-lb": _IN_PARTS for name in ("", "multi-port-")},
    "config": "A file could hold any of these settings. Give what it holds as vllm_flags",
}
_SHORT_AND_MOVING = ("-dpn", "-dpr", "-dpa", "-dpp", "-dph", "-dpe", "-dpm", "-n", "-r")


# A name one of whose words is among these holds a secret; a tokenizer's tokens are none.
_SECRET_WORDS = frozenset(
    {"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "AUTH", "CREDENTIALS"}
)
_NO_SECRET = re.compile(r"(?:bos|eos|pad|sep|cls|unk|mask)[-_]token", re.IGNORECASE)
# Secrets by their looks: user and password in an address, tokens of the hub and of others.
_SECRET = re.compile(
    r"(?<=//)[^/@\s\"']+(?=@)|\b(?:hf_|sk-|gh[pousr]_)[\w-]{16,}|(?<=[Bb]earer )[\w.~+/=-]+"
)


@dataclass(frozen=True)
class Command:
    """Hold what is run, and what a person would type for it.

    Attributes:
        argv: For `subprocess`.
        environment: Whole, and may hold secrets.
        text: The same for a terminal, on one line and without secrets.
        lines: `text` over several lines, as a person types it.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    text: str
    lines: str = ""

    def __repr__(self) -> str:
        """Show the text alone, since the environment may hold secrets."""
        return f"Command({self.text!r})"


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

    Args:
        engine: The vLLM that serves.
        choices: What suits the machine.
        model: A folder, or a name on the hub.
        served_name: What clients ask for.
        port: Where to listen.
        max_model_len: The most tokens of a pair, None for what the model was made for.
        api_key: What clients have to send.
        flags: vLLM's own flags by name. True gives a bare flag, False its `--no-` form, None
            leaves out a flag that would be set here, a list gives several values, a dict JSON.
        env: More environment variables; None removes one.

    Raises:
        InputError: `flags` holds a name that has its own argument here, or that would move the
            server away from where it is watched.
        EngineMissingError: A GPU build is to serve on a CPU, which it cannot.
    """
    passed = normal_flags(flags)
    on_cpu = choices.device.value == "cpu"
    if on_cpu and not engine.cpu_build:
        raise EngineMissingError(
            f"The vLLM of {engine.python} is a GPU build, and no GPU answers: "
            f"{engine.gpu_fault or 'none was looked for'}. On a CPU another build serves: run "
            "`PROFILE=cpu make setup` in the repository's folder."
        )
    ours: dict[str, Any] = {
        # Without it, clients would have to ask for the model by the path of its folder.
        "served-model-name": served_name if served_name != model else None,
        # vLLM listens to the whole network unless told otherwise.
        "host": HOST,
        "port": port,
        # A model that scores is one that pools; a reranker made from a chat model is not taken
        # for one by itself.
        "runner": "pooling",
        "dtype": choices.dtype.value,
        "enforce-eager": choices.eager.value or None,
        "max-model-len": max_model_len,
        "gpu-memory-utilization": None if on_cpu else choices.memory.value,
        # Else each request writes a line to the log, and buries what went wrong.
        "disable-uvicorn-access-log": True,
    }
    inherited = inherited_environment(engine.python)
    module = "vllm.entrypoints." + ("cli.main" if engine.has_command else "openai.api_server")
    program = ["-m", module]
    # Variables that a learner sees before the command, each with what it is there for.
    added = {"VLLM_NO_USAGE_STATS": "1"}
    if Path(model).is_absolute():
        # All is here: do not ask the hub for news of the model.
        added["HF_HUB_OFFLINE"] = "1"
    if on_cpu:
        added["VLLM_CPU_KVCACHE_SPACE"] = str(choices.memory.value)
        workers = _workers(passed)
        if workers == 1 and "distributed-executor-backend" not in passed:
            # The worker then lives in the engine's process, which saves a third start of Python
            # with all of vLLM's imports (`quick_start` saves the second). vLLM wants the variable
            # for it, and then leaves the number of threads to OpenMP.
            ours["distributed-executor-backend"] = "uni"
            program = [str(QUICK_START)] if engine.has_command else program
            added["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
            added["OMP_NUM_THREADS"] = str(len(choices.cpus.value))
            # Threads that wait for work sleep instead of spinning: the HTTP server and the
            # notebook need the same cores.
            added["OMP_WAIT_POLICY"] = "PASSIVE"
        else:
            added["VLLM_CPU_OMP_THREADS_BIND"] = _cores_of(workers, choices.cpus.value)
        if choices.preload.value:
            others = re.split(r"[:\s]+", inherited.get("LD_PRELOAD", ""))
            added["LD_PRELOAD"] = ":".join(filter(None, [*choices.preload.value, *others]))
    else:
        added["CUDA_DEVICE_ORDER"] = inherited["CUDA_DEVICE_ORDER"]
    # As a flag it would be readable by everyone on the machine, in the list of processes.
    if isinstance(passed.get("hf-token"), str):
        added["HF_TOKEN"] = passed.pop("hf-token")
    asked = {**added, **(env or {})}
    if api_key:
        asked.pop("VLLM_API_KEY", None)
    environment = _without_none({**inherited, "PYTHONUNBUFFERED": "1", **asked})
    if api_key:
        environment["VLLM_API_KEY"] = api_key
    head = ["serve", model] if engine.has_command else ["--model", model]
    every = {**ours, **passed}
    # From here on, what a person types.
    shown = _settings(_without_none(asked))
    if api_key:
        shown.append('VLLM_API_KEY="$SCORE_API_KEY"')
    typed = " ".join([*_program(engine, module), *map(_quoted, head)])
    veiled = {name: _veiled(value) for name, value in every.items()}
    parts = [_shown_flag(words) for words in _options(veiled)]
    return Command(
        argv=(engine.python, *program, *head, *flag_list(every)),
        environment=environment,
        text=" ".join([*shown, typed, *parts]),
        lines=" \\\n".join([*_filled(shown, ""), typed, *_filled(parts, "  ")]),
    )


def normal_flags(flags: Mapping[str, Any] | None) -> dict[str, Any]:
    """Bring flag names into vLLM's spelling, and refuse those that cannot be given here.

    Raises:
        InputError: A flag has its own argument, is there twice, or would move the server away
            from where its start is watched.

    >>> normal_flags({"--max_num_seqs": 64, "hf_overrides.num_labels": 1, "-tp": 2})
    {'max-num-seqs': 64, 'hf-overrides.num_labels': 1, '-tp': 2}
    """
    named: dict[str, Any] = {}
    for given, value in (flags or {}).items():
        name = given.strip()
        # vLLM's short flags begin with one dash.
        if not re.fullmatch(r"-[A-Za-z]\w*", name):
            # A dot leads into a JSON value, whose own names keep their underscores.
            flag, dot, nested = name.lstrip("-").partition(".")
            name = flag.replace("_", "-") + dot + nested
        if name in named:
            raise InputError(f"vllm_flags holds {name!r} twice, in two spellings. Keep one.")
        named[name] = value
        # vLLM takes the beginning of a flag for the flag.
        start = name.partition(".")[0]
        if argument := next((_OURS[flag] for flag in _OURS if flag.startswith(start)), None):
            raise InputError(
                f"vllm_flags holds {given!r}, which has its own argument: write "
                f"ScoreServer({argument}=...) instead."
            )
        why = next((_MOVING[flag] for flag in _MOVING if flag.startswith(start)), None)
        if why or name in _SHORT_AND_MOVING:
            raise InputError(f"vllm_flags cannot hold {given!r}. {why or _IN_PARTS}.")
    return named


def flag_list(flags: Mapping[str, Any]) -> list[str]:
    """Spell flags as command-line arguments.

    >>> flag_list({"port": 8000, "enforce-eager": True, "lora": None, "async": False, "-tp": 2})
    ['--port', '8000', '--enforce-eager', '--no-async', '-tp', '2']
    """
    return [word for words in _options(flags) for word in words]


def _options(flags: Mapping[str, Any]) -> list[list[str]]:
    """Spell flags, each with its values as a list of its own."""
    spelled: list[list[str]] = []
    for name, given in flags.items():
        flag = name if name.startswith("-") else f"--{name}"
        value = _plain(given)
        if isinstance(value, bool):
            spelled.append([flag if value else f"--no-{name}"])
        elif isinstance(value, Sequence) and not isinstance(value, str):
            spelled.append([flag, *map(_spelled, value)])
        elif value is not None:
            spelled.append([flag, _spelled(value)])
    return spelled


def without_secrets(text: str) -> str:
    """Blot out what looks like a secret in a text: tokens, and passwords in addresses.

    >>> without_secrets("https://me:pass@example.org/v1 hf_abcdefghijklmnopqrstu")
    'https://…@example.org/v1 …'
    """
    return _SECRET.sub("…", text)


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's."""
    return value.item() if hasattr(value, "item") else value


def _for_json(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _spelled(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=_for_json, ensure_ascii=False)
    return str(value)


def _workers(flags: Mapping[str, Any]) -> int:
    """Return how many processes vLLM computes in."""
    count = 1
    for kind in ("tensor", "pipeline", "data"):
        asked = flags.get(f"{kind}-parallel-size") or flags.get(f"-{kind[0]}p") or 1
        count *= int(asked)
    return count


def _cores_of(workers: int, cpus: Sequence[int]) -> str:
    """Deal the processors out to the workers, as VLLM_CPU_OMP_THREADS_BIND wants them.

    >>> _cores_of(2, (0, 1, 2, 3)), _cores_of(1, (0, 1)), _cores_of(3, (0, 1))
    ('0,1|2,3', '0,1', '0|1|0')
    """
    each = len(cpus) // workers
    parts = [cpus[n * each : (n + 1) * each] or (cpus[n % len(cpus)],) for n in range(workers)]
    return "|".join(",".join(map(str, part)) for part in parts)


def _without_none(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _program(engine: Engine, module: str) -> list[str]:
    # A person types `vllm`; it runs the same module. Its full path only where a terminal that was
    # opened from here would find another `vllm` or none.
    if engine.script is None:
        return [_quoted(engine.python), "-m", module]
    if shutil.which("vllm") == str(engine.script):
        return ["vllm"]
    return [_quoted(str(engine.script))]


def _settings(variables: Mapping[str, str]) -> list[str]:
    return [
        f'{name}="${name}"' if _is_secret(name) else f"{name}={_quoted(value)}"
        for name, value in variables.items()
    ]


def _shown_flag(words: list[str]) -> str:
    flag, *values = words
    if values and _is_secret(flag):
        return f'{flag} "${re.sub(r"[^A-Z]", "_", flag.strip("-").upper())}"'
    return " ".join([flag, *map(_quoted, values)])


def _filled(parts: Iterable[str], indent: str, width: int = 80) -> list[str]:
    """Put as many parts on each line as fit, and none over two lines."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(indent + part)
    return lines


def _is_secret(name: str) -> bool:
    """Tell whether a flag, a variable or a name in JSON holds a secret, by its words."""
    words = set(re.split(r"[\W_]+", name.upper()))
    return bool(_SECRET_WORDS & words) and not _NO_SECRET.fullmatch(name)


def _veiled(value: Any) -> Any:
    """Blot out secrets in a value that is shown as JSON."""
    if isinstance(value, Mapping):
        return {
            name: "…" if isinstance(inner, str) and _is_secret(str(name)) else _veiled(inner)
            for name, inner in value.items()
        }
    return [_veiled(inner) for inner in value] if isinstance(value, list | tuple) else value


def _quoted(word: str) -> str:
    """Quote a word for a shell, with the home folder as ~ and without secrets."""
    word = without_secrets(word)
    home = f"{Path.home()}/"
    if word.startswith(home) and shlex.quote(word) == word:
        return f"~/{word.removeprefix(home)}"
    return shlex.quote(word)
