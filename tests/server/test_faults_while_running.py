"""Faults of a server that was once ready, in one story, so that few launches are needed.

Two kernels start at once, and their port is taken; both are killed; a later one adopts; the server
freezes; its engine dies and it is replaced. `test_bulk_survives` kills all of a server, and its
first process alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

from launching import StartInThread, only_record, wait_for

from helpers.errors import ServerDiedError
from helpers.server.server import ScoreServer, stop_all

KERNEL = """
import sys, time
from helpers.server import ScoreServer
server = ScoreServer(sys.argv[1], port=int(sys.argv[2])).start()
print("READY", server.adopted, server.pid, flush=True)
time.sleep(3600)
"""


class Kernel:
    """A process that starts a server and then stays, like the kernel of a notebook."""

    def __init__(self, model: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KERNEL, model, str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def ready(self) -> tuple[str, int]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("READY"):
                _, adopted, pid = line.split()
                return adopted, int(pid)
        raise AssertionError("the kernel ended without a server")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_a_server_through_all_its_faults(state, scoring_model):
    port = unused_port()
    with socket.socket() as squatter:
        # The port is free when it is looked at, and taken before vLLM gets to it.
        squatter.bind(("127.0.0.1", 0))
        kernels = [Kernel(scoring_model, port), Kernel(scoring_model, port)]
        try:
            first = wait_for(only_record)
            assert first.port == port
            squatter.close()
            squatter = socket.create_server(("127.0.0.1", port))
            answers = sorted(kernel.ready() for kernel in kernels)
        finally:
            for kernel in kernels:
                kernel.kill()
            squatter.close()
    # One launched it, the other found it.
    assert [adopted for adopted, _ in answers] == ["False", "True"]
    assert len({pid for _, pid in answers}) == 1
    record = only_record()
    assert record.port != port, "a port lost to another program is replaced"
    assert record.pid != first.pid

    # Both kernels are gone, killed outright. A later one finds the server.
    server = ScoreServer(scoring_model).start()
    assert server.adopted and server.pid == record.pid

    # A frozen server is seen as not running, and is left alone while nobody starts it anew.
    os.kill(server.pid, signal.SIGSTOP)
    assert not server.running
    os.kill(server.pid, signal.SIGCONT)
    assert server.running

    # Its engine dies: the next start ends the rest and launches another.
    engine = next(m for m in record.members() if "EngineCore" in " ".join(m.cmdline()))
    engine.kill()
    wait_for(lambda: not server.running)
    start = StartInThread(ScoreServer(scoring_model))
    replaced = wait_for(lambda: (now := only_record()) and now.pid != record.pid and now)
    assert record.members() == []
    assert replaced.pid in stop_all()
    assert isinstance(start.outcome(), ServerDiedError)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_threads_that_start_at_once_end_with_one_server(server):
    found = []

    def start() -> None:
        found.append(ScoreServer().start().pid)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [server.pid] * 4
