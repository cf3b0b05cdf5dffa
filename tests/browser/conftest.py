"""What the browser tests share: one JupyterLab, one Chromium, and a page for each test.

Without a Chromium on the machine these tests are skipped, and the reason says what to install.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from jupyterlab_page import Lab, Notebook, lab_state
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from helpers.server.server import stop_all

REPOSITORY = Path(__file__).resolve().parents[2]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SERVED = ("notebooks", "deploy", "docs")
PICTURES = REPOSITORY / ".artefacts" / "browser"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Give the Chromium of this machine, without a window."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container's root does not have; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give a JupyterLab on a copy of the notebooks and of what they link to."""
    home = tmp_path_factory.mktemp("lab")
    for folder in SERVED:
        shutil.copytree(REPOSITORY / folder, home / "clone" / folder)
    try:
        with Lab(home) as lab:
            yield lab
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCORE_STATE_DIR", str(lab_state(home)))
            stop_all()


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path | None:
    """Give the folder for screenshots, which is not in the repository; None without --pictures."""
    if not request.config.getoption("--pictures"):
        return None
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES


@pytest.fixture(scope="session")
def visitor(chromium: Browser) -> Iterator[BrowserContext]:
    """Give what the pages of JupyterLab share: its program is fetched and compiled once."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest.fixture
def notebook(visitor: BrowserContext, lab: Lab) -> Iterator[Notebook]:
    """Give an empty page: `notebook.open(name)` fills it; its kernel ends with the test."""
    driver = Notebook(visitor.new_page(), lab)
    yield driver
    driver.close()
