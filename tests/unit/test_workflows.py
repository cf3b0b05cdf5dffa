"""The workflows of a published copy: valid for GitHub, and about the Pythons that we support."""

from __future__ import annotations

import subprocess

import pytest
import yaml

import side_environment
from floors import REPOSITORY, Refusal
from setup_env import Environment

FILES = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
ON = True  # YAML 1.1 reads the key `on` as a truth value


def test_github_would_accept_the_workflows() -> None:
    try:
        side_environment.build("site", REPOSITORY)
    except Refusal as refusal:
        pytest.skip(f"the environment with the schema cannot be built here: {refusal}")
    python = Environment(REPOSITORY / ".envs" / "site").python
    command = [python, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    checked = subprocess.run([*command, *FILES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_tests_run_on_every_push_and_weekly_with_each_supported_python() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())
    assert "push" in workflow[ON] and len(workflow[ON]["schedule"]) == 1
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert any("make test" in step.get("run", "") for step in job["steps"])


def test_the_site_follows_a_run_that_passed_and_names_its_date() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/site.yml").read_text())
    assert workflow[ON]["workflow_run"]["workflows"] == ["tests"]
    build = workflow["jobs"]["build"]
    assert "conclusion == 'success'" in build["if"]
    script = "\n".join(step.get("run", "") for step in build["steps"])
    assert "SITE_LAST_RUN=" in script and "make site" in script
