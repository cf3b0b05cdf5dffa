"""The ratios that a run is made for, and what each should reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from measurement import Measurement, Run
from workload import PASSAGES, SHORT

READY, SINGLE = "ready", "single"


@dataclass(frozen=True)
class Aim:
    """Say what is divided by what, and what should come of it.

    figure: READY and SINGLE (seconds, so less is better), or a workload (pairs per second).
    at_least, at_most: the bound; with neither, the ratio is only reported.
    """

    text: str
    figure: str
    ours: str
    theirs: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """Write the bound as text."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "–" if self.at_most is None else f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Ratio:
    """Hold what came of an aim; `value` is None where a side was not measured.

    met: None where there is no bound or no value.
    """

    text: str
    value: float | None
    bound: str
    met: bool | None

    def as_dict(self) -> dict:
        """Return it ready for JSON."""
        return asdict(self)


DEFAULTS, INFINITY = "vllm-defaults", "infinity"
PARQUET, FRAME = "score-parquet", "score-frame"
FLOAT32, BFLOAT16 = "sentence-transformers-float32", "sentence-transformers-bfloat16"
OURS_INT8, ONNX_INT8 = "ours-int8", "sentence-transformers-onnx-int8"

# Stated for a CPU whose processor multiplies bfloat16 by itself.
AIMS = (
    Aim("time to ready, of vLLM's defaults", READY, "ours", DEFAULTS, at_most=0.5),
    Aim("passages, times vLLM's defaults", PASSAGES, "ours", DEFAULTS, at_least=15),
    Aim("short pairs, times vLLM's defaults", SHORT, "ours", DEFAULTS),
    Aim("one pair alone, of vLLM's defaults", SINGLE, "ours", DEFAULTS),
    Aim("passages, times Sentence-Transformers bfloat16", PASSAGES, "ours", BFLOAT16, at_least=1.8),
    Aim("short pairs, times Sentence-Transformers bfloat16", SHORT, "ours", BFLOAT16, at_least=1),
    Aim("passages, times Sentence-Transformers float32", PASSAGES, "ours", FLOAT32),
    Aim("short pairs, times Sentence-Transformers float32", SHORT, "ours", FLOAT32),
    Aim("passages, int8, times Sentence-Transformers ONNX int8", PASSAGES, OURS_INT8, ONNX_INT8),
    Aim("short pairs, int8, times Sentence-Transformers ONNX int8", SHORT, OURS_INT8, ONNX_INT8),
    Aim("passages, int8 times our own default", PASSAGES, OURS_INT8, "ours"),
    Aim("passages, times Infinity", PASSAGES, "ours", INFINITY, at_least=1.5),
    Aim("short pairs, times Infinity", SHORT, "ours", INFINITY),
    Aim("our client, times the best raw loop", PASSAGES, "client", "raw-loop", at_least=0.95),
    Aim("a job on a file, times score_frame with a server", SHORT, PARQUET, FRAME),
)


def ratios(run: Run) -> list[Ratio]:
    """Return every ratio of a run, those that could not be made too."""
    return [_ratio(aim, run.of(aim.ours), run.of(aim.theirs)) for aim in AIMS]


def _ratio(aim: Aim, ours: Measurement | None, theirs: Measurement | None) -> Ratio:
    above, below = _figure(ours, aim.figure), _figure(theirs, aim.figure)
    if above is None or not below:
        return Ratio(aim.text, None, aim.bound, None)
    value, met = above / below, None
    if aim.at_least is not None:
        met = value >= aim.at_least
    elif aim.at_most is not None:
        met = value <= aim.at_most
    return Ratio(aim.text, value, aim.bound, met)


def _figure(measurement: Measurement | None, figure: str) -> float | None:
    if measurement is None:
        return None
    if figure == READY:
        return measurement.ready
    return measurement.latency if figure == SINGLE else measurement.rate(figure)
