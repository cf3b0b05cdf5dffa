"""Fixtures of the unit tests, which need no vLLM."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from helpers.client.client import ScoreClient

# A busy machine is no fault of the code, and two runs of one commit try the same examples.
settings.register_profile(
    "patient",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")

# So that a test can `from fault_server import ...` whatever import mode pytest runs in.
sys.path.insert(0, str(Path(__file__).parent))

from fault_server import FaultServer  # noqa: E402


class NoPauses:
    """Stand for the event that a client waits on between tries: remember the pauses, take none."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return False


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a key, a server or a proxy of the person who runs the tests out of them."""
    names = ("SCORE_API_KEY", "SCORE_SERVER_URL", "SCORE_MODEL", "NETRC")
    proxies = [f"{name}_proxy" for name in ("http", "https", "all", "no")]
    for name in (*names, *proxies, *(name.upper() for name in proxies)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultServer]]:
    """Give a function that starts a FaultServer, which ends with the test."""
    with ExitStack() as stack:
        yield lambda *steps, **options: stack.enter_context(FaultServer(*steps, **options))


@pytest.fixture
def no_pauses() -> NoPauses:
    """Give what `client.stopped_by` takes, in order to retry without waiting."""
    return NoPauses()


@pytest.fixture
def client_of(no_pauses: NoPauses) -> Iterator[Callable[..., ScoreClient]]:
    """Give a function that makes a client without pauses for a server."""
    with ExitStack() as stack:

        def make(server: FaultServer, **options: object) -> ScoreClient:
            client = stack.enter_context(ScoreClient(server.url, **options))
            return client.stopped_by(no_pauses)

        yield make
