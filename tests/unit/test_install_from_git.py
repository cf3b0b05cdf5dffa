"""The helpers go into a project of one's own as notebook 17 says: from git, without vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("client", "bulk", "server", "search", "monitor", "views", "corpus")
# An engine that is not there, as in a project that only asks a server.
PUBLIC = """
import json, sys
sys.modules.update(dict.fromkeys(("torch", "vllm", "transformers", "sentence_transformers")))
sys.path.insert(0, sys.argv[1])
import importlib, helpers
exec(f"from helpers import {', '.join(helpers.__all__)}")
found = {"helpers": [helpers.__file__, len(helpers.__all__)]}
for name in sys.argv[2:]:
    room = importlib.import_module(f"helpers.{name}")
    found[name] = [room.__file__, len([getattr(room, n) for n in room.__all__])]
found["passages"] = len(corpus.passages())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the package of the last commit, installed by pip from git."""
    commit = subprocess.run(
        ["git", "-C", REPOSITORY, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if commit.returncode:
        pytest.skip("this copy is no git repository")
    folder = tmp_path_factory.mktemp("installed")
    address = f"git+file://{REPOSITORY}@{commit.stdout.strip()}"
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            *words,
            "--target",
            folder,
            f"vllm-score-notebooks @ {address}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_what_it_names_as_public_is_there_without_an_engine(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUBLIC, installed, *ROOMS],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("passages") > 500
    for name, (file, names) in found.items():
        assert Path(file).is_relative_to(installed), name
        assert names > 0, name


def test_it_has_a_version_and_asks_for_no_engine(installed: Path) -> None:
    (metadata,) = installed.glob("vllm_score_notebooks-*.dist-info")
    distribution = PathDistribution(metadata)
    assert distribution.version
    wanted = [Requirement(line) for line in distribution.requires or ()]
    plain = {one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert "requests" in plain
    assert not {name for name in plain if name.startswith(("vllm", "torch", "transformers"))}
