"""Clean what says where a server is and who may ask it: once, where it comes in."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from helpers.errors import InputError

KEY_VARIABLE = "SCORE_API_KEY"

# Some files begin with such a mark, and `strip` does not take it for white space.
_MARKS = "\ufeff\u200b"
# The routes of vLLM, which people copy whole. The root address is what stands before them.
_ROUTE = re.compile(
    r"(/v[12])?(/(score|rerank|embeddings|models|(de)?tokenize|classify|pooling|metrics|health"
    r"|version|load|ping|docs))?/*$"
)


def clean_url(url: str) -> str:
    """Return the root address of a server, without a slash at its end.

    Args:
        url: An address, with or without `http://`. A route of the server at its end, such as
            `/v1` or `/v1/score`, is dropped.

    Raises:
        InputError: It is not an address, or it holds a user name, a password or a query.

    >>> clean_url("localhost:8000/"), clean_url(" https://example.org/reranker/v1/score ")
    ('http://localhost:8000', 'https://example.org/reranker')
    """
    expected = "expected something like http://127.0.0.1:8000"
    text = _stripped(url) if isinstance(url, str) else ""
    if not text:
        raise InputError(f"url is {url!r}, which is not an address: {expected}.")
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Not shown here and below: a mistyped address may hold a password.
        raise InputError(f"url has no valid host and port: {expected}.") from None
    if "@" in parts.netloc:
        raise InputError(
            f"url holds a user name or password: leave it out, and put the key in {KEY_VARIABLE}."
        )
    if parts.scheme not in ("http", "https"):
        raise InputError(f"url starts with {parts.scheme}://: {expected}.")
    # A colon without a number behind it: "http:/host" misses a slash, "host:" its port.
    if not host or parts.netloc.endswith(":") or re.search(r"\s", parts.netloc) or port == 0:
        raise InputError(f"url {text!r} names no host and port: {expected}.")
    if parts.query or parts.fragment:
        raise InputError(f"url holds a query or a fragment (? or #): {expected}.")
    return f"{parts.scheme}://{parts.netloc}{_ROUTE.sub('', parts.path).rstrip('/')}"


def clean_key(key: str) -> str:
    """Return an API key without the white space and line ends that files leave around it.

    Raises:
        InputError: It cannot stand in a header; the message does not show it.

    >>> clean_key("secret-0123\\n")
    'secret-0123'
    """
    text = _stripped(key) if isinstance(key, str) else None
    if text is None or not text.isascii() or not text.isprintable():
        raise InputError(f"The API key (api_key= or {KEY_VARIABLE}) must be printable ASCII text.")
    return text


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


def _stripped(text: str) -> str:
    return text.strip().strip(_MARKS).strip()
