"""A kernel that is killed in notebook 14 or 15 leaves no process, once `stop` has been called.

Ray and its processes end with the kernel. Servers, nginx and the router outlive it on purpose: they
have records, by which `make stop` finds them.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty

import nbformat
import psutil
import pytest
from jupyter_client import BlockingKernelClient, KernelManager
from launching import wait_for

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MARK = "KILLED_NOTEBOOK"
# Cells that take long, and whose results the cells up to the kills do not need.
MEASURED = {
    "14": {"14", "15", "17", "19", "27", "28", "29", "31", "44", "47", "49", "50", "56", "58"},
    "15": {"0a4c9530", "4987fc89", "b2831ece"},
}
SERVING = {"40", "42"}

pytestmark = pytest.mark.usefixtures("kills_wanted")


class Kernel:
    """A kernel that runs cells of a notebook, and all that it started, by a mark of their own."""

    def __init__(self, number: str, state: Path, training: Path) -> None:
        (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
        cells = nbformat.read(path, as_version=4).cells
        self.cells = {
            cell.id.removeprefix("scale-"): cell.source.replace("../.train", str(training))
            for cell in cells
            if cell.cell_type == "code" and "install" not in cell.metadata.get("tags", [])
        }
        if number == "14":
            # It makes the folder of section 6 before it scores for long.
            self.cells["54"] = self.cells["54"].splitlines()[0]
        # vLLM and Ray give their processes titles, which would be written over the variables.
        self.env = os.environ | {"SPT_NOENV": "1", MARK: uuid.uuid4().hex}
        self.env["SCORE_STATE_DIR"] = str(state)
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=self.env, cwd=str(NOTEBOOKS))
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        self.pid = self.manager.provisioner.pid

    def run(self, source: str) -> None:
        """Run a cell to its end."""
        reply = self.client.execute_interactive(source, timeout=600, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok", (source, reply["content"])

    def run_until(self, last: str, leave_out: set[str], during: Callable | None) -> None:
        """Run the cells up to one; `during` tells when that has done enough, without its end."""
        for name, source in self.cells.items():
            if name == last:
                break
            if name not in leave_out:
                self.run(source)
        if during is None:
            self.run(self.cells[last])
        else:
            self.client.execute(self.cells[last])
            wait_for(lambda: during(self), seconds=300)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that bear the mark: the kernel, and whatever came of it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.env[MARK]:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def titles(self) -> list[str]:
        titles = []
        for process in self.processes():
            try:
                titles.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return titles

    def has_redrawn(self) -> bool:
        """Whether the cell that runs has drawn its picture a second time."""
        try:
            return self.client.get_iopub_msg(timeout=1)["msg_type"] == "update_display_data"
        except Empty:
            return False


@pytest.fixture
def kernel_of(tmp_path: Path) -> Iterator[Callable[[str], Kernel]]:
    """Give a function that starts a kernel for a notebook; at the end nothing of it is left."""
    kernels: list[Kernel] = []

    def start(number: str) -> Kernel:
        kernels.append(Kernel(number, tmp_path / "state", tmp_path / "train"))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.client.stop_channels()
        for process in kernel.processes():
            process.kill()


def scores_a_part(kernel: Kernel) -> bool:
    return any(title.startswith("ray::MapWorker") for title in kernel.titles())


CASES = {
    "two replicas, nginx and the router": ("14", "24", set(), None, ["nginx", "vllm::router"]),
    "Ray Serve": ("14", "42", set(), None, ["ServeReplica", "raylet"]),
    "Ray Data": ("14", "64", SERVING, scores_a_part, ["MapWorker", "raylet"]),
    "training": ("15", "42c834e8", set(), Kernel.has_redrawn, ["ipykernel"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_kernel_leaves_nothing_that_stop_does_not_end(kernel_of, case: str) -> None:
    number, last, more, during, expected = CASES[case]
    if number == "14" and importlib.util.find_spec("ray") is None:
        pytest.skip("no Ray here: make setup EXTRAS=scale")
    kernel = kernel_of(number)
    kernel.run_until(last, MEASURED[number] | more, during)
    before = "\n".join(kernel.titles())
    assert all(name in before for name in expected), before
    os.kill(kernel.pid, signal.SIGKILL)
    stop = [sys.executable, "-m", "helpers", "stop"]
    subprocess.run(stop, env=kernel.env, check=True, capture_output=True, timeout=120)
    _, left = psutil.wait_procs(kernel.processes(), timeout=120)
    assert not left, [" ".join(process.cmdline()) for process in left]
    assert not kernel.titles()
