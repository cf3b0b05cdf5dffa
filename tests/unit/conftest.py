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

    def set(self) -> None:
        """Let the client be closed."""


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
    """Give what a client waits on, see `without_pauses`."""
    return NoPauses()


@pytest.fixture
def without_pauses(no_pauses: NoPauses) -> Callable[[ScoreClient], ScoreClient]:
    """Give a function that makes a client retry without waiting."""

    def change(client: ScoreClient) -> ScoreClient:
        client._transport.here.closed = no_pauses
        return client

    return change


@pytest.fixture
def client_of(
    without_pauses: Callable[[ScoreClient], ScoreClient],
) -> Iterator[Callable[..., ScoreClient]]:
    """Give a function that makes a client without pauses for a server."""
    with ExitStack() as stack:

        def make(server: FaultServer, **options: object) -> ScoreClient:
            return without_pauses(stack.enter_context(ScoreClient(server.url, **options)))

        yield make
