"""The container files are whole, agree with the repository and each other, and run without root."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from dockerfile_parse.parser import image_from
from packaging.specifiers import SpecifierSet

import floors

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("cpu", "gpu")
MAKEFILE = (REPOSITORY / "Makefile").read_text("utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]


@dataclass
class Stage:
    """A stage of the Dockerfile: what it derives from, and its (instruction, value) in order."""

    parent: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def read_stages() -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    for step in DockerfileParser(str(REPOSITORY / "Dockerfile")).structure:
        name, value = step["instruction"], step["value"]
        if name == "FROM":
            parent, stage = image_from(value)
            stages[stage] = Stage(parent)
        elif name != "COMMENT":
            stages[stage].steps.append((name, value))
    return stages


STAGES = read_stages()
DEVCONTAINER = json.loads((REPOSITORY / ".devcontainer/devcontainer.json").read_text("utf-8"))


def steps(stage: str, *names: str) -> list[str]:
    """Return the values of some instructions of a stage, those that it inherits first."""
    parent = STAGES[stage].parent
    before = steps(parent, *names) if parent in STAGES else []
    return before + [value for name, value in STAGES[stage].steps if name in names]


def command(stage: str) -> list[str]:
    return json.loads(steps(stage, "CMD")[-1])


def commands_of(line: str) -> list[list[str]]:
    """Cut a shell line into commands of words, settings of variables left out."""
    cut = [shlex.split(part) for part in line.split("&&")]
    return [[word for word in words if not re.match(r"[A-Z_]+=", word)] for words in cut]


def copied(stage: str) -> list[str]:
    """Return the sources of every COPY of a stage itself."""
    values = [shlex.split(value) for name, value in STAGES[stage].steps if name == "COPY"]
    return [word for words in values for word in words[:-1] if not word.startswith("--")]


def told(*names: str) -> list[list[str]]:
    """Return the docker commands that files tell their readers to type."""
    text = "\n".join((REPOSITORY / name).read_text("utf-8") for name in names)
    lines = re.sub(r"^# ?", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if re.match(r" *docker (build|run) ", line)]


TOLD = told("Dockerfile", "docs/workshop.md")


def after(flag: str, words: list[str]) -> str:
    return words[words.index(flag) + 1]


# Where the images come from, and who runs in them


def test_every_stage_derives_from_a_whole_version_or_from_an_earlier_stage():
    earlier: set[str] = set()
    for name, stage in STAGES.items():
        pinned = re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", stage.parent)
        assert pinned or stage.parent in earlier, stage.parent
        earlier.add(name)


def test_the_python_of_the_image_is_one_that_the_project_runs_on():
    (version,) = re.findall(r"^python:([\d.]+)", STAGES["base"].parent)
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert tuple(map(int, version.split(".")[:2])) in floors.PYTHONS


@pytest.mark.parametrize("stage", ["base", *TARGETS])
def test_nothing_runs_as_root_in_the_end(stage):
    user = steps(stage, "USER")[-1]
    created = [
        words[-1]
        for line in steps(stage, "RUN")
        for words in commands_of(line)
        if words[0] == "useradd"
    ]
    assert [user] == created and user != "root"


def test_a_build_without_a_target_makes_the_image_for_a_cpu():
    assert list(STAGES)[-1] == "cpu"


def test_the_libraries_that_vllm_is_linked_to_are_installed():
    assert "libnuma1" in steps("cpu", "RUN")[0].split()


# What they run


def test_every_call_of_make_names_a_target_that_is_there():
    lines = [value for stage in STAGES for value in steps(stage, "RUN")]
    lines.append(DEVCONTAINER["postCreateCommand"])
    lines += re.findall(r"`(make [^`]*)`", (REPOSITORY / "docs/workshop.md").read_text("utf-8"))
    called = [words[1] for line in lines for words in commands_of(line) if words[0] == "make"]
    (targets,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert "setup" in called and set(called) <= set(targets.split())


@pytest.mark.parametrize("stage", TARGETS)
def test_a_target_is_set_up_for_the_profile_that_it_is_named_after(stage):
    profiles = re.findall(r"make setup PROFILE=(\w+)", " ".join(steps(stage, "RUN")))
    assert profiles == [stage] and stage in floors.DISK_GB


def test_the_images_have_the_offline_reranker_before_anybody_asks_for_it(tmp_path):
    merging = [
        [words for line in steps(stage, "RUN") for words in commands_of(line)][-1]
        for stage in TARGETS
    ]
    assert merging[0] == merging[1] and merging[0][0] == "python"
    environment = {**os.environ, "SCORE_STATE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, *merging[0][1:]], check=True, env=environment)
    assert len(list(tmp_path.glob("models/offline-reranker-*/model.safetensors"))) == 1


@pytest.mark.parametrize("stage", TARGETS)
def test_jupyterlab_opens_what_make_lab_opens_and_keeps_its_token(stage):
    words = command(stage)
    assert words[:2] == ["jupyter", "lab"] and "--ServerApp.ip=0.0.0.0" in words
    (page,) = [word for word in words if word.startswith("--LabApp.default_url=")]
    assert page in MAKEFILE
    assert (REPOSITORY / page.partition("/lab/tree/")[2]).is_file()
    assert f"--ServerApp.root_dir={steps('base', 'WORKDIR')[-1]}" in words
    assert not re.search("token|password|allow-root", " ".join(words))
    assert "JUPYTER_PREFER_ENV_PATH=1" in " ".join(steps(stage, "ENV"))


# What goes into them


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_copied_is_in_the_repository(stage):
    assert [path for path in copied(stage) if not (REPOSITORY / path).exists()] == []


def test_the_set_up_finds_all_that_it_reads():
    named = {PROJECT["readme"], *PROJECT["license-files"], "Makefile", "pyproject.toml"}
    set_up = {"scripts/setup_env.py", "scripts/floors.py"}
    assert named | set_up | {"requirements", "src"} <= set(copied("sources"))


def test_what_git_ignores_stays_out_of_the_image_and_so_do_keys():
    def lines(name: str) -> set[str]:
        text = (REPOSITORY / name).read_text("utf-8")
        return {line for line in text.splitlines() if line and not line.startswith("#")}

    # Git means every folder unless a pattern starts with a slash; Docker means the first alone.
    wanted = {
        line.strip("/") if line.startswith("/") else f"**/{line.strip('/')}"
        for line in lines(".gitignore")
    }
    assert wanted | {".git", "**/.env", "**/*.pem"} <= lines(".dockerignore")


# How they are reached


def test_all_agree_on_the_port():
    (exposed,) = steps("cpu", "EXPOSE")
    for stage in TARGETS:
        assert steps(stage, "EXPOSE") == [exposed]
        assert f"--ServerApp.port={exposed}" in command(stage)
    assert DEVCONTAINER["forwardPorts"] == [int(exposed)]
    assert list(DEVCONTAINER["portsAttributes"]) == [exposed]
    for words in TOLD:
        if words[1] == "run":
            assert after("-p", words) == f"127.0.0.1:{exposed}:{exposed}"


def test_the_commands_told_build_what_they_run_and_give_it_the_gpu():
    built = {after("--tag", words): after("--target", words) for words in TOLD if "build" in words}
    assert set(built.values()) == set(TARGETS)
    runs = [words for words in TOLD if words[1] == "run"]
    assert {words[-1] for words in runs} == set(built)
    for words in runs:
        assert "--shm-size" in words
        assert ("--gpus" in words) == (built[words[-1]] == "gpu")


def test_a_volume_is_mounted_where_its_owner_can_write():
    volumes = [after("--volume", words) for words in TOLD if "--volume" in words]
    made = steps("gpu", "RUN")[0].split()
    assert volumes and all(volume.partition(":")[2] in made for volume in volumes)


# The development container


def test_the_development_container_is_a_stage_of_the_dockerfile_and_runs_as_its_user():
    build = DEVCONTAINER["build"]
    folder = REPOSITORY / ".devcontainer"
    assert (folder / build["dockerfile"]).resolve() == REPOSITORY / "Dockerfile"
    assert (folder / build["context"]).resolve() == REPOSITORY
    assert DEVCONTAINER["remoteUser"] == steps(build["target"], "USER")[-1]


def test_the_development_container_asks_for_what_the_set_up_needs():
    needs = DEVCONTAINER["hostRequirements"]
    assert int(needs["storage"].removesuffix("gb")) >= floors.DISK_GB["cpu"]
    assert int(needs["memory"].removesuffix("gb")) >= 2 * floors.MEMORY_GB
    assert needs["cpus"] >= 4
