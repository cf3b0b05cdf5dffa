"""Name everything that can go wrong, under one root: `ScoreError`.

Each message says what happened, what was expected, and what to do next. Where the standard library
already has a name for the fault (`ValueError`, `TimeoutError`, `ConnectionError`, `MemoryError`),
our class is also that one, so that code that does not know this package catches it too.

An API key never appears in a message: the code that raises an error leaves it out.

Each way in which a launch can fail is a class of its own, not a field of `LaunchError`: a traceback
shows the name, and a program catches `OutOfMemoryError` alone, as a `MemoryError` too.

Every argument after the message has a default, because an exception that needs its keywords cannot
be unpickled, and so never arrives from another process.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any


class ScoreError(Exception):
    """The root of all errors that this package raises on purpose.

    Attributes:
        rows: For bulk scoring, the range of rows (counted from 0) that the failed request held;
            None everywhere else.
    """

    rows: range | None = None

    def at_rows(self, rows: range, advice: str = "") -> ScoreError:
        """Remember which rows of a bulk run failed, name them in the message, and return self.

        Args:
            rows: The rows of the failed request, counted from 0.
            advice: What helps in a bulk run; it is added to the message.

        >>> print(InputError("A document is None.").at_rows(range(32, 64)))
        Rows 32 to 63: A document is None.
        """
        self.rows = rows
        where = f"Row {rows[0]}" if len(rows) == 1 else f"Rows {rows[0]} to {rows[-1]}"
        self.args = (f"{where}: {self} {advice}".rstrip(), *self.args[1:])
        return self

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows: IPython's own, without those of this package.

        IPython looks for a method of this name. A notebook shows its own line that failed and the
        message; a script's traceback is whole, as always.
        """
        from IPython import get_ipython

        here = os.path.join(os.path.dirname(__file__), "")
        steps = []
        step = self.__traceback__
        while step is not None:
            steps.append(step)
            step = step.tb_next
        outside = None
        for step in reversed(steps):
            if not step.tb_frame.f_code.co_filename.startswith(here):
                outside = TracebackType(outside, step.tb_frame, step.tb_lasti, step.tb_lineno)
        return get_ipython().InteractiveTB.structured_traceback(type(self), self, outside)


class InputError(ScoreError, ValueError):
    """The arguments cannot be sent: wrong shapes, wrong types, empty lists."""


class ApiError(ScoreError):
    """The server answered with an error.

    Attributes:
        status: The HTTP status code.
        body: What the server sent, parsed if it was JSON, else its text.
        url: The address that was asked, without user name or password.
    """

    def __init__(
        self, message: str, *, status: int = 0, body: dict[str, Any] | str = "", url: str = ""
    ) -> None:
        """Keep the message for `str`, and the rest of the answer as attributes."""
        super().__init__(message)
        self.status = status
        self.body = body
        self.url = url


class BadRequestError(ApiError):
    """The server refused what was asked (400, 422): correct the request."""


class AuthenticationError(ApiError):
    """The server wants a key, or another key (401, 403)."""


class NotFoundError(ApiError):
    """The server has no such route or no such model (404).

    Attributes:
        unknown_model: True if the server has the route and does not know the model's name; False
            if it has no such route, because its model is of another kind or it is no vLLM server.
    """

    unknown_model: bool = False


class ServerBusyError(ApiError):
    """The server is alive but had no room for the request, even after all retries (429, 503)."""


class ServerFaultError(ApiError):
    """The server failed by itself (500 and above, save 503)."""


class UnreachableError(ScoreError, ConnectionError):
    """The connection failed or broke: refused, reset, unknown host, TLS that does not match."""


class RequestTimeoutError(ScoreError, TimeoutError):
    """The server took the request but did not answer in the time allowed: busy, slow or frozen."""


class ResponseError(ScoreError):
    """The answer cannot be used: cut off, not JSON, of another shape, not a number."""


class LaunchError(ScoreError):
    """A server that we launched did not become ready.

    Attributes:
        command: The command as one would type it in a terminal, without the API key.
        log_path: Where its whole log is, or None if it never had one.
        log_tail: The last useful lines of the log.
    """

    def __init__(
        self,
        message: str,
        *,
        command: str = "",
        log_path: Path | None = None,
        log_tail: str = "",
    ) -> None:
        """Put the tail of the log and its path under the message."""
        parts = [message]
        if log_tail:
            parts.append(f"The last lines of its log:\n{log_tail.rstrip()}")
        if log_path is not None:
            parts.append(f"The whole log: {log_path}")
        super().__init__("\n\n".join(parts))
        self.command = command
        self.log_path = log_path
        self.log_tail = log_tail


class EngineMissingError(LaunchError):
    """The chosen interpreter does not exist, or has no vLLM."""


class UnknownFlagError(LaunchError):
    """This version of vLLM does not know a flag that it was given."""


class ModelUnavailableError(LaunchError):
    """The model is missing, half written, or out of reach on the hub."""


class NotAScoringModelError(LaunchError):
    """The server runs, but its model has no score route (it needs exactly one output label)."""


class OutOfMemoryError(LaunchError, MemoryError):
    """The machine or its GPU has too little memory for this model."""


class LaunchTimeoutError(LaunchError, TimeoutError):
    """The launch hung at a stage, which the message names."""


class ServerDiedError(LaunchError):
    """The server ended while it started, for none of the reasons above."""


class SideEnvironmentError(ScoreError):
    """An environment of its own, for tools of other people, could not be built."""


def api_error_type(status: int) -> type[ApiError]:
    """Return the most exact kind of `ApiError` for an HTTP status.

    >>> [api_error_type(status).__name__ for status in (400, 401, 404, 429, 500, 503)]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['BadRequestError', 'AuthenticationError', 'NotFoundError', 'ServerBusyError',
     'ServerFaultError', 'ServerBusyError']
    """
    exact = {
        400: BadRequestError,
        401: AuthenticationError,
        403: AuthenticationError,
        404: NotFoundError,
        422: BadRequestError,
        429: ServerBusyError,
        503: ServerBusyError,
    }
    return exact.get(status, ServerFaultError if status >= 500 else ApiError)
