"""Play a score server that misbehaves in ways that a real vLLM cannot be made to.

It speaks HTTP over real sockets. A `FaultServer` is given steps, one for each score request; the
last step stays for all further requests. Without steps it answers as vLLM does.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "played-model"

Step = Callable[["Handler", dict[str, Any]], None]


def expected_score(query: str, document: str) -> float:
    """Return a number from 0 to 1 that only this pair has."""
    return zlib.crc32(f"{query}\n{document}".encode()) / 2**32


def good_answer(payload: dict[str, Any]) -> dict[str, Any]:
    """Return what vLLM would answer, in its own form."""
    queries, documents = (
        [texts] if isinstance(texts, str) else texts
        for texts in (payload["queries"], payload["documents"])
    )
    queries = queries * (len(documents) // len(queries))
    return {
        "id": "score-1",
        "object": "list",
        "created": 1,
        "model": payload["model"],
        "data": [
            {"index": row, "object": "score", "score": expected_score(*pair)}
            for row, pair in enumerate(zip(queries, documents, strict=True))
        ],
        "usage": {"prompt_tokens": 7 * len(documents), "total_tokens": 7 * len(documents)},
    }


def good(handler: Handler, payload: dict[str, Any]) -> None:
    """Answer as vLLM does."""
    handler.send_json(200, good_answer(payload))


def answer(status: int, body: object, **headers: str) -> Step:
    """Answer with this status, JSON body and headers (`Retry_After` becomes `Retry-After`)."""
    return lambda handler, payload: handler.send_json(status, body, **headers)


def text(content: str, status: int = 200) -> Step:
    """Answer with these bytes, JSON or not."""
    return lambda handler, payload: handler.send_bytes(status, content.encode())


def changed(change: Callable[[dict[str, Any]], object]) -> Step:
    """Answer as vLLM does, after a change to the answer."""

    def step(handler: Handler, payload: dict[str, Any]) -> None:
        body = good_answer(payload)
        change(body)
        handler.send_json(200, body)

    return step


def truncated(handler: Handler, payload: dict[str, Any]) -> None:
    """Promise a whole body, send half of it, and close."""
    content = json.dumps(good_answer(payload)).encode()
    handler.send_start(200, len(content))
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def dripping(handler: Handler, payload: dict[str, Any]) -> None:
    """Send a good body drop by drop: never silent for long, and never done in time."""
    content = json.dumps(good_answer(payload)).encode()
    handler.send_start(200, len(content))
    for byte in content:
        handler.wfile.write(bytes([byte]))
        if handler.server.released.wait(0.1):
            return


def silent(handler: Handler, payload: dict[str, Any]) -> None:
    """Say nothing until the server is released, then answer well."""
    handler.server.released.wait()
    good(handler, payload)


def reset(handler: Handler, payload: dict[str, Any]) -> None:
    """Break the connection with a TCP reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def killed(handler: Handler, payload: dict[str, Any]) -> None:
    """End the whole server, as a killed process ends."""
    handler.server.kill()


def half_closed(handler: Handler, payload: dict[str, Any]) -> None:
    """Close the server's half of the connection without a word."""
    handler.connection.shutdown(socket.SHUT_WR)
    handler.close_connection = True


class Handler(BaseHTTPRequestHandler):
    """Take one request after the other from a connection."""

    protocol_version = "HTTP/1.1"
    # Otherwise each body waits 40 ms behind its headers.
    disable_nagle_algorithm = True
    server: FaultServer

    def do_GET(self) -> None:
        """Answer health, version and models; note who asked."""
        self.server.note(self, {})
        answers = {
            "/health": (self.server.health, {}),
            "/version": (200, {"version": "0.0.0"}),
            "/v1/models": self.server.models_answer,
        }
        self.send_json(*answers.get(self.path, (404, {"detail": "Not Found"})))

    def do_POST(self) -> None:
        """Play the next step."""
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.note(self, payload)
        self.server.next_step()(self, payload)

    def send_start(self, status: int, length: int, **headers: str) -> None:
        """Send the status line and the headers."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send_bytes(self, status: int, content: bytes, **headers: str) -> None:
        """Send a whole answer."""
        self.send_start(status, len(content), **headers)
        self.wfile.write(content)

    def send_json(self, status: int, body: object, **headers: str) -> None:
        """Send a whole answer as JSON; NaN goes out as it is."""
        self.send_bytes(status, json.dumps(body).encode(), **headers)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


class FaultServer(ThreadingHTTPServer):
    """Play the steps on a free port of this machine, from `with` to its end.

    paths: the path of each request. payloads: the body of each score request. headers: the
    headers of each request. connections: how many there were. health: the status of `/health`.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *steps: Step, models: tuple[str, ...] = (MODEL,), port: int = 0) -> None:
        """Take the port, or any free one."""
        super().__init__(("127.0.0.1", port), Handler)
        self.health = 200
        self.models_answer = (200, {"data": [{"id": name} for name in models]})
        self.released = threading.Event()
        self.paths: list[str] = []
        self.payloads: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._steps = list(steps) or [good]
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Return the address for a client."""
        return f"http://127.0.0.1:{self.server_port}"

    def note(self, handler: Handler, payload: dict[str, Any]) -> None:
        """Remember a request."""
        with self._lock:
            self.paths.append(handler.path)
            self.headers.append(dict(handler.headers))
            if payload:
                self.payloads.append(payload)

    def next_step(self) -> Step:
        """Return the step for the next score request; the last one stays."""
        with self._lock:
            return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]

    def play(self, *steps: Step) -> None:
        """Forget what came, and play these steps from now on."""
        with self._lock:
            self.paths, self.payloads, self.headers = [], [], []
            self._steps = list(steps)

    def kill(self) -> None:
        """End without a word: every connection breaks, and the port is free again."""
        self.shutdown()
        self.server_close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count a connection, then serve it in a thread."""
        self.connections += 1
        self._open.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: that is what the tests are about."""

    def __enter__(self) -> FaultServer:
        """Start to listen."""
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """Let the silent speak, and close."""
        self.released.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
