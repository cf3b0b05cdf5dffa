"""Ask the model hub for a model, and download it before a launch.

The rules of the hub's own library (where the cache, the token and the address are) are not copied
here: the library itself is asked, in a process of its own. That process gets the environment that
the server will get, and can be ended: a name look-up behind a broken resolver hangs for minutes,
and a download in a thread does not stop for an interrupt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from helpers.errors import LaunchTimeoutError, ModelUnavailableError
from helpers.server.machine import ask, disk_free

_TICK = 0.3  # seconds between two looks at a download

_BOTH = """
import fcntl, hashlib, json, os, sys
from huggingface_hub import HfApi, constants, errors, get_hf_file_metadata, hf_hub_url
from huggingface_hub import snapshot_download, try_to_load_from_cache
name, revision = sys.argv[1], sys.argv[2] or None

def tell(**facts):
    print(json.dumps(facts), flush=True)
"""
# Tells where the cache is, where the model is in it, and how the hub stands to the model.
_LOOK = """
tell(cache=constants.HF_HUB_CACHE)

def state():
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(config, str):
        folder = os.path.dirname(config)
        files = os.listdir(folder)
        weights = [{"model.safetensors"}, {"pytorch_model.bin"}]
        for index in (f for f in files if f.endswith(".index.json")):
            with open(os.path.join(folder, index)) as file:
                weights.append(set(json.load(file)["weight_map"].values()))
        if any(some <= set(files) for some in weights):
            tell(folder=folder)
            return "cached"
    if constants.HF_HUB_OFFLINE:
        return "offline"
    url = hf_hub_url(name, "config.json", revision=revision)
    try:
        get_hf_file_metadata(url, timeout=float(sys.argv[3]))
    except errors.GatedRepoError:
        return "gated"
    except errors.EntryNotFoundError:
        return "reachable"
    except errors.HfHubHTTPError as error:
        code = getattr(error.response, "status_code", 0)
        return {401: "missing", 403: "gated", 404: "missing"}.get(code, "unknown")
    return "reachable"

tell(state=state())
"""
# Fetches the small files that say what a model is, and asks for the size of its weights as they
# are served, with 16 bits for each number that has 32, and for its licence.
_CARD = """
BITS = {"F64": 16, "F32": 16, "BF16": 16, "F16": 16, "I64": 64, "I32": 32, "I16": 16}
small = ["config.json", "modules.json", "tokenizer_config.json", "sentence_bert_config.json"]
try:
    tell(folder=snapshot_download(name, revision=revision, allow_patterns=small))
    known = HfApi().model_info(name, revision=revision, timeout=float(sys.argv[3]))
    card, weights = known.card_data, known.safetensors
    tell(licence=(card.get("license") if card else "") or "")
    if weights:
        tell(bytes=sum(n * BITS.get(kind, 8) // 8 for kind, n in weights.parameters.items()))
except Exception as error:
    tell(failed=f"{type(error).__name__}: {error}")
"""
# Downloads what vLLM reads of a model: its weights once, in the better of two forms, and small
# files. The library begins a file anew after an interrupt, so weights are fetched here, bytes that
# are there already left out, and put where the library then finds them.
_FETCH = """
import requests
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers

def refuses(error):
    return getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404)

def fetch(file, size):
    url = hf_hub_url(name, file, revision=revision)
    etag = get_hf_file_metadata(url, timeout=30).etag
    blob = os.path.join(folder, "blobs", etag)
    os.makedirs(os.path.dirname(blob), exist_ok=True)
    with open(f"{blob}.score.incomplete", "ab") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        while (before := part.tell()) < size and not os.path.exists(blob):
            headers = {**build_hf_headers(), "Range": f"bytes={before}-"}
            try:
                with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
                    answer.raise_for_status()
                    if answer.status_code != 206:
                        part.truncate(0)
                    for piece in answer.iter_content(1 << 16):
                        part.write(piece)
            except requests.RequestException:
                if part.tell() == before:  # a line that brought something is tried again
                    raise
        if os.path.exists(blob):
            return os.path.exists(part.name) and os.remove(part.name)
        with open(part.name, "rb") as whole:
            if len(etag) == 64 and hashlib.file_digest(whole, "sha256").hexdigest() != etag:
                part.truncate(0)
                raise OSError(f"{file} arrived damaged")
        os.rename(part.name, blob)

try:
    files = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=30).siblings
except errors.HfHubHTTPError as error:
    if refuses(error):
        tell(refused=str(error))
    sys.exit()
sizes = {file.rfilename: file.size or 0 for file in files}
roots = [file for file in sizes if "/" not in file]
weights = [f for f in roots if f.endswith(".safetensors")]
if len(weights) > 1:
    weights = [f for f in weights if not f.startswith("consolidated")]
weights = weights or [f for f in roots if f.endswith(".bin") and f.startswith("pytorch_model")]
if not weights:
    sys.exit()
small = (".json", ".txt", ".model", ".jinja", ".py", ".tiktoken")
wanted = [*weights, *(f for f in roots if f.endswith(small)),
          *(f for f in sizes if f.count("/") == 1 and f.endswith("/config.json"))]
folder = os.path.join(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"))
tell(total=sum(sizes[file] for file in wanted), folder=folder)
try:
    for file in weights:
        fetch(file, sizes[file])
    tell(path=snapshot_download(name, revision=revision, allow_patterns=wanted))
except Exception as error:
    tell(**{"refused" if refuses(error) else "failed": f"{type(error).__name__}: {error}"})
"""


class Hub(NamedTuple):
    """How the model hub stands to a model.

    Attributes:
        state: "cached" (whole, on this machine), "reachable", "gated" (its terms were not
            accepted, or the token is not allowed to), "missing" (no such model, or private and
            without a token for it), "offline" (HF_HUB_OFFLINE forbids to ask), or "unknown": the
            hub did not answer, or not clearly. "unknown" is no reason to refuse a launch.
        cache: The folder that models are downloaded to, None where the library did not say.
        folder: The model's own folder in it, if it is there and whole.
    """

    state: str
    cache: Path | None = None
    folder: Path | None = None


def look_at_hub(
    name: str,
    environment: Mapping[str, str] | None = None,
    *,
    revision: str | None = None,
    timeout: float = 5.0,
    python: str = sys.executable,
) -> Hub:
    """Look for a model in the hub's cache and, if it is not there, on the hub.

    Args:
        name: Such as "BAAI/bge-reranker-v2-m3".
        environment: What the server will get (default: this process's).
        revision: A branch, tag or commit (default: main).
        timeout: Seconds for the hub's answer; with the start of the interpreter and a name
            look-up it takes at most twice as long.
        python: An interpreter that has `huggingface_hub`: vLLM's own, where there is one.
    """
    if _is_of_another_place(name, environment):
        return Hub("unknown")
    command = [python, "-c", _BOTH + _LOOK, name, revision or "", str(timeout)]
    told: dict[str, str] = {}
    try:
        for line in ask(command, 2 * timeout, environment).output.splitlines():
            told |= json.loads(line)
    except (OSError, ValueError, TypeError):
        pass
    places = (Path(told[place]) if place in told else None for place in ("cache", "folder"))
    return Hub(told.get("state", "unknown"), *places)


def hub_state(name: str, environment: Mapping[str, str] | None = None, **settings: Any) -> str:
    """Return `look_at_hub(...).state`."""
    return look_at_hub(name, environment, **settings).state


def read_card(
    name: str,
    environment: Mapping[str, str] | None = None,
    *,
    revision: str | None = None,
    timeout: float = 5.0,
    python: str = sys.executable,
) -> dict[str, Any]:
    """Read what a model on the hub is, without its weights.

    Args:
        name: Such as "BAAI/bge-reranker-v2-m3".
        environment: Variables of the process that asks (default: this process's).
        revision: A branch, tag or commit (default: main).
        timeout: Seconds for one answer of the hub; a look takes at most six times as long.
        python: An interpreter that has `huggingface_hub`.

    Returns:
        "folder", where its small files lie; "licence" and "bytes" where the hub says them.

    Raises:
        ModelUnavailableError: The hub does not answer or does not give it, and it is not cached.
    """
    quiet = {**(os.environ if environment is None else environment)}
    quiet |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_ETAG_TIMEOUT": str(int(timeout))}
    command = [python, "-c", _BOTH + _CARD, name, revision or "", str(timeout)]
    told: dict[str, Any] = {}
    for line in ask(command, 6 * timeout, quiet).output.splitlines():
        if line.startswith("{"):
            told |= json.loads(line)
    if "folder" not in told:
        why = _brief(told.get("failed", "it did not answer"))
        raise ModelUnavailableError(
            f"The model hub does not say here what {name!r} is: {why} Check the name and the "
            "network, or give a folder that holds its config.json."
        )
    return told


def cached_folder(
    name: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> Path | None:
    """Return `look_at_hub(...).folder` without asking the network."""
    quiet = {**(os.environ if environment is None else environment), "HF_HUB_OFFLINE": "1"}
    return look_at_hub(name, quiet, **settings).folder


def download(
    name: str,
    environment: Mapping[str, str] | None = None,
    *,
    revision: str | None = None,
    stall_timeout: float = 300.0,
    python: str = sys.executable,
) -> Path | None:
    """Download what vLLM reads of a model, with a progress bar, unless it is there.

    An interrupt ends it at once, and the next call goes on where it stopped.

    Args:
        name: Such as "BAAI/bge-reranker-v2-m3".
        environment: What the server will get (default: this process's).
        revision: A branch, tag or commit (default: main).
        stall_timeout: Seconds in which nothing arrives, after which it is given up.
        python: An interpreter that has `huggingface_hub`.

    Returns:
        The model's folder in the hub's cache; None where the hub does not say what there is to
        download, so that vLLM has to see for itself.

    Raises:
        ModelUnavailableError: The hub refuses the model, the disk is too small, or the download
            broke off.
        LaunchTimeoutError: Nothing arrived for `stall_timeout` seconds.
    """
    if _is_of_another_place(name, environment):
        return None
    quiet = {**(os.environ if environment is None else environment)}
    quiet["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    with subprocess.Popen(
        [python, "-c", _BOTH + _FETCH, name, revision or ""],
        env=quiet,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        try:
            told = _next_line(child)
            if "total" in told:
                told = _follow(child, name, Path(told["folder"]), told["total"], stall_timeout)
        finally:
            child.kill()
    if "refused" in told:
        raise ModelUnavailableError(
            f"The model hub does not give {name!r} to this machine: {_brief(told['refused'])} "
            "Check the name. For a gated or private model, accept its terms on its page, and log "
            "in with `hf auth login` or set HF_TOKEN."
        )
    if "failed" in told:
        raise ModelUnavailableError(
            f"The download of {name!r} broke off: {_brief(told['failed'])} Start again: it goes on "
            "where it stopped."
        )
    return Path(told["path"]) if "path" in told else None


def _follow(
    child: subprocess.Popen[bytes], name: str, folder: Path, total: int, stall_timeout: float
) -> dict[str, Any]:
    """Show how a download grows on the disk, and return what the child says at its end."""
    have = min(_bytes_in(folder), total)
    if total - have > (free := disk_free(folder)):
        raise ModelUnavailableError(
            f"{name!r} takes {total / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on the disk of "
            f"{folder.parent}. Free some, or set HF_HOME to a folder on a larger disk."
        )
    from tqdm.auto import tqdm

    settings: dict[str, Any] = {"total": total, "initial": have, "unit": "B", "unit_scale": True}
    with tqdm(desc=f"Downloading {name}", delay=1, **settings) as bar:
        moved = time.monotonic()
        while child.poll() is None:
            time.sleep(_TICK)
            if (now := min(_bytes_in(folder), total)) != bar.n:
                bar.update(now - bar.n)
                moved = time.monotonic()
            if time.monotonic() - moved > stall_timeout:
                raise LaunchTimeoutError(
                    f"The download of {name!r} stood still for {stall_timeout:g} seconds, with "
                    f"{bar.n / 1e9:.1f} of {total / 1e9:.1f} GB here. Start again: it goes on "
                    "where it stopped."
                )
        told = _next_line(child)
        bar.update(total - bar.n if "path" in told else 0)
    return told or {"failed": "it was ended"}


def _next_line(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    lines = child.stdout or ()
    return next((json.loads(line) for line in lines if line.startswith(b"{")), {})


def _brief(text: str) -> str:
    """Return the beginning of an error of the hub's library: its kind, status and sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{' '.join(lines[:2])[:300].rstrip('.')}."


def _bytes_in(folder: Path) -> int:
    """Count what has arrived, files that are not whole yet included."""
    count = 0
    for path in folder.glob("blobs/*"):
        try:
            seen = path.stat()
        except OSError:
            continue
        # A file may be given its length before its content.
        count += min(seen.st_size, 512 * seen.st_blocks)
    return count


def _is_of_another_place(name: str, environment: Mapping[str, str] | None) -> bool:
    """Tell whether vLLM would take this model from elsewhere than the hub."""
    where = os.environ if environment is None else environment
    return "://" in name or where.get("VLLM_USE_MODELSCOPE", "0").upper() in {"1", "TRUE"}
