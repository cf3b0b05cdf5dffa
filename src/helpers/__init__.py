"""Launch a vLLM score server and ask it for scores.

A house of six rooms, each a folder whose `__init__` is its door. `errors` and `tables` are the
floor; `corpus` and `offline_reranker` hold data:

    client   asks a server           bulk     scores many pairs
    server   starts and watches one  search   finds documents and measures
    monitor  counts and loads        views    shows it all

Which room may use which stands in pyproject.toml, where import-linter checks it. Nothing here
imports vLLM or PyTorch: the engine may live in another environment than the notebook.

What stands in `__all__` is imported when it is asked for, so that no name needs the packages of
another. The rest of what notebooks use comes from the rooms: `from helpers.views import bar_chart`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from helpers.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    EngineMissingError,
    InputError,
    LaunchError,
    LaunchTimeoutError,
    ModelUnavailableError,
    NotAScoringModelError,
    NotFoundError,
    OutOfMemoryError,
    RequestTimeoutError,
    ResponseError,
    ScoreError,
    ServerBusyError,
    ServerDiedError,
    ServerFaultError,
    UnknownFlagError,
    UnreachableError,
)

if TYPE_CHECKING:
    from helpers import corpus
    from helpers.bulk import score_frame, score_pairs
    from helpers.client import ScoreClient
    from helpers.server import ScoreServer, check_machine, stop_all

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "EngineMissingError",
    "InputError",
    "LaunchError",
    "LaunchTimeoutError",
    "ModelUnavailableError",
    "NotAScoringModelError",
    "NotFoundError",
    "OutOfMemoryError",
    "RequestTimeoutError",
    "ResponseError",
    "ScoreClient",
    "ScoreError",
    "ScoreServer",
    "ServerBusyError",
    "ServerDiedError",
    "ServerFaultError",
    "UnknownFlagError",
    "UnreachableError",
    "check_machine",
    "corpus",
    "score_frame",
    "score_pairs",
    "stop_all",
]

_ROOM_OF = {
    "ScoreClient": "client",
    "ScoreServer": "server",
    "check_machine": "server",
    "score_frame": "bulk",
    "score_pairs": "bulk",
    "stop_all": "server",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room (PEP 562)."""
    if name == "corpus":
        return import_module("helpers.corpus")
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
