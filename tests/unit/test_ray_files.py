"""The files for Ray that readers copy: Ray itself accepts them, and they agree with each other."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).resolve().parents[2]
RAY = REPOSITORY / "deploy" / "ray"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="no Ray here: make setup EXTRAS=scale"
)

# What the operator's own types name (KubeRay 1.4, ray.io/v1), as far as it is used here. Kubernetes
# drops what it does not know without a word, so a slip of the pen would go unnoticed.
JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"}
CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling"}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
CONTAINER = {"name", "image", "resources", "envFrom"}


def read(name: str) -> dict:
    return yaml.safe_load((RAY / name).read_text("utf-8"))


def pinned_ray() -> str:
    (version,) = re.findall(
        r"^ray==(\S+)", (REPOSITORY / "requirements/scale.txt").read_text(), re.MULTILINE
    )
    return version


def pinned_vllm() -> str:
    (version,) = re.findall(
        r"^vllm==(\S+)", "\n".join(PROJECT["optional-dependencies"]["gpu"]), re.MULTILINE
    )
    return version


def cluster_of(name: str) -> dict:
    """Return what a KubeRay file says about its cluster."""
    spec = read(name)["spec"]
    return spec["rayClusterSpec"] if name == "rayjob.yaml" else spec["rayClusterConfig"]


@needs_ray
def test_ray_accepts_the_cluster_file_with_all_its_defaults():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read("cluster.yaml"))
    validate_config(config)
    (kind,) = config["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])
    assert config["head_start_ray_commands"] == read("cluster.yaml")["head_start_ray_commands"]


@needs_ray
def test_a_wrong_name_in_the_cluster_file_would_be_noticed():
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config({**read("cluster.yaml"), "setup_comands": []}))


def test_the_cluster_starts_ray_once_on_each_machine_and_copies_this_clone_without_environments():
    config = read("cluster.yaml")
    for kind, way in (("head", "--head"), ("worker", "--address=$RAY_HEAD_IP:6379")):
        stop, start = config[f"{kind}_start_ray_commands"]
        assert stop.endswith("/ray stop") and way in start.split()
    (source,) = config["file_mounts"].values()
    assert (RAY / source).resolve() == REPOSITORY
    assert {".git", ".venv", ".envs"} <= set(config["rsync_exclude"])


@pytest.mark.parametrize("name", ["rayjob.yaml", "rayservice.yaml"])
def test_a_kuberay_file_has_fields_that_the_operator_knows(name):
    whole = read(name)
    kind = {"rayjob.yaml": "RayJob", "rayservice.yaml": "RayService"}[name]
    assert (whole["apiVersion"], whole["kind"]) == ("ray.io/v1", kind)
    inner = {"rayjob.yaml": "rayClusterSpec", "rayservice.yaml": "rayClusterConfig"}[name]
    more = JOB if kind == "RayJob" else {"serveConfigV2"}
    assert set(whole["spec"]) == {inner} | more
    cluster = cluster_of(name)
    assert {"rayVersion", "headGroupSpec", "workerGroupSpecs"} <= set(cluster) <= CLUSTER
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group) <= GROUP
        (container,) = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= set(container) <= CONTAINER
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_versions_are_those_of_the_pins_and_the_image_is_the_one_that_is_built():
    for name in ("rayjob.yaml", "rayservice.yaml"):
        assert cluster_of(name)["rayVersion"] == pinned_ray()
    for name in ("cluster.yaml", "Dockerfile"):
        assert f"ray[data,serve]=={pinned_ray()}" in (RAY / name).read_text("utf-8")
    assert f"vllm=={pinned_vllm()}" in (RAY / "cluster.yaml").read_text("utf-8")
    parser = DockerfileParser(str(RAY))
    assert parser.baseimage == f"vllm/vllm-openai:v{pinned_vllm()}"
    (tag,) = re.findall(r"--tag (\S+)", (RAY / "Dockerfile").read_text("utf-8"))
    images = {
        container["image"]
        for name in ("rayjob.yaml", "rayservice.yaml")
        for group in (cluster_of(name)["headGroupSpec"], *cluster_of(name)["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    assert images == {tag}
    (workdir,) = [s["value"] for s in parser.structure if s["instruction"] == "WORKDIR"]
    copied = next(s["value"].split()[1] for s in parser.structure if s["instruction"] == "COPY")
    assert workdir == f"{copied}/{RAY.relative_to(REPOSITORY)}"


def test_the_job_of_kuberay_is_a_command_line_that_the_script_takes():
    spec = read("rayjob.yaml")["spec"]
    python, script, *words = shlex.split(spec["entrypoint"])
    assert python == "python3"
    workers = int(words[words.index("--workers") + 1])
    (group,) = cluster_of("rayjob.yaml")["workerGroupSpecs"]
    assert workers == group["replicas"], "an engine for each machine"
    # A flag that is not known ends it with 2, before it would look at the source.
    said = subprocess.run(
        [sys.executable, str(RAY / script), *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0 and "--workers" in said.stdout


@needs_ray
def test_ray_serve_accepts_the_service_and_the_deployment_it_names():
    from ray.serve.schema import ServeDeploySchema

    text = read("rayservice.yaml")["spec"]["serveConfigV2"]
    (app,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    module, function = app.import_path.split(":")
    built = runpy.run_path(str(RAY / f"{module}.py"))[function](app.args)
    (deployment,) = app.deployments
    assert deployment.name == built._bound_deployment.name
    (group,) = cluster_of("rayservice.yaml")["workerGroupSpecs"]
    scaling = deployment.autoscaling_config
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (
        group["minReplicas"],
        group["maxReplicas"],
    )
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    options = deployment.ray_actor_options
    assert options.num_gpus == int(limits["nvidia.com/gpu"])
    assert options.num_cpus <= int(limits["cpu"])


@needs_ray
def test_a_flag_of_the_application_must_have_a_name_and_a_model():
    build = runpy.run_path(str(RAY / "score_app.py"))["build"]
    with pytest.raises(KeyError, match="model"):
        build({"name": "reranker"})
