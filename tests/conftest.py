"""What all tests share: the run's real server, a client for it, and the built site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import build_site
import side_environment
from floors import REPOSITORY, Refusal
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


@pytest.fixture(scope="session")
def site() -> Path:
    """Give the folder of the whole site, built only where a source has changed since the last time.

    It is not the folder of `make site`, whose site may belong to a published copy.
    """
    try:
        side_environment.build(build_site.ENVIRONMENT, REPOSITORY)
    except Refusal as refusal:
        pytest.skip(f"the site's environment cannot be built here: {refusal}")
    folder = build_site.BUILD / "tests"
    assert build_site.build(build_site.Copy(), folder) == 0, "Sphinx warned; see above"
    return folder / "html"
