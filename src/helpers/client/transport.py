"""Carry requests to a server and answers back, over a network that fails now and then.

`urllib3.Retry` is not used: it knows no deadline for the whole call, no second try after an answer
that was cut off half-way, and no pause that can be ended.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from helpers.client.address import clean_key, clean_url, is_loopback
from helpers.client.inputs import positive_number, whole_number
from helpers.errors import RequestTimeoutError, ResponseError, ScoreError, UnreachableError

# A pass through the network takes far less; a host that drops packets should not use up the
# time of the whole call.
CONNECT_SECONDS = 10.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 8.0
# A server may ask for any pause; beyond this one an error is more useful than the wait.
LONGEST_RETRY_AFTER = 30.0
RETRY_STATUSES = frozenset({429, 502, 503, 504})
# More than any sensible concurrency: connections are opened only when needed.
POOL_SIZE = 128
PIECE = 65_536


@dataclass(frozen=True)
class Answer:
    """What came of a request: a status and a body, or an error; and whether to try again, when."""

    status: int = 0
    content: bytes = b""
    error: ScoreError | None = None
    retryable: bool = False
    retry_after: float | None = None


class Transport:
    """Send requests to one server, from any thread and any process.

    A copy in another process, by a fork or by pickling, makes connections of its own: two processes
    on one connection would read each other's answers, which carry nothing that tells them apart.
    """

    def __init__(self, url: str, key: str, timeout: float, retries: int) -> None:
        """Check the settings, which are those of `ScoreClient`; nothing is sent yet."""
        if not hasattr(urllib3.HTTPResponse, "read1"):
            raise ScoreError(
                f"urllib3 {urllib3.__version__} is too old: 2.2 or newer is needed. Run "
                '`pip install "urllib3>=2.2"`, and restart the kernel.'
            )
        self.url = clean_url(url)
        self.timeout = positive_number("timeout", timeout)
        self.retries = whole_number("retries", retries, least=0)
        self._auth = _KeyAuth(clean_key(key))
        self._by_process: dict[int, _Connections] = {}

    @property
    def here(self) -> _Connections:
        """Return the connections of this process."""
        process = os.getpid()
        if process not in self._by_process:
            # One step, also where two threads come at a time; what the second one made is dropped.
            self._by_process.setdefault(process, _Connections(self.url, self._auth))
        return self._by_process[process]

    def __getstate__(self) -> dict[str, Any]:
        """Keep the settings, key included, and nothing that belongs to a process."""
        return {**vars(self), "_by_process": {}}

    def close(self) -> None:
        """Close the connections of this process; a request that waits for its next try ends."""
        self.here.closed.set()
        self.here.session.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> Answer:
        """Send a request until it is answered, refused, out of tries or out of time.

        Once `stop` is set, a pause before the next try ends, and nothing is sent any more.
        """
        closed = self.here.closed
        deadline = time.monotonic() + self.timeout
        pause = FIRST_PAUSE
        for tries_left in range(self.retries, -1, -1):
            if closed.is_set() or (stop is not None and stop.is_set()):
                raise ScoreError("This client is closed: make a new ScoreClient.")
            answer = self._try(method, path, body, deadline)
            wait = answer.retry_after
            wait = pause * random.uniform(0.5, 1.5) if wait is None else wait
            if not answer.retryable or not tries_left or time.monotonic() + wait >= deadline:
                break
            (stop or closed).wait(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        return answer

    def send_once(self, method: str, path: str, limit: float) -> Answer:
        """Send a request one time, with at most so many seconds."""
        return self._try(method, path, None, time.monotonic() + min(limit, self.timeout))

    def _try(self, method: str, path: str, body: bytes | None, deadline: float) -> Answer:
        """Send a request once; every fault of the network becomes an error of ours."""
        left = max(deadline - time.monotonic(), 0.001)
        try:
            with self.here.session.request(
                method,
                self.url + path,
                data=body,
                timeout=(min(CONNECT_SECONDS, left), left),
                stream=True,
                allow_redirects=False,
            ) as response:
                content = _read(response.raw, deadline)
            return Answer(
                response.status_code,
                content,
                retryable=response.status_code in RETRY_STATUSES,
                retry_after=_retry_after(response.headers),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as fault:
            error, retryable = self._to_error(fault)
        # Out of the except block: the library's error holds the request, and that holds the key.
        return Answer(error=error, retryable=retryable)

    def _to_error(self, fault: Exception) -> tuple[ScoreError, bool]:
        """Return our error for one of the network, and whether another try may help."""
        reason = _reason(fault)
        slow = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
        # Without a connection, nobody is there to be slow.
        if isinstance(fault, slow) and not isinstance(fault, requests.ConnectTimeout):
            return RequestTimeoutError(
                f"{self.url} did not answer within {self.timeout:g} seconds. Send fewer or "
                "shorter texts at once, or give the client a larger timeout=."
            ), False
        if isinstance(fault, requests.exceptions.SSLError):
            return UnreachableError(
                f"No secure connection to {self.url}: {reason}. Check that the server speaks "
                "https, and that its certificate is known here (REQUESTS_CA_BUNDLE)."
            ), False
        if isinstance(fault, requests.exceptions.ProxyError):
            return UnreachableError(
                f"The proxy for {self.url} does not answer: {reason}. Check HTTP_PROXY and "
                "HTTPS_PROXY, or name the server's host in NO_PROXY."
            ), True
        if type(fault) is OSError and "certificate bundle" in str(fault):
            return UnreachableError(
                f"No secure connection to {self.url}: {reason}. Correct or unset "
                "REQUESTS_CA_BUNDLE: it must name a file of certificates."
            ), False
        if not isinstance(fault, requests.RequestException):
            # Only the body is read by urllib3 directly: everything before was in order.
            return ResponseError(
                f"The answer of {self.url} was cut off: {reason}. Try again; look in its log."
            ), True
        return UnreachableError(
            f"No score server answers at {self.url}: {reason}. Start one (in a notebook: "
            "ScoreServer().start()), or check the address."
        ), isinstance(fault, requests.ConnectionError)


class _Connections:
    """What belongs to one process: sockets, a lock, and the event that ends the pauses.

    A lock that another thread held at the moment of a fork stays locked in the child for ever.

    One session serves all threads, so that a client has one pool to keep and to close. What makes a
    session unsafe to share is that it changes: cookies and redirects. It keeps no cookie and
    follows no redirect, and urllib3's pool below it is made for threads.
    """

    def __init__(self, url: str, auth: requests.auth.AuthBase) -> None:
        self.closed = threading.Event()
        self.lock = threading.Lock()
        self.session = requests.Session()
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.session.auth = auth
        agent = f"vllm-score-notebooks {requests.utils.default_user_agent()}"
        self.session.headers.update({"User-Agent": agent, "Content-Type": "application/json"})
        adapter = _DirectAdapter if is_loopback(urlsplit(url).hostname or "") else HTTPAdapter
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, adapter(pool_connections=1, pool_maxsize=POOL_SIZE))


class _KeyAuth(requests.auth.AuthBase):
    """Add the key to a request; a `.netrc` could otherwise put its own words there."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _DirectAdapter(HTTPAdapter):
    """Reach a server on this machine, whatever proxy the environment names."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        return super().send(request, **{**options, "proxies": {}})


def _read(raw: urllib3.HTTPResponse, deadline: float) -> bytes:
    """Read the body to its end; a server that sends it drop by drop cannot exceed the deadline."""
    pieces = []
    while piece := raw.read1(PIECE, decode_content=True):
        pieces.append(piece)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection = raw.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(left)
    return b"".join(pieces)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        asked = urllib3.Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
    return min(asked, LONGEST_RETRY_AFTER)


def _reason(error: BaseException) -> str:
    """Return the innermost cause of a chain of errors, in the words of the system."""
    # Not by __context__: that leads on to whatever the caller was handling.
    links = (getattr(error, "reason", None), *error.args, error.__cause__)
    for inner in links:
        if isinstance(inner, BaseException):
            return _reason(inner)
    words = (getattr(error, name, None) for name in ("verify_message", "strerror"))
    text = next((word for word in words if word), str(error) or type(error).__name__)
    # A garbled answer may be part of it: one line of it is enough.
    return " ".join(text.split())[:200]
