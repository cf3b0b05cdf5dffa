"""Drive JupyterLab in a browser: start it, open a notebook, run cells, read what they show."""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Page

# Generous: a launch of vLLM may be part of a cell.
CELL_TIMEOUT = 180_000  # milliseconds
SETTINGS = {
    # No question about news over the page; all cells in the page, in sight or not, and no empty
    # page after the last.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
}
OUTER = "document.querySelector('.jp-WindowedPanel-outer')"
PANEL = "[...jupyterapp.shell.widgets('main')].find(w => w.context?.path === path)"


def lab_state(home: Path) -> Path:
    """Return the state folder of a JupyterLab's kernels.

    Theirs alone, and so is their server: notebook 01 stops it, and the other tests' must stay.
    """
    return home / "state"


class Lab:
    """Run JupyterLab as `make lab` does, with settings of its own, on a free loopback port.

    It serves `home/clone`, so that links out of the notebooks lead somewhere, and opens the first
    notebook.
    """

    def __init__(self, home: Path) -> None:
        """Write the settings; nothing is started yet."""
        self.home, self.root = home, home / "clone"
        self.token = secrets.token_hex(16)
        for name, values in SETTINGS.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))

    def __enter__(self) -> Lab:
        """Start it and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
        command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]
        command += [f"--ServerApp.root_dir={self.root}", "--LabApp.expose_app_in_browser=True"]
        command += ["--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
        env = {
            **os.environ,
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_CONFIG_DIR": str(self.home / "config"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.home / "workspaces"),
            "SCORE_STATE_DIR": str(lab_state(self.home)),
        }
        with (self.home / "lab.log").open("w") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        for _ in range(600):
            try:
                if requests.get(f"{self.url}/api?token={self.token}", timeout=5).ok:
                    return self
            except requests.ConnectionError:
                time.sleep(0.2)
            if self.process.poll() is not None:
                break
        self.__exit__()
        raise RuntimeError(f"JupyterLab did not start:\n{(self.home / 'lab.log').read_text()}")

    def __exit__(self, *_: object) -> None:
        """End it with its kernels; score servers have sessions of their own and stay."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, sign)
                try:
                    self.process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    continue


class Notebook:
    """Open one notebook in a page and act on it as a learner does."""

    def __init__(self, page: Page, lab: Lab) -> None:
        """Take an empty page; `open` comes first."""
        self.page, self.lab, self.path = page, lab, ""
        page.set_default_timeout(CELL_TIMEOUT)

    def open(self, name: str | None = None) -> Notebook:
        """Open a notebook, by default the one that everybody sees first; wait for its kernel."""
        self.path = f"notebooks/{name or '00_start_here.ipynb'}"
        place = f"lab/tree/{self.path}" if name else ""
        # `reset` closes what the test before has left open.
        self.page.goto(f"{self.lab.url}/{place}?reset&token={self.lab.token}")
        self.page.wait_for_function(
            f"path => window.jupyterapp && {PANEL} !== undefined", arg=self.path
        )
        self._in_panel("await panel.context.ready; await panel.sessionContext.ready")
        self.page.wait_for_function(
            f"path => ({PANEL}).sessionContext.session?.kernel?.status === 'idle'", arg=self.path
        )
        return self

    def follow(self, link: str) -> None:
        """Click a link of the text, as it stands in the notebook, and wait for what it opens."""
        path = posixpath.normpath(f"notebooks/{link}")
        self._in_panel("jupyterapp.shell.activateById(panel.id)")
        self.page.locator(f".jp-MarkdownOutput a[href*='/files/{path}?']").first.click()
        self.page.wait_for_function(f"path => {PANEL} !== undefined", arg=path)

    def reopen(self) -> Notebook:
        """Save the notebook, end its kernel, and open it again with a new one."""
        self._in_panel("await panel.context.save(); await panel.sessionContext.shutdown()")
        return self.open(posixpath.basename(self.path))

    def run_all(self) -> None:
        """Run every cell from the top and wait for the last."""
        self._in_panel("await jupyterapp.commands.execute('notebook:run-all-cells')")
        # The command ends at an error that a cell announces, while the cells behind it still run.
        # The kernel takes requests in order, so it answers this one after the last cell.
        self._in_panel("await panel.sessionContext.session.kernel.requestExecute({code: ''}).done")

    def run(self, cell: int, *, wait: bool = True) -> None:
        """Run the cell of this number, counted from 0 over cells of all kinds."""
        self._in_panel(
            f"panel.content.deselectAll(); panel.content.activeCellIndex = {cell};"
            f"{'await' if wait else 'void'} jupyterapp.commands.execute('notebook:run-cell')"
        )

    def interrupt(self) -> None:
        """Interrupt the kernel."""
        self._in_panel("await panel.sessionContext.session.kernel.interrupt()")

    def restart(self) -> None:
        """Restart the kernel and wait until it answers."""
        self._in_panel("await panel.sessionContext.session.kernel.restart()")
        self._in_panel("await panel.sessionContext.session.kernel.info")

    def cells(self) -> list[dict[str, Any]]:
        """Return the cells as they would be stored now (nbformat's JSON)."""
        return self._in_panel("return panel.content.model.toJSON().cells")

    def text_of(self, cell: int) -> str:
        """Return all that a cell has printed or shown as text."""
        parts = []
        for output in self.cells()[cell].get("outputs", []):
            shown = output.get("text") or output.get("data", {}).get("text/plain", "")
            shown = shown or output.get("evalue", "")
            parts.append(shown if isinstance(shown, str) else "".join(shown))
        return "\n".join(parts)

    def errors(self) -> list[str]:
        """Return the errors that no cell announces by the tag `raises-exception`."""
        return [
            f"{output['ename']}: {output['evalue']} in {''.join(cell['source'])[:80]!r}"
            for cell in self.cells()
            if "raises-exception" not in cell["metadata"].get("tags", [])
            for output in cell.get("outputs", [])
            if output["output_type"] == "error"
        ]

    def too_wide(self) -> list[str]:
        """Return the start of each output that the page cuts at its right edge."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.jp-OutputArea-output')]
                .filter(e => e.scrollWidth > e.clientWidth + 2 && e.clientWidth > 0)
                .map(e => e.innerText.slice(0, 80))"""
        )

    def wait_for_output(self, cell: int, text: str) -> None:
        """Wait until the outputs of a cell, an error's name among them, hold a text."""
        self.page.wait_for_function(
            "([path, cell, text]) => "
            f"JSON.stringify(({PANEL}).content.model.toJSON().cells[cell].outputs).includes(text)",
            arg=[self.path, cell, text],
        )

    def use_theme(self, name: str) -> None:
        """Switch JupyterLab's theme, such as 'JupyterLab Dark'."""
        self._in_panel(
            f"await jupyterapp.commands.execute('apputils:change-theme', {{theme: {name!r}}})"
        )
        # The logo that covers the page meanwhile.
        self.page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")

    def photograph(self, file: Path, *, width: int) -> None:
        """Write a picture of the whole notebook at a page width in pixels."""
        # Running all of it has scrolled to the end.
        self._in_panel("panel.content.activeCellIndex = 0")
        self.page.set_viewport_size({"width": width, "height": 900})
        height = self.page.evaluate(f"() => {OUTER}.scrollHeight")
        while self.page.evaluate(f"() => {OUTER}.scrollHeight > {OUTER}.clientHeight"):
            height += 120  # for the bars around the notebook
            assert height < 16_000, "the page does not come to rest"
            self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate(f"() => {OUTER}.scrollTo(0, 0)")
        self.page.screenshot(path=str(file))
        self.page.set_viewport_size({"width": width, "height": 900})

    def close(self) -> None:
        """End the kernel and the page; nothing is saved."""
        if self.path:
            self._in_panel("await panel.sessionContext.shutdown()")
        self.page.close()

    def _in_panel(self, script: str) -> Any:
        return self.page.evaluate(f"async path => {{ const panel = {PANEL}; {script} }}", self.path)
