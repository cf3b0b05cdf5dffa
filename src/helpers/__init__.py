"""Launch a vLLM score server and ask it for scores.

What the notebooks import stands in `__all__`. Modules depend on each other in one direction:

    errors <- inputs, results <- wire <- transport, client <- bulk
    hardware <- choices <- command; processes <- records; client <- launch <- server
    results <- plots

Only `wire` knows the API's field names, only `command` knows vLLM's flags, and only `choices`
knows which model and which settings suit a machine. Nothing here imports vLLM or PyTorch: the
engine may live in another environment than the notebook.
"""

from . import corpus
from .bulk import score_frame, score_pairs
from .client import ScoreClient
from .errors import (
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
from .machine_check import check_machine
from .plots import bar_chart
from .results import ScoreResult
from .server import ScoreServer, stop_all

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
    "ScoreResult",
    "ScoreServer",
    "ServerBusyError",
    "ServerDiedError",
    "ServerFaultError",
    "UnknownFlagError",
    "UnreachableError",
    "bar_chart",
    "check_machine",
    "corpus",
    "score_frame",
    "score_pairs",
    "stop_all",
]
