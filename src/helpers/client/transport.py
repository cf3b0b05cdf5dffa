"""Carry requests to a server and answers back, over a network that fails now and then."""

from __future__ import annotations

import copy
import ipaddress
import math
import random
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from helpers.errors import (
    InputError,
    RequestTimeoutError,
    ResponseError,
    ScoreError,
    UnreachableError,
)

KEY_VARIABLE = "SCORE_API_KEY"

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
    """Hold what came of a request: a status and a body, or a fault.

    again: another try may help.
    wait: the seconds that the server asks to wait before it.
    """

    status: int = 0
    content: bytes = b""
    fault: ScoreError | None = None
    again: bool = False
    wait: float | None = None


class Transport:
    """Send requests to one server; the parameters are those of `ScoreClient`."""

    def __init__(self, url: str, key: str, timeout: float, retries: int) -> None:
        """Check the settings; nothing is sent yet."""
        self.url = clean_url(url)
        self.timeout = _checked_timeout(timeout)
        if type(retries) is not int or retries < 0:
            raise InputError(f"retries must be a whole number from 0 up, and is {retries!r}.")
        self.retries = retries
        self._stop = threading.Event()
        self._session = _session(self.url, _checked_key(key))

    def close(self) -> None:
        """Close the connections; a request that waits for its next try ends with an error."""
        self._stop.set()
        self._session.close()

    def stopped_by(self, stop: threading.Event) -> Transport:
        """Return a twin that shares the connections and sends nothing once the event is set."""
        twin = copy.copy(self)
        twin._stop = stop
        return twin

    def persist(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request until it is answered, refused, out of tries or out of time."""
        # urllib3's Retry covers the statuses and Retry-After, but knows no deadline for the
        # whole call, no retry of an answer cut off half-way, and no pause that can be ended.
        deadline = time.monotonic() + self.timeout
        pause = FIRST_PAUSE
        for tries_left in range(self.retries, -1, -1):
            if self._stop.is_set():
                raise ScoreError("This client is closed: make a new ScoreClient.")
            answer = self._attempt(method, path, body, deadline)
            wait = pause * random.uniform(0.5, 1.5) if answer.wait is None else answer.wait
            if not answer.again or not tries_left or time.monotonic() + wait >= deadline:
                break
            self._stop.wait(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        return answer

    def once(self, method: str, path: str, seconds: float) -> Answer:
        """Send a request one time, with at most so many seconds."""
        return self._attempt(method, path, None, time.monotonic() + min(seconds, self.timeout))

    def _attempt(self, method: str, path: str, body: bytes | None, deadline: float) -> Answer:
        """Send a request once; every fault of the network becomes one of ours."""
        left = max(deadline - time.monotonic(), 0.001)
        try:
            with self._session.request(
                method,
                self.url + path,
                data=body,
                timeout=(min(CONNECT_SECONDS, left), left),
                stream=True,
                allow_redirects=False,
            ) as response:
                content = _read(response.raw, deadline)
            status = response.status_code
            wait = _retry_after(response.headers.get("Retry-After"))
            return Answer(status, content, again=status in RETRY_STATUSES, wait=wait)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            fault, again = self._fault(error, deadline)
        # Out of the except block: the library's error holds the request, and that holds the key.
        return Answer(fault=fault, again=again)

    def _fault(self, error: Exception, deadline: float) -> tuple[ScoreError, bool]:
        """Return our error for one of the network, and whether another try may help."""
        reason = _reason(error)
        connecting = isinstance(error, requests.exceptions.ConnectTimeout)
        slow = isinstance(
            error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
        )
        if not connecting and (slow or time.monotonic() >= deadline):
            message = (
                f"{self.url} did not answer within {self.timeout:g} seconds. Send fewer or "
                "shorter texts at once, or give the client a larger timeout=."
            )
            return RequestTimeoutError(message), False
        if isinstance(error, requests.exceptions.SSLError):
            message = (
                f"No secure connection to {self.url}: {reason}. Check that the server speaks "
                "https, and that its certificate is known here (REQUESTS_CA_BUNDLE)."
            )
            return UnreachableError(message), False
        if isinstance(error, requests.exceptions.ProxyError):
            message = (
                f"The proxy for {self.url} does not answer: {reason}. Check HTTP_PROXY and "
                "HTTPS_PROXY, or name the server's host in NO_PROXY."
            )
            return UnreachableError(message), True
        if type(error) is OSError and "certificate bundle" in str(error):
            message = (
                f"No secure connection to {self.url}: {reason}. Correct or unset "
                "REQUESTS_CA_BUNDLE: it must name a file of certificates."
            )
            return UnreachableError(message), False
        if not isinstance(error, requests.RequestException):
            # Only the body is read by urllib3 directly: everything before was in order.
            message = f"The answer of {self.url} was cut off: {reason}. Try again; look in its log."
            return ResponseError(message), True
        message = (
            f"No score server answers at {self.url}: {reason}. Start one (in a notebook: "
            "ScoreServer().start()), or check the address."
        )
        return UnreachableError(message), isinstance(error, requests.exceptions.ConnectionError)


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


def _session(url: str, key: str) -> requests.Session:
    # One session for all threads, so that a client has one pool to keep and to close. What makes
    # a session unsafe to share is that it changes: cookies and redirects. We keep no cookie and
    # follow no redirect, and urllib3's pool below it is made for threads.
    session = requests.Session()
    session.cookies.set_policy(requests.cookies.cookielib.DefaultCookiePolicy(allowed_domains=[]))
    session.auth = _KeyAuth(key)
    session.headers["User-Agent"] = f"vllm-score-notebooks {requests.utils.default_user_agent()}"
    session.headers["Content-Type"] = "application/json"
    adapter = _DirectAdapter if is_loopback(urlsplit(url).hostname or "") else HTTPAdapter
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter(pool_connections=1, pool_maxsize=POOL_SIZE))
    return session


def clean_url(url: str) -> str:
    """Return the root address of a server, without a slash at its end.

    >>> clean_url("localhost:8000/"), clean_url(" https://example.org/reranker/v1 ")
    ('http://localhost:8000', 'https://example.org/reranker')
    """
    if not isinstance(url, str) or not url.strip():
        raise InputError(f"url must be an address such as http://127.0.0.1:8000, not {url!r}.")
    text = url.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Not shown here and below: a mistyped address may hold a password.
        raise InputError(
            "url has no valid host and port: expected something like http://127.0.0.1:8000."
        ) from None
    if "@" in parts.netloc:
        raise InputError(
            f"url holds a user name or password: leave it out, and put the key in {KEY_VARIABLE}."
        )
    expected = "expected something like http://127.0.0.1:8000"
    if parts.scheme not in ("http", "https"):
        raise InputError(f"url starts with {parts.scheme}://: {expected}.")
    if not host or any(character.isspace() for character in parts.netloc):
        raise InputError(f"url {text!r} names no host: {expected}.")
    if port == 0:
        raise InputError(f"url {text!r} names the port 0: {expected}.")
    if parts.query or parts.fragment:
        raise InputError(f"url holds a query or a fragment (? or #): {expected}.")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine itself.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "example.org")]
    [True, True, True, False]
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # 0.0.0.0 is where a server listens; as a goal, Linux takes it for the machine itself.
    return address.is_loopback or address.is_unspecified


def _checked_timeout(timeout: float) -> float:
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not math.isfinite(timeout) or timeout <= 0:
        raise InputError(f"timeout must be a number of seconds above 0, and is {timeout!r}.")
    return float(timeout)


def _checked_key(key: object) -> str:
    """Refuse a key that can not stand in a header, without showing it."""
    text = key.strip() if isinstance(key, str) else None
    if text is None or not text.isascii() or not text.replace(" ", "_").isprintable():
        raise InputError(f"The API key (api_key= or {KEY_VARIABLE}) must be printable ASCII text.")
    return text


def _read(raw: urllib3.HTTPResponse, deadline: float) -> bytes:
    """Read the body to its end; a server that sends it drop by drop can not exceed the deadline."""
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


def _retry_after(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        seconds = urllib3.Retry().parse_retry_after(header)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
    return min(seconds, LONGEST_RETRY_AFTER)


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
