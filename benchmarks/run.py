"""Measure our server and client against their peers, and keep what came of it.

    python benchmarks/run.py                          # everything, about 6 minutes
    python benchmarks/run.py --quick                  # the same with short rounds
    python benchmarks/run.py --peers ours,infinity    # some of it
    python benchmarks/run.py --show results/X.json    # the tables and the plot of an earlier run

Tables go to the terminal, JSON and a plot to `benchmarks/results/`. The exit code is 1 if a peer
could not be measured; it does not depend on speed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import requests
from filelock import FileLock, Timeout

import aims
import measurement
import report
import workload
from helpers.errors import ScoreError
from helpers.server import offline_model_path, stop_all
from helpers.server.machine import GIB, Machine, ask_driver, look_at_machine
from measurement import Measurement, Run
from peers import BENCHMARKS, PEERS, PeerError, Task
from timing import FULL, QUICK, Effort

RESULTS = BENCHMARKS / "results"
# Fixed, so that a run that was killed leaves nothing that the next one would not find and end.
STATE = BENCHMARKS / ".state"
# What keeps one peer from being measured, and none of the others.
FAILURES = (PeerError, ScoreError, requests.RequestException, subprocess.SubprocessError)
QUIET_PERCENT = 10
# These would lead to another server, or change the one that is launched.
NOT_FOR_A_BENCHMARK = ("SCORE_SERVER_URL", "SCORE_API_KEY", "SCORE_SERVER_PYTHON", "VLLM_API_KEY")


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    options = _options(arguments)
    if options.show:
        run = measurement.load(options.show)
        show(run)
        keep_plot(run, options.show)
        return 0
    # What ends a server ends it on SIGTERM too, not only on an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in NOT_FOR_A_BENCHMARK:
        os.environ.pop(name, None)
    os.environ["SCORE_STATE_DIR"] = str(STATE)
    STATE.mkdir(exist_ok=True)
    try:
        with FileLock(STATE / "benchmark.lock", timeout=0):
            run = measure(options.peers, QUICK if options.quick else FULL)
    except Timeout:
        print("Another benchmark is running here, and both would be wrong.", file=sys.stderr)
        return 1
    show(run)
    path = RESULTS / f"{run.date.replace(':', '-')}.json"
    measurement.save(run, [ratio.as_dict() for ratio in aims.ratios(run)], path)
    keep_plot(run, path)
    return 1 if any(entry.missing for entry in run.measurements) else 0


def measure(peers: list[str], effort: Effort) -> Run:
    """Measure the peers one after the other; two at once would take each other's cores."""
    stop_all()
    machine = look_at_machine(STATE, ask_driver().gpus)
    pairs = workload.workloads()
    model = offline_model_path()
    # Read from the disk what vLLM is made of, or whoever starts first pays for it.
    imports = [sys.executable, "-c", "import vllm.entrypoints.openai.api_server"]
    subprocess.run(imports, capture_output=True, check=False)
    task = Task(pairs, effort, machine)
    measurements: list[Measurement] = []
    try:
        for name in peers:
            print(f"\n{name}", flush=True)
            remark = _remark_on_others()
            try:
                measurements += [
                    replace(found, note="; ".join(filter(None, (found.note, remark))))
                    for found in PEERS[name](task)
                ]
            except FAILURES as error:
                # The rest may be the end of a long log, whose path it names.
                print(error, flush=True)
                measurements.append(Measurement(name, missing=str(error).split("\n")[0]))
            except KeyboardInterrupt:
                # What was measured before is worth keeping.
                measurements.append(Measurement(name, missing="interrupted"))
                break
    finally:
        stop_all()
    return Run(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=_hardware(machine),
        effort=effort,
        tokens={name: workload.tokens_per_pair(some, model) for name, some in pairs.items()},
        measurements=measurements,
    )


def show(run: Run) -> None:
    """Print a run."""
    print("", report.facts(run), report.measured_table(run), sep="\n\n")
    print("", report.ratio_table(aims.ratios(run)), sep="\n")


def keep_plot(run: Run, path: Path) -> None:
    """Store the plot beside the run's file, if anything was measured, and say where both are."""
    print(f"\nKept: {path}")
    if any(entry.rates for entry in run.measurements):
        report.draw(run).savefig(path.with_suffix(".png"), dpi=120)
        print(f"Kept: {path.with_suffix('.png')}")


def _remark_on_others() -> str:
    """Look for a second what other programs take, while nothing of ours runs."""
    share = psutil.cpu_percent(interval=1.0)
    if share < QUIET_PERCENT:
        return ""
    remark = f"other programs used {share:.0f}% of the processors just before"
    print(f"Not a quiet machine: {remark}.", flush=True)
    return remark


def _hardware(machine: Machine) -> dict[str, str]:
    processor = {
        "processor": machine.cpu_name,
        "cores": f"{len(machine.cpus)} cores",
        "bfloat16": "bfloat16 instructions" if machine.has_bfloat16 else "no bfloat16 instructions",
        "memory": f"{machine.memory_total / GIB:.0f} GiB of memory",
    }
    return {**processor, "gpu": machine.gpu.name} if machine.gpu else processor


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short rounds: a trial of the run")
    parser.add_argument(
        "--peers",
        type=_peers,
        default=list(PEERS),
        metavar="NAME,...",
        help="some of: " + ", ".join(PEERS),
    )
    parser.add_argument("--show", type=Path, metavar="FILE", help="show an earlier run again")
    return parser.parse_args(arguments)


def _peers(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no peer is called {', '.join(unknown)}; there are {', '.join(PEERS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
