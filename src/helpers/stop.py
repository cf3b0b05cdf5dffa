"""End every server that notebooks left running: `python -m helpers.stop`."""

from __future__ import annotations

import sys

from helpers.errors import ScoreError
from helpers.server import stop_all


def main() -> int:
    """Run the command and return its exit status."""
    try:
        ended = stop_all()
    except (ScoreError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if ended:
        print(f"Ended {len(ended)} processes: {', '.join(map(str, ended))}")
    else:
        print("No server was running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
