"""Kernels with packages of their own, as on hosted platforms: vLLM serves beside them.

01 to 13 run there as notebooks, from the first cell to the last.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement

import setup_env
from badges import install_source
from helpers.server import records
from helpers.server.engine import REPOSITORY
from helpers.server.server import stop_all
from notebook_rules import JUDGE_NOTEBOOKS, Notebook, notebook_paths

OLDER_NUMPY = "2.1.3"
OLDER_WIDGETS = "7.7.1"  # Colab's
OTHER_TORCH = "2.4.1"
OUTSIDE = ("SCORE_SERVER_PYTHON", "PYTHONPATH", "VIRTUAL_ENV")
# The first code cell of a notebook, given as the first argument.
FIRST_CELL = """
import importlib.util, sys
from IPython.core.interactiveshell import InteractiveShell
assert importlib.util.find_spec("helpers") is None, "the cell shall have something to do"
InteractiveShell.instance().run_cell(sys.argv[1]).raise_error()
import helpers
print("helpers", helpers.__file__)
"""
# Appended to each notebook: what its kernel has at the end.
LAST_CELL = """
import importlib.util, json
import ipywidgets, numpy, torch
import helpers
vllm = importlib.util.find_spec("vllm")
versions = [numpy.__version__, ipywidgets.__version__, torch.__version__]
print(json.dumps([*versions, vllm and vllm.origin, helpers.__file__]))
"""


@dataclass(frozen=True)
class Platform:
    """A kernel of a hosted platform.

    Attributes:
        folder: It holds the environment `kernel` and, below `jupyter`, its entry for Jupyter.
        packages: Where its packages are.
        before: The hashes of its own files, as the platform brings them.
        torch: The version of its torch.
    """

    folder: Path
    packages: Path
    before: dict[str, str]
    torch: str

    def variables(self) -> dict[str, str]:
        """Return the environment of a kernel: that of a shell which knows nothing of `.venv`."""
        kept = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
        own = str(REPOSITORY / ".venv" / "bin")
        places = [place for place in os.environ["PATH"].split(os.pathsep) if place != own]
        return kept | {"PATH": os.pathsep.join(places)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "notebook" not in metafunc.fixturenames:
        return
    paths = [path for path in notebook_paths() if "01" <= path.name[:2] <= "13"]
    # Those that search have a kernel of their own; 01 stops the server that the others share.
    paths.sort(key=lambda path: (path.name[:2] in JUDGE_NOTEBOOKS, path.name[:2] == "01"))
    pairs = [("judge" if path.name[:2] in JUDGE_NOTEBOOKS else "", path) for path in paths]
    names = [path.stem for path in paths]
    metafunc.parametrize(
        ("platform", "notebook"), pairs, indirect=["platform"], ids=names, scope="module"
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a state folder that the notebooks share; their servers end with it."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORE_STATE_DIR", str(folder))
        yield folder
        stop_all()


@pytest.fixture(scope="module")
def platform(
    request: pytest.FixtureRequest, servers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Platform:
    """Make the kernel of a hosted platform, without the collection."""
    made = setup_env.Environment(REPOSITORY)
    stamp = made.read_stamp()
    current = (stamp.get("profile") or "cpu", made.python_version(), stamp.get("extras", ()))
    if stamp.get("key") != setup_env.stamp_key(REPOSITORY, *current):
        # Under make test it always is, so there a skip would hide that nothing was tried.
        give_up = pytest.fail if Path(sys.prefix) == made.folder else pytest.skip
        give_up("`.venv` is not there or not up to date, and would be renewed: run make test")
    folder = tmp_path_factory.mktemp("hosted")
    packages = kernel_environment(folder / "kernel", extra=request.param)
    spec = folder / "jupyter" / "kernels" / "hosted" / "kernel.json"
    spec.parent.mkdir(parents=True)
    program = [str(folder / "kernel/bin/python"), "-B", "-m", "ipykernel_launcher"]
    words = {"argv": [*program, "-f", "{connection_file}"], "display_name": "hosted"}
    spec.write_text(json.dumps(words | {"language": "python"}))
    patch = pytest.MonkeyPatch()
    patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    request.addfinalizer(patch.undo)
    torch = importlib.metadata.version("torch") if request.param else OTHER_TORCH
    return Platform(folder, packages, digests(packages), torch)


def test_a_notebook_runs_in_a_kernel_whose_packages_stay_as_they_are(
    platform: Platform, notebook: Path
) -> None:
    node = Notebook.read(notebook).node
    node.cells.append(new_code_cell(LAST_CELL))
    NotebookClient(
        node,
        kernel_name="hosted",
        timeout=600,
        resources={"metadata": {"path": str(notebook.parent)}},
    ).execute(env=platform.variables())
    told = json.loads(text_of(node.cells[-1]))
    assert told[:3] == [OLDER_NUMPY, OLDER_WIDGETS, platform.torch], "as the platform brings them"
    assert told[3] is None, "no vLLM in the kernel"
    assert told[4] == str(REPOSITORY / "src/helpers/__init__.py")
    for record in records.load_all():
        program = Path(psutil.Process(record.pid).cmdline()[0])
        assert program.is_relative_to(REPOSITORY / ".venv"), program
    # The collection's own entry is new; what was there is as it was.
    assert digests(platform.packages).items() >= platform.before.items()


def test_a_notebook_opened_by_its_badge_fetches_the_rest(tmp_path: Path) -> None:
    kernel_environment(tmp_path / "kernel")
    origin = tmp_path / "origin"
    for name in ("src", "notebooks"):
        shutil.copytree(REPOSITORY / name, origin / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, origin)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    for words in (("init", "-b", "main"), ("add", "."), (*identity, "commit", "-m", "All")):
        subprocess.run(["git", "-C", origin, *words], check=True, capture_output=True)
    # Git reads the address of the published copy, and goes to this machine instead.
    redirected = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/some-body/a.copy",
    }
    platform = tmp_path / "content"
    platform.mkdir()
    out = run(tmp_path / "kernel", FIRST_CELL, "some-body/a.copy", platform, **redirected)
    assert f"helpers {platform / 'a.copy/src/helpers/__init__.py'}" in out


def run(environment: Path, code: str, repo: str, folder: Path, **variables: str) -> str:
    """Run code with an environment's Python and return its output; `repo` is the published copy."""
    inherited = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
    done = subprocess.run(
        [environment / "bin/python", "-B", "-c", code, install_source(repo, "main")],
        cwd=folder,
        env=inherited | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kernel_environment(folder: Path, extra: str = "") -> Path:
    """Make an environment with what `helpers` needs, older numpy and widgets, and another torch.

    The other packages are links to this environment's; a kernel's own and pip are what every
    kernel has. Of torch there is only the name: nothing may import it, and nothing may replace it.
    What an extra of the collection needs is linked too, and this environment's torch with it.
    """
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    needed = needed_by("vllm-score-notebooks", extra) | needed_by("ipykernel") | needed_by("pip")
    own = {"numpy", "ipywidgets", "widgetsnbextension", "vllm-score-notebooks"}
    for name in needed - own:
        for top in top_files(name):
            if not (packages / top.name).exists():
                (packages / top.name).symlink_to(top)
    older = [f"numpy=={OLDER_NUMPY}", f"ipywidgets=={OLDER_WIDGETS}", "ipython-genutils==0.2.0"]
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", packages]
    done = subprocess.run([*pip, *older], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index has {older} here: {done.stderr[-200:]}")
    # What draws the older widgets in a browser wants a whole Jupyter: of it too only the name.
    described = packages / "widgetsnbextension-3.6.10.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: widgetsnbextension\nVersion: 3.6.10\n"
    )
    if "torch" not in needed:
        (packages / "torch").mkdir()
        (packages / "torch/__init__.py").write_text(f"__version__ = '{OTHER_TORCH}'\n")
    return packages


def needed_by(name: str, extra: str = "") -> set[str]:
    """Return a distribution and all that it needs, on this machine and with one of its extras."""
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        for text in importlib.metadata.requires(current) or []:
            requirement = Requirement(text)
            asked = {"extra": extra if current == name else ""}
            if requirement.marker is None or requirement.marker.evaluate(asked):
                waiting.append(requirement.name)
    return found


def top_files(name: str) -> set[Path]:
    """Return the files and folders that a distribution has put into site-packages."""
    distribution = importlib.metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    return {Path(distribution.locate_file(top)) for top in tops - {"__pycache__"}}


def text_of(cell: NotebookNode) -> str:
    """Return what a cell has printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def digests(packages: Path) -> dict[str, str]:
    """Return the hash of every file of the environment's own, links left out."""
    return {
        str(path.relative_to(packages)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in packages.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
