"""Take the time of whatever scores pairs. Needs nothing but Python, so it runs in any peer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Pair = tuple[str, str]
Scorer = Callable[[Sequence[Pair]], object]

STEP = 32  # pairs; a round is a multiple of it
WARM_UP_SINGLES = 3


@dataclass(frozen=True)
class Effort:
    """Say how much is measured.

    rounds: how often each setting is timed.
    seconds: about how long one round takes, whatever the speed of the peer.
    singles: how many requests of one pair are timed.
    job: how many pairs the job on a file has.
    """

    rounds: int
    seconds: float
    singles: int
    job: int = 50_000


FULL = Effort(rounds=3, seconds=2.5, singles=50)
QUICK = Effort(rounds=2, seconds=0.5, singles=10, job=5_000)


def rates(
    scorers: Mapping[str, Scorer], pairs: Sequence[Pair], effort: Effort
) -> dict[str, list[float]]:
    """Return pairs per second of each scorer, one number a round.

    Each scorer is warmed up first. Then every round times every scorer once, so that a machine
    that slows down or speeds up meanwhile does so for all of them.
    """
    counts = {name: _pairs_a_round(score, pairs, effort) for name, score in scorers.items()}
    measured: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(effort.rounds):
        for name, score in scorers.items():
            part = pairs[: counts[name]]
            measured[name].append(len(part) / seconds(score, part))
    return measured


def singles(score: Scorer, pairs: Sequence[Pair], effort: Effort) -> list[float]:
    """Return the seconds that requests of one pair took, one after the other.

    A slow peer is asked less often: no more than two rounds' time is spent.
    """
    for pair in pairs[:WARM_UP_SINGLES]:
        score([pair])
    spent: list[float] = []
    for pair in pairs[: effort.singles]:
        spent.append(seconds(score, [pair]))
        if sum(spent) > 2 * effort.seconds:
            break
    return spent


def seconds(score: Scorer, pairs: Sequence[Pair]) -> float:
    """Return how long scoring the pairs took."""
    begun = time.perf_counter()
    score(pairs)
    return time.perf_counter() - begun


def _pairs_a_round(score: Scorer, pairs: Sequence[Pair], effort: Effort) -> int:
    """Find how many pairs fill a round, scoring more and more of them; that is the warm-up."""
    count = min(STEP, len(pairs))
    while (spent := seconds(score, pairs[:count])) < effort.seconds / 4 and count < len(pairs):
        count = min(2 * count, len(pairs))
    fitting = int(count * effort.seconds / spent)
    return min(max(fitting // STEP, 2) * STEP, len(pairs))
