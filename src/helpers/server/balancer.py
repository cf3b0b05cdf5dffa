"""Put one address in front of several score servers: nginx, or the vLLM project's router.

Both listen on loopback and have a record like a score server, so `python -m helpers stop` ends them
too.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import SplitResult, urlsplit

from helpers.client import clean_url
from helpers.errors import InputError, LaunchError, LaunchTimeoutError, ScoreError
from helpers.server import launch, processes, records
from helpers.server.command import HOST, Command
from helpers.server.probe import inherited_environment
from helpers.server.proxy import Nginx
from helpers.server.records import Record
from helpers.server.side import side_environment

ROUTER_START_SECONDS = 60.0
ROUTER_TICK = 0.1


class Balancer(Nginx):
    """An nginx that spreads requests over score servers.

    Starting it again, with the same servers and port, replaces the one before. As a context manager
    it stops at its end.

    Args:
        upstreams: The addresses of the servers, such as http://127.0.0.1:8000.
        template: nginx's configuration; ${SCORE_LISTEN} and ${SCORE_UPSTREAMS} in it are filled in.
        port: The port to try first; the next free one is taken instead if it is in use.

    Raises:
        InputError: An address cannot be one.
    """

    _kind = "balancer"

    def __init__(
        self, upstreams: Sequence[str], template: str | os.PathLike[str], *, port: int = 8020
    ) -> None:
        """Check the arguments; nothing is written or started yet."""
        self._servers = _plain_addresses(upstreams)
        self._template = Path(template).expanduser()
        self._port = port
        names = sorted(url.netloc for url in self._servers)
        servers = "\n    ".join(f"server {url.netloc};" for url in self._servers)
        self._values = {"SCORE_UPSTREAMS": servers}
        self._key = records.key_of({"balancer": names, "port": port})

    def start(self) -> Balancer:
        """Start nginx, and return once it listens.

        Raises:
            InputError: The template cannot be read.
            LaunchError: There is no nginx, or it refuses its configuration.
        """
        record = self._launch()
        print(f"Ready: {record.url} in front of {', '.join(url.netloc for url in self._servers)}")
        return self

    @property
    def url(self) -> str:
        """The address for clients."""
        return self._started().url

    def log(self) -> list[str]:
        """Return the lines of its log: a line for each request, and nginx's own messages."""
        return Path(self._started().log_path).read_text().splitlines()

    def __enter__(self) -> Balancer:
        """Start nginx."""
        return self.start()


class VllmRouter:
    """The vLLM project's router, `vllm-router`, in front of score servers.

    It runs from an environment of its own, which is built first if need be. Starting it again, with
    the same servers and port, replaces the one before. As a context manager it stops at its end.

    Args:
        upstreams: The addresses of the servers, such as http://127.0.0.1:8000. All must be up when
            it starts.
        port: The port to try first; the next free one is taken instead if it is in use.

    Raises:
        InputError: An address cannot be one.
    """

    def __init__(self, upstreams: Sequence[str], *, port: int = 8040) -> None:
        """Check the arguments; nothing is written or started yet."""
        self._servers = _plain_addresses(upstreams)
        self._port = port
        names = sorted(url.netloc for url in self._servers)
        self._key = records.key_of({"router": names, "port": port})
        self._record: Record | None = None

    def start(self) -> VllmRouter:
        """Start it, and return once it listens.

        Raises:
            SideEnvironmentError: Its environment cannot be built.
            LaunchError: It ended, or did not listen within a minute.
        """
        python = side_environment("vllm-router")
        self.stop()
        record, process = launch.spawn(
            self._key, "vllm-router", self._port, lambda port: self._command(python, port)
        )
        self._record = record
        try:
            _await_port(record, process)
        except BaseException:
            self.stop()
            raise
        print(f"Ready: {record.url} in front of {', '.join(url.netloc for url in self._servers)}")
        return self

    @property
    def url(self) -> str:
        """The address for clients."""
        if self._record is None:
            raise ScoreError("The router is not started. Call start() first.")
        return self._record.url

    def stop(self) -> None:
        """End it. Harmless when there is none."""
        record = self._record or records.load(self._key)
        if record is not None:
            record.end()
        self._record = None

    def __enter__(self) -> VllmRouter:
        """Start it."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()

    def _command(self, python: str, port: int) -> Command:
        servers = [url.geturl() for url in self._servers]
        # Its counters have a port of their own, and two routers would want the same one.
        counters, hold = launch.reserve_port(0)
        hold.close()
        words = ["--host", HOST, "--port", str(port), "--prometheus-port", str(counters)]
        words += ["--policy", "round_robin", "--log-level", "warning", "--worker-urls", *servers]
        return Command(
            argv=(python, "-m", "vllm_router.launch_router", *words),
            environment=inherited_environment(python),
            text=" ".join(["vllm-router", *words]),
        )


def _plain_addresses(upstreams: Sequence[str]) -> list[SplitResult]:
    servers = [urlsplit(clean_url(url)) for url in upstreams]
    if not servers or any(url.scheme != "http" or url.path for url in servers):
        raise InputError(
            "upstreams must be plain http addresses without a path, such as "
            f"['http://127.0.0.1:8000'], and are {list(upstreams)!r}."
        )
    return servers


def _await_port(record: Record, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + ROUTER_START_SECONDS
    while not processes.listens_on(record.members(), record.port):
        if process.poll() is not None:
            raise launch.describe(record, LaunchError, "The router ended as it started.")
        if time.monotonic() > deadline:
            message = f"The router did not listen within {ROUTER_START_SECONDS:g} seconds."
            raise launch.describe(record, LaunchTimeoutError, message)
        time.sleep(ROUTER_TICK)
