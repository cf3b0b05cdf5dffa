"""What a run measured, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from timing import Effort


@dataclass(frozen=True)
class Measurement:
    """Hold what was measured of one peer.

    ready: seconds from its launch to its first score; None for what is no server.
    rates: for each workload and setting the pairs per second, one number a round.
    single: seconds of each request of one pair.
    versions: of the packages it ran on.
    note: in what it differs from what its name says; empty if in nothing.
    missing: why it was not measured; empty if it was.
    """

    peer: str
    ready: float | None = None
    rates: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    single: list[float] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    missing: str = ""

    def best(self, workload: str) -> tuple[str, list[float]] | None:
        """Return the setting with the highest median and its rates, None if none was measured."""
        settings = self.rates.get(workload)
        return max(settings.items(), key=lambda item: median(item[1])) if settings else None

    def rate(self, workload: str) -> float | None:
        """Return the median pairs per second at the best setting."""
        best = self.best(workload)
        return None if best is None else median(best[1])

    @property
    def latency(self) -> float | None:
        """Return the median seconds of a request of one pair."""
        return median(self.single) if self.single else None


@dataclass(frozen=True)
class Run:
    """Hold one run.

    date: in ISO format, UTC.
    hardware: what the machine is, by name; no name of a host or a person.
    tokens: the mean tokens of a pair of each workload.
    """

    date: str
    hardware: Mapping[str, str]
    effort: Effort
    tokens: Mapping[str, float]
    measurements: list[Measurement]

    def of(self, peer: str) -> Measurement | None:
        """Return the measurement of a peer, None if there is none or it failed."""
        found = [m for m in self.measurements if m.peer == peer and not m.missing]
        return found[0] if found else None


def save(run: Run, ratios: list[dict], path: Path) -> None:
    """Write a run as JSON, with the ratios that were made of it for whoever reads the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**asdict(run), "ratios": ratios}, indent=2), "utf-8")


def load(path: Path) -> Run:
    """Read a run back; the ratios can be made again."""
    kept = json.loads(path.read_text("utf-8"))
    del kept["ratios"]
    return Run(
        **{
            **kept,
            "effort": Effort(**kept["effort"]),
            "measurements": [Measurement(**entry) for entry in kept["measurements"]],
        }
    )
