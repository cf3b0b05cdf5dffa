"""Read vLLM's log: which stage a launch has reached, what went wrong, and the lines that matter."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from helpers.errors import (
    EngineMissingError,
    LaunchError,
    ModelUnavailableError,
    NotAScoringModelError,
    OutOfMemoryError,
    ServerDiedError,
    UnknownFlagError,
)

STAGES = ("imports", "engine", "weights", "warm-up", "first score", "ready")

# What vLLM 0.26 to 0.32 write when they enter a stage; the furthest one that is found counts.
_SIGNS = {
    "engine": ("non-default args", "Resolved architecture", "Initializing a V1 LLM engine"),
    "weights": ("Starting to load model", "Loading safetensors", "Loading weights"),
    "warm-up": (
        "Loading weights took",
        "Model loading took",
        "Warming up model",
        "Capturing CUDA graph",
        "init engine (profile",
    ),
    "first score": ("Starting vLLM", "Application startup complete", "Uvicorn running"),
}

_WITHOUT_GPU = (
    "On the CPU another build serves: `PROFILE=cpu make setup` in the repository's folder."
)

# The first that fits counts, so what is exact stands before what is general.
_CAUSES: tuple[tuple[type[LaunchError], re.Pattern[str], str], ...] = (
    (
        UnknownFlagError,
        re.compile(
            r"error: (unrecognized arguments|ambiguous option|argument )|invalid choice: "
            r"|unrecognized arguments:"
        ),
        "vLLM rejects a flag. Look at vllm_flags: names and values must be those of this "
        "version, which `vllm serve --help=all` lists.",
    ),
    (
        LaunchError,
        re.compile(
            r"NVIDIA driver on your system is too old|driver version is insufficient"
            r"|unsupported display driver / cuda driver"
        ),
        "The NVIDIA driver is older than this vLLM's CUDA, and CUDA 13 needs driver 580 or newer. "
        f"Install a newer driver. {_WITHOUT_GPU}",
    ),
    (
        LaunchError,
        re.compile(r"no kernel image is available|not compatible with the current PyTorch inst"),
        "This vLLM has no code for this GPU, which is older than compute capability 7.5 or newer "
        f"than this version. {_WITHOUT_GPU}",
    ),
    (
        LaunchError,
        re.compile(r"busy or unavailable|CUDA_ERROR_DEVICE_UNAVAILABLE"),
        "Another program holds the GPU alone (`nvidia-smi -q -d COMPUTE` says Exclusive_Process). "
        "End it or the other score servers (python -m helpers stop), or name another GPU: "
        'ScoreServer(env={"CUDA_VISIBLE_DEVICES": "1"}).',
    ),
    (
        LaunchError,
        re.compile(
            r"Failed to infer device type|Found no NVIDIA driver|libcuda\.so\.1: cannot open"
            r"|libcudart\.so\.\d+: cannot open|Driver/library version mismatch"
            r"|no CUDA-capable device|No CUDA GPUs are available|NVMLError_LibraryNotFound"
        ),
        "This vLLM is a GPU build, and it finds no working NVIDIA driver. See what `nvidia-smi` "
        "says; after an update of the driver the machine has to be restarted, and a container "
        f"needs `--gpus all`. {_WITHOUT_GPU}",
    ),
    (
        LaunchError,
        re.compile(r"Failed to find C compiler|Python\.h: No such file"),
        "vLLM compiles small programs as it starts, which takes a C compiler and the header files "
        "of Python. Install both, such as: sudo apt-get install gcc python3-dev",
    ),
    (
        OutOfMemoryError,
        re.compile(r"larger than the available KV cache memory|No available memory for the cache"),
        "The model's cache for its longest text does not fit into the memory that is left. Allow "
        "shorter texts: ScoreServer(max_model_len=...); the log names a length that would fit.",
    ),
    (
        OutOfMemoryError,
        re.compile(
            r"out of memory|OutOfMemoryError|MemoryError|std::bad_alloc|Cannot allocate memory"
            r"|can't allocate memory|failed to map segment"
            r"|less than desired (GPU|CPU) memory|less than requested memory"
        ),
        "There is too little memory for this model. End other programs and servers "
        "(python -m helpers stop), or serve a smaller model.",
    ),
    (
        EngineMissingError,
        re.compile(
            r"No module named '?vllm(?![.\w])|: No module named vllm\.entrypoints"
            r"|No package metadata was found for vllm"
        ),
        "The interpreter has no working vLLM. Install it there, or name the interpreter that has "
        "it: ScoreServer(python=...) or SCORE_SERVER_PYTHON.",
    ),
    (
        NotAScoringModelError,
        re.compile(r"does not support (the )?Score API"),
        "This model cannot score pairs. Serve a reranker (a cross-encoder with one label).",
    ),
    (
        ModelUnavailableError,
        re.compile(
            r"SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer"
            r"|does not appear to have a file named|is not a valid model identifier"
            r"|Cannot find any model weights|Invalid repository ID|RepositoryNotFoundError"
            r"|GatedRepoError|LocalEntryNotFoundError|OfflineModeIsEnabled"
            r"|couldn't connect to|Error while deserializing header|Can't load tokenizer"
        ),
        "The model is missing, not whole, or out of reach on the hub. Check its name and the "
        "connection, or serve the offline reranker: ScoreServer() without a model.",
    ),
)

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROCESS = re.compile(r"^\([A-Za-z][\w -]* pid=\d+\) ?")
_STAMP = re.compile(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?")
_FRAME = re.compile(r'^\s+File "|^\s*[\^~]+\s*$|^\s*\[repeated|^Traceback \(most recent|^\s*\^')
_PROGRESS = re.compile(r"\d+%\s*(Completed)?\s*\||it/s\]|^[\s▀▄█]+$")
_CHATTER = re.compile(r"^Route: /|^Attempted to load weight|^\s*warnings\.warn\(|deprecat")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b.*")
# These only say that something else failed.
_ECHO = re.compile(r"See root cause|Engine core initialization failed|died unexpectedly|SystemExit")


def read(log_path: Path, *, limit: int = 400_000) -> str:
    """Return the end of a log (at most `limit` bytes); an absent log reads as empty."""
    try:
        with log_path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - limit))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def stage(text: str) -> str:
    """Name the furthest stage that a log shows; "ready" is not in a log."""
    for name in reversed(STAGES):
        if any(sign in text for sign in _SIGNS.get(name, ())):
            return name
    return STAGES[0]


def clean(text: str) -> list[str]:
    """Return the lines of a log without colours, time stamps, stack frames and progress bars."""
    lines: list[str] = []
    indented = False
    for raw in _ANSI.sub("", text).replace("\r\n", "\n").splitlines():
        line = _PROCESS.sub("", raw)
        is_error = line.startswith(("ERROR", "CRITICAL"))
        line = _STAMP.sub("", line).rstrip()
        if _FRAME.search(line):
            indented = True
            continue
        # Below a frame stands a line of source code, four spaces in.
        if indented and line.startswith("    "):
            continue
        indented = False
        if _PROGRESS.search(line) or _CHATTER.search(line):
            continue
        if line.strip() and line not in lines[-30:]:
            lines.append(f"ERROR {line}" if is_error and not _EXCEPTION.match(line) else line)
    return lines


def tail(text: str, count: int = 20) -> str:
    """Return the `count` most useful lines: first the cause of a failure, then the last lines."""
    lines = clean(text)
    causes = [line for line in lines if _is_cause(line)][-3:]
    rest = [line for line in lines if line not in causes]
    room = max(0, count - len(causes))
    return "\n".join([*causes, *(rest[-room:] if room else [])])


def diagnose(
    text: str, *, exit_code: int | None, oom_killed: bool
) -> tuple[type[LaunchError], str]:
    """Return the class of error and the sentence for a server that ended while it was starting.

    Args:
        text: Its log.
        exit_code: As `subprocess` gives it (negative for a signal), None where it is not known.
        oom_killed: Whether the kernel ended a process for lack of memory meanwhile.
    """
    for kind, sign, message in _CAUSES:
        if sign.search(text):
            return kind, message
    if oom_killed:
        return OutOfMemoryError, (
            "The system ran out of memory and ended the server. End other programs and servers "
            "(python -m helpers stop), or serve a smaller model."
        )
    how = "" if exit_code is None else f" ({_exit_words(exit_code)})"
    return ServerDiedError, (
        f"The server ended while it was starting, at the stage {stage(text)!r}{how}. "
        "The log below says why. Fix that, and start again."
    )


def lost_its_port(text: str) -> bool:
    """Return whether a server ended because another program had its port.

    vLLM's processes have ports among themselves too, and try another where one is taken, so only
    the last error counts.
    """
    errors = [line for line in clean(text) if _EXCEPTION.match(line) and not _ECHO.search(line)]
    return bool(errors) and "[Errno 98]" in errors[-1]


def _is_cause(line: str) -> bool:
    if _ECHO.search(line):
        return False
    return bool(_EXCEPTION.match(line)) or any(sign.search(line) for _, sign, _ in _CAUSES)


def _exit_words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
