"""What all tests share: the run's real server, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.client.client import ScoreClient
from helpers.server.server import ScoreServer


@pytest.fixture(scope="session")
def server() -> ScoreServer:
    """Give the real server that all tests share; leave it running and unharmed."""
    return ScoreServer().start()


@pytest.fixture
def client(server: ScoreServer) -> Iterator[ScoreClient]:
    """Give a client for the shared server."""
    with server.client() as client:
        yield client
