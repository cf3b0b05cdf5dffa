"""Launch a vLLM score server and ask it for scores.

What the notebooks import stands in `__all__`. Modules depend on each other in one direction:

    errors <- inputs, results <- long_documents <- wire <- transport, client
    errors <- checkpoint; checkpoint, client <- bulk
    hardware <- choices <- command; processes <- records; engine <- offline_model
    client <- launch <- server, proxy; server <- machine_check
    results <- plots, playground <- widgets
    corpus <- beir, retrieval <- evaluation
    plots <- calibration_plots, evaluation_plots <- load_plots
    transport <- metrics; metrics, widgets <- dashboard; bulk <- load

Only `wire` knows the API's field names, only `command` vLLM's flags, only `metrics` the names of
its metrics, and only `choices` which model and which settings suit a machine. Nothing here
imports vLLM or PyTorch: the engine may live in another environment than the notebook.
"""

from helpers import (
    beir,
    calibration_plots,
    corpus,
    dashboard,
    evaluation,
    load,
    load_plots,
    metrics,
    retrieval,
)
from helpers.bulk import score_frame, score_pairs
from helpers.client import ScoreClient
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
from helpers.long_documents import Chunk, LongScoreResult, TokenizeResult
from helpers.machine_check import check_machine
from helpers.plots import HeatTable, bar_chart, heat_map
from helpers.results import RerankResult, ScoreResult
from helpers.server import ScoreServer, stop_all
from helpers.widgets import Playground, QueryComparison, ScoreTable

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "Chunk",
    "EngineMissingError",
    "HeatTable",
    "InputError",
    "LaunchError",
    "LaunchTimeoutError",
    "LongScoreResult",
    "ModelUnavailableError",
    "NotAScoringModelError",
    "NotFoundError",
    "OutOfMemoryError",
    "Playground",
    "QueryComparison",
    "RequestTimeoutError",
    "RerankResult",
    "ResponseError",
    "ScoreClient",
    "ScoreError",
    "ScoreResult",
    "ScoreServer",
    "ScoreTable",
    "ServerBusyError",
    "ServerDiedError",
    "ServerFaultError",
    "TokenizeResult",
    "UnknownFlagError",
    "UnreachableError",
    "bar_chart",
    "beir",
    "calibration_plots",
    "check_machine",
    "corpus",
    "dashboard",
    "evaluation",
    "heat_map",
    "load",
    "load_plots",
    "metrics",
    "retrieval",
    "score_frame",
    "score_pairs",
    "stop_all",
]
