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

PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)

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
        OutOfMemoryError,
        re.compile(
            r"out of memory|OutOfMemoryError|MemoryError|std::bad_alloc|Cannot allocate memory"
            r"|can't allocate memory|failed to map segment|No available memory for the cache"
            r"|less than desired (GPU|CPU) memory|less than requested memory"
            r"|larger than the available KV cache memory"
        ),
        "There is too little memory for this model. End other programs and servers "
        "(python -m helpers stop), or serve a smaller model.",
    ),
    (
        EngineMissingError,
        re.compile(r"No module named '?vllm\b|No package metadata was found for vllm"),
        "The interpreter has no working vLLM. Install it there, or name the interpreter that has "
        "it: ScoreServer(python=...) or SCORE_SERVER_PYTHON.",
    ),
    (
        NotAScoringModelError,
        re.compile(r"does not support (the )?Score API"),
        "This model can not score pairs. Serve a reranker (a cross-encoder with one label).",
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


def diagnose(text: str, *, exit_code: int | None, oom_killed: bool) -> tuple[type, str]:
    """Return the class of error and the sentence for a server that ended while it started.

    exit_code: as `subprocess` gives it (negative for a signal), None where it is not known.
    oom_killed: whether the kernel ended a process for lack of memory meanwhile.
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
        "The log below tells why; mend that, and start again."
    )


def _is_cause(line: str) -> bool:
    if _ECHO.search(line):
        return False
    return bool(_EXCEPTION.match(line)) or any(sign.search(line) for _, sign, _ in _CAUSES)


def _exit_words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
