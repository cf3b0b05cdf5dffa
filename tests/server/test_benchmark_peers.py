"""Peers of the benchmark that no other test starts: each is measured, too briefly to count."""

from __future__ import annotations

from functools import partial

import pytest

import peers
import workload
from helpers.server.machine import look_at_machine
from timing import Effort

TINY = Effort(rounds=1, seconds=0.05, singles=1)


@pytest.mark.parametrize(
    "measure",
    [peers.ours_int8, partial(peers.sentence_transformers, "in process", "float32")],
    ids=["int8", "in a process of its own"],
)
def test_a_peer_is_measured(measure):
    pairs = {name: some[: workload.GROUP] for name, some in workload.workloads().items()}
    (found,) = measure(peers.Task(pairs, TINY, look_at_machine()))
    assert found.rates.keys() == pairs.keys()
    for settings in found.rates.values():
        assert settings and all(rate > 0 for (rate,) in settings.values())
    assert len(found.single) == 1
