"""A kernel as hosted platforms have it: packages of its own, no vLLM, and nothing may change them.

Its packages are links to this environment's, but for an older numpy, older widgets and, where the
notebook searches for nothing, another torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from packaging.requirements import Requirement

import setup_env
from helpers.server.engine import REPOSITORY
from notebook_rules import JUDGE_NOTEBOOKS

OLDER_NUMPY = "2.1.3"
OLDER_WIDGETS = "7.7.1"  # Colab's
OTHER_TORCH = "2.4.1"
OUTSIDE = ("SCORE_SERVER_PYTHON", "PYTHONPATH", "VIRTUAL_ENV")
# Names, in the kernel's environment, a program that looks at what the kernel has.
LOOK = "SCORE_TESTS_LOOK"
LAST_CELL = f"""
import os, runpy
if {LOOK!r} in os.environ:
    runpy.run_path(os.environ[{LOOK!r}])
"""
LOOKS = """
import hashlib, importlib.util, json
from pathlib import Path
import ipywidgets, numpy, psutil, torch
import helpers
from helpers.server import records

repository = Path({repository!r})
versions = [numpy.__version__, ipywidgets.__version__, torch.__version__]
assert versions == {versions!r}, versions
assert importlib.util.find_spec("vllm") is None, "no vLLM in the kernel"
assert helpers.__file__ == str(repository / "src/helpers/__init__.py"), helpers.__file__
for record in records.load_all():
    program = Path(psutil.Process(record.pid).cmdline()[0])
    assert program.is_relative_to(repository / ".venv"), program
# The collection's own entry is new; what was there is as it was.
for name, digest in json.loads(Path({before!r}).read_text()).items():
    assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == digest, name
"""


class NotHereError(Exception):
    """Such a kernel cannot be made here; the message says why."""


def extra_of(notebook: Path) -> str:
    """Return which extra of the collection a notebook needs in its kernel, "" for none."""
    return "judge" if notebook.name[:2] in JUDGE_NOTEBOOKS else ""


def make_platform(folder: Path, extra: str) -> None:
    """Make a platform's kernel, without the collection.

    Args:
        folder: Gets the environment `kernel` and, below `jupyter`, its entry `hosted`.
        extra: What `extra_of` returns.

    Raises:
        NotHereError: No package index answers, or `.venv` would be built anew by a launch.
    """
    made = setup_env.Environment(REPOSITORY)
    stamp = made.read_stamp()
    current = (stamp.get("profile") or "cpu", made.python_version(), stamp.get("extras", ()))
    if stamp.get("key") != setup_env.stamp_key(REPOSITORY, *current):
        raise NotHereError("`.venv` is not there or not up to date: run make test")
    packages = kernel_environment(folder / "kernel", extra)
    before = folder / "before.json"
    before.write_text(json.dumps(digests(packages)))
    torch = importlib.metadata.version("torch") if extra else OTHER_TORCH
    versions = [OLDER_NUMPY, OLDER_WIDGETS, torch]
    look = folder / "look.py"
    look.write_text(LOOKS.format(repository=str(REPOSITORY), versions=versions, before=str(before)))
    spec = folder / "jupyter" / "kernels" / "hosted" / "kernel.json"
    spec.parent.mkdir(parents=True)
    without = [word for name in OUTSIDE for word in ("-u", name)]
    program = [str(folder / "kernel/bin/python"), "-m", "ipykernel_launcher"]
    own = str(REPOSITORY / ".venv" / "bin")
    places = [place for place in os.environ["PATH"].split(os.pathsep) if place != own]
    spec.write_text(
        json.dumps(
            {
                "argv": ["env", *without, *program, "-f", "{connection_file}"],
                "env": {"PATH": os.pathsep.join(places), LOOK: str(look)},
                "display_name": "hosted",
                "language": "python",
            }
        )
    )


def kernel_environment(folder: Path, extra: str = "") -> Path:
    """Make an environment with what `helpers` needs, older numpy and widgets, and another torch.

    The other packages are links to this environment's; a kernel's own and pip are what every
    kernel has. Of torch there is only the name: nothing may import it, and nothing may replace it.
    What an extra of the collection needs is linked too, and this environment's torch with it.

    Raises:
        NotHereError: No package index has the older packages.
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
        raise NotHereError(f"no package index has {older} here: {done.stderr[-200:]}")
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


def digests(packages: Path) -> dict[str, str]:
    """Return the hash of every file of the environment's own, links left out."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in packages.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
