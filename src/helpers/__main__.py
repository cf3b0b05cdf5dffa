"""Send the three forms of a score request and print what goes and what comes.

`python -m helpers stop` ends every server that notebooks left running instead.
"""

from __future__ import annotations

import argparse
import os
import pprint
import sys

from helpers.client import ScoreClient
from helpers.errors import ScoreError

URL_VARIABLE = "SCORE_SERVER_URL"
DEFAULT_PORT = 8000
INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended

FRANCE, BRAZIL = "What is the capital of France?", "What is the capital of Brazil?"
PARIS, BRASILIA = "The capital of France is Paris.", "The capital of Brazil is Brasilia."
FORMS = (
    ("queries and documents are both strings", BRAZIL, BRASILIA),
    ("queries is a string and documents is a list", FRANCE, [BRASILIA, PARIS]),
    ("queries and documents are both lists", [BRAZIL, FRANCE], [BRASILIA, PARIS]),
)


def stop() -> int:
    """End every server that notebooks left running, and return the exit status."""
    from helpers.server import left_elsewhere, stop_all

    try:
        ended, elsewhere = stop_all(), left_elsewhere()
    except (ScoreError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if ended:
        print(f"Ended {len(ended)} processes: {', '.join(map(str, ended))}")
    else:
        print("No server was running.")
    for server in elsewhere:
        print(f"Left alone: {server}, which only that place can see and end.")
    return 0


def show(client: ScoreClient) -> None:
    """Print request and answer of each form."""
    for form, query, document in FORMS:
        print(f"Prompt when {form}:")
        pprint.pprint(client.payload(query, document))
        print("Score Response:")
        pprint.pprint(client.score(query, document).raw)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with a plain message."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.action == "stop":
        return stop()
    if options.launch and options.host:
        parser.error("--launch starts a server on this machine: leave --host out")
    try:
        if options.launch:
            _launch_and_show(options.model, options.port)
        else:
            with ScoreClient(_url(options.host, options.port), model=options.model) as client:
                show(client)
    except ScoreError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _launch_and_show(model: str | None, port: int | None) -> None:
    # Imported here: who has a server needs nothing of what launches one.
    from helpers.server import ScoreServer

    port = DEFAULT_PORT if port is None else port
    with ScoreServer(model, port=port) as server, server.client() as client:
        show(client)


def _url(host: str | None, port: int | None) -> str:
    given = os.environ.get(URL_VARIABLE)
    if given and host is None and port is None:
        return given
    host = host or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{DEFAULT_PORT if port is None else port}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__.split("\n")[0])
    parser.add_argument(
        "action",
        nargs="?",
        choices=["demo", "stop"],
        default="demo",
        help="demo (the default) shows the three forms; stop ends the servers of the notebooks",
    )
    parser.add_argument(
        "--host", help=f"where the server is (default: ${URL_VARIABLE}, else localhost)"
    )
    parser.add_argument("--port", type=int, help="its port (default: 8000)")
    parser.add_argument("--model", help="the model's name (default: the one that is served)")
    parser.add_argument(
        "--launch", action="store_true", help="launch a server on this machine first, stop it after"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
