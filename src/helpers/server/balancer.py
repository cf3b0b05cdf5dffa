"""Put one address in front of several score servers: nginx, or the vLLM project's router.

Both are started, found and ended as `front.Front` says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from helpers.client import clean_url
from helpers.errors import InputError
from helpers.server import launch, records
from helpers.server.command import HOST, Command
from helpers.server.front import Front
from helpers.server.probe import inherited_environment
from helpers.server.proxy import Nginx
from helpers.server.side import side_environment


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

    def log(self) -> list[str]:
        """Return the lines of its log: a line for each request, and nginx's own messages."""
        return Path(self._started().log_path).read_text().splitlines()

    def __enter__(self) -> Balancer:
        """Start nginx."""
        return self.start()


class VllmRouter(Front):
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

    _kind = "router"
    _program = "The router"
    _start_seconds = 60.0

    def __init__(self, upstreams: Sequence[str], *, port: int = 8040) -> None:
        """Check the arguments; nothing is written or started yet."""
        self._servers = _plain_addresses(upstreams)
        self._port = port
        names = sorted(url.netloc for url in self._servers)
        self._key = records.key_of({"router": names, "port": port})

    def start(self) -> VllmRouter:
        """Start it, and return once it listens.

        Raises:
            SideEnvironmentError: Its environment cannot be built.
            LaunchError: It ended, or did not listen within a minute.
        """
        python = side_environment("vllm-router")
        self.stop()
        try:
            record = self._spawn("vllm-router", lambda port: self._command(python, port))
        except BaseException:
            self.stop()
            raise
        print(f"Ready: {record.url} in front of {', '.join(url.netloc for url in self._servers)}")
        return self

    def __enter__(self) -> VllmRouter:
        """Start it."""
        return self.start()

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
