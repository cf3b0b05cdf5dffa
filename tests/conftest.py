"""One state folder and one real server for each process that runs tests, notebooks included.

The folder's name stands in SCORE_STATE_DIR, so the kernels that nbval starts inherit it: whoever
comes first launches the server, everybody else adopts it, and the end of the run ends it. The
processes of pytest-xdist (`make test` has two) share nothing: notebook 01 stops the server that it
finds, and 10 reads its counters.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.client import ScoreClient
from helpers.offline_model import OFFLINE_MODEL_NAME
from helpers.server import ScoreServer, stop_all

PREFIX = "score-tests-"
_made = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the run's servers apart from those of the person who runs it, and choose the model.

    The stored outputs of the notebooks are the offline reranker's, so it serves on a GPU too.
    """
    os.environ.setdefault("SCORE_MODEL", OFFLINE_MODEL_NAME)
    # Two processes share the cores, so a thread that waits must not spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("SCORE_SERVER_URL", "SCORE_API_KEY", "BEIR_DATASET"):
        os.environ.pop(name, None)
    of_xdist = hasattr(config, "workerinput")
    if of_xdist or not Path(os.environ.get("SCORE_STATE_DIR", "")).name.startswith(PREFIX):
        # Not a run that another test started: that one shares the folder it was given.
        config.stash[_made] = Path(tempfile.mkdtemp(prefix=PREFIX))
        os.environ["SCORE_STATE_DIR"] = str(config.stash[_made])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's server, whether a test or a notebook started it."""
    folder = config.stash.get(_made, None)
    if folder is not None:
        os.environ["SCORE_STATE_DIR"] = str(folder)
        stop_all()
        del os.environ["SCORE_STATE_DIR"]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> ScoreServer:
    """Give the real server that all tests share; leave it running and unharmed."""
    return ScoreServer().start()


@pytest.fixture
def client(server: ScoreServer) -> Iterator[ScoreClient]:
    """Give a client for the shared server."""
    with server.client() as client:
        yield client
