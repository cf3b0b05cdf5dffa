"""The workflows of a published copy: valid for GitHub, and about the Pythons that we support."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import build_site
import side_environment
from floors import REPOSITORY, Refusal
from setup_env import Environment

FILES = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
ON = True  # YAML 1.1 reads the key `on` as a truth value


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """The program that knows GitHub's rules, from the site's environment."""
    try:
        side_environment.build("site", REPOSITORY)
    except Refusal as refusal:
        pytest.skip(f"the environment with actionlint cannot be built here: {refusal}")
    return Environment(REPOSITORY / ".envs" / "site").python.with_name("actionlint")


def lint(actionlint: Path, *files: Path) -> str:
    """Return what actionlint finds, a line each; scripts are checked where shellcheck is there."""
    command = [actionlint, "-oneline", "-no-color", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_github_would_accept_the_workflows(actionlint) -> None:
    assert len(FILES) == 2
    assert lint(actionlint, *FILES) == ""


@pytest.mark.parametrize(
    ("was", "is_now", "says"),
    [
        ("workflow_dispatch:", "dispatch_workflow:", "dispatch_workflow"),
        ("matrix.python }}", "matrix.snake }}", "snake"),
        ("actions/checkout@v6", "actions/checkout@v4", "node20"),
    ],
)
def test_a_mistake_in_a_workflow_is_found(actionlint, tmp_path, was, is_now, says) -> None:
    text = (REPOSITORY / ".github/workflows/tests.yml").read_text("utf-8")
    assert was in text
    wrong = tmp_path / "tests.yml"
    wrong.write_text(text.replace(was, is_now), "utf-8")
    assert says in lint(actionlint, wrong)


def test_the_tests_run_on_every_push_and_weekly_with_each_supported_python() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())
    assert "push" in workflow[ON] and len(workflow[ON]["schedule"]) == 1
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    (step,) = (step for step in job["steps"] if "make test" in step.get("run", ""))
    assert 'PYTEST_FLAGS="$MORE"' in step["run"]
    options = (REPOSITORY / "conftest.py").read_text("utf-8")
    for flag in ("--kills", "--own-kernels"):
        assert flag in step["env"]["MORE"]
        assert f'"{flag}"' in options


def test_the_site_follows_a_run_that_passed_and_names_its_date() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/site.yml").read_text())
    assert workflow[ON]["workflow_run"]["workflows"] == ["tests"]
    build = workflow["jobs"]["build"]
    assert "conclusion == 'success'" in build["if"]
    script = "\n".join(step.get("run", "") for step in build["steps"])
    assert "SITE_LAST_RUN_DATE=" in script and "make site" in script
    platform = re.search('SITE_LAST_RUN_PLATFORM="(.*)"', script).group(1)
    tests = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())["jobs"]["test"]
    assert platform.startswith(tests["runs-on"].replace("ubuntu-", "Ubuntu "))
    assert platform.endswith("Python " + ", ".join(tests["strategy"]["matrix"]["python"]))
    last = build["steps"][-1]
    assert last["uses"].startswith("actions/upload-pages-artifact@")
    assert (REPOSITORY / last["with"]["path"]) == build_site.BUILD / "html"
