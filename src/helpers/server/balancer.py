"""Put an nginx in front of several score servers, so that they look like one; on loopback.

It is started, found and ended as `proxy.Nginx` says, so `python -m helpers stop` ends it too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from helpers.client import clean_url
from helpers.errors import InputError
from helpers.server import records
from helpers.server.proxy import Nginx


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
        self._servers = [urlsplit(clean_url(url)) for url in upstreams]
        if not self._servers or any(url.scheme != "http" or url.path for url in self._servers):
            raise InputError(
                "upstreams must be plain http addresses without a path, such as "
                f"['http://127.0.0.1:8000'], and are {list(upstreams)!r}."
            )
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
