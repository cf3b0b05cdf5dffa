"""The client on a real socket, against faults that a real vLLM cannot be made to give."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import requests
import urllib3
from fault_server import (
    MODEL,
    FaultServer,
    answer,
    changed,
    dripping,
    expected_score,
    good,
    good_answer,
    half_closed,
    reset,
    silent,
    text,
    truncated,
)
from hypothesis import given
from hypothesis import strategies as st

from helpers.client.address import clean_key, clean_url
from helpers.client.client import ScoreClient
from helpers.client.transport import LONGEST_RETRY_AFTER
from helpers.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    InputError,
    NotFoundError,
    RequestTimeoutError,
    ResponseError,
    ScoreError,
    ServerBusyError,
    ServerFaultError,
    UnreachableError,
)

KEY = "secret-key-0123456789"


# -- what goes well -----------------------------------------------------------------------------


def test_a_pair_is_sent_as_documented_and_its_score_comes_back(serve, client_of):
    server = serve()
    result = client_of(server).score("query", "document")
    assert server.payloads == [{"model": MODEL, "queries": "query", "documents": "document"}]
    assert result.score == expected_score("query", "document")
    assert result.raw == good_answer(server.payloads[0])


def test_one_query_travels_once_and_is_shown_with_each_document(serve, client_of):
    server = serve()
    result = client_of(server).score("query", ["a", "b"])
    assert server.payloads[0]["queries"] == "query"
    assert result.queries == ("query", "query")
    assert result.documents == ("a", "b")


def test_only_the_options_that_were_given_are_sent(serve, client_of):
    server = serve()
    options = {
        "use_activation": False,
        "truncate_prompt_tokens": -1,
        "truncation_side": "left",
        "max_tokens_per_query": 0,
        "max_tokens_per_doc": 5,
        "instruction": "",
        "chat_template_kwargs": {"a": 1},
        "priority": 0,
        "request_id": "mine",
        "user": "me",
    }
    client_of(server).score("query", "document", **options)
    assert server.payloads[0] == {
        "model": MODEL,
        "queries": "query",
        "documents": "document",
        **options,
    }


def test_any_text_arrives_as_it_was(serve, client_of):
    server = serve()
    texts = ["naïve 东京 🗼 \x00 \u2028 \u202e", '"\\', "a\nb\t"]
    client_of(server).score("query", texts)
    assert server.payloads[0]["documents"] == texts


def test_the_served_model_is_asked_for_once(serve, client_of):
    server = serve(models=("first", "alias"))
    client = client_of(server)
    threads = [threading.Thread(target=client.score, args=("q", "d")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.paths.count("/v1/models") == 1
    assert {payload["model"] for payload in server.payloads} == {"first"}


def test_a_given_model_is_not_asked_for(serve, client_of):
    server = serve()
    client_of(server, model="mine").score("q", "d")
    assert server.paths == ["/score"]


def test_requests_share_a_connection(serve, client_of):
    server = serve()
    client = client_of(server)
    for _ in range(5):
        client.score("q", "d")
    assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(serve, client_of):
    def closing(handler, payload):
        good(handler, payload)
        handler.close_connection = True

    client = client_of(serve(closing))
    assert [client.score("q", "d").score for _ in range(3)] == [expected_score("q", "d")] * 3


def test_a_server_that_serves_nothing_is_an_answer_of_no_use(serve, client_of):
    with pytest.raises(ResponseError, match="serves no model"):
        client_of(serve(models=())).score("q", "d")


def test_version_models_and_health_are_read(serve, client_of):
    client = client_of(serve(models=("a", "b")))
    assert client.models() == ["a", "b"]
    assert client.version() == "0.0.0"
    assert client.health() is True


def test_health_is_false_without_a_server_and_does_not_retry(serve, no_pauses, without_pauses):
    with FaultServer() as server:
        url = server.url
    assert without_pauses(ScoreClient(url)).health() is False
    assert no_pauses.pauses == []


# -- what the server refuses --------------------------------------------------------------------


def test_an_error_of_the_server_keeps_status_body_and_address(serve, client_of):
    body = {"error": {"message": "no\n such thing", "type": "BadRequestError", "code": 400}}
    server = serve(answer(400, body))
    with pytest.raises(BadRequestError) as caught:
        client_of(server).score("q", "d")
    error = caught.value
    assert (error.status, error.body, error.url) == (400, body, f"{server.url}/score")
    assert str(error) == f"{server.url} answered 400: no such thing"


def test_a_pair_that_is_too_long_is_told_how_to_be_cut_and_where_it_is(serve, client_of):
    message = "This model's maximum context length is 512 tokens. However, ..."
    client = client_of(serve(answer(400, {"error": {"message": message}})))
    with pytest.raises(BadRequestError, match="truncate_prompt_tokens=-1"):
        client.score("q", "d")
    with pytest.raises(BadRequestError, match=r"is documents\[2\], with 90,000 characters"):
        client.score("q", ["d", "d", "word " * 18_000, "d"])
    with pytest.raises(BadRequestError, match=r"is documents\[1\], with 90,000 characters"):
        client.rerank("q", ["d", "word " * 18_000])


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_the_variable_to_set(serve, client_of, status):
    with pytest.raises(AuthenticationError, match="SCORE_API_KEY"):
        client_of(serve(answer(status, {"error": "Unauthorized"})), api_key=KEY).score("q", "d")


def test_a_missing_score_route_is_not_taken_for_an_unknown_model(serve, client_of):
    server = serve(answer(404, {"detail": "Not Found"}), models=("generator",))
    with pytest.raises(NotFoundError) as caught:
        client_of(server).score("q", "d")
    assert "no route /score" in str(caught.value)
    assert "'generator'" in str(caught.value)
    assert caught.value.unknown_model is False


def test_an_unknown_model_lists_the_served_ones(serve, client_of):
    body = {"error": {"message": "The model `nope` does not exist.", "type": "NotFoundError"}}
    server = serve(answer(404, body), models=("reranker", "alias"))
    with pytest.raises(NotFoundError) as caught:
        client_of(server, model="nope").score("q", "d")
    assert "no model 'nope'" in str(caught.value)
    assert "'reranker', 'alias'" in str(caught.value)
    assert caught.value.unknown_model is True


def test_an_unknown_model_is_reported_also_where_the_list_is_closed(serve, client_of):
    server = serve(answer(404, {"error": {"message": "The model `nope` does not exist."}}))
    server.models_answer = (401, {"error": "Unauthorized"})
    with pytest.raises(NotFoundError, match="does not tell"):
        client_of(server, model="nope").score("q", "d")


def test_a_page_instead_of_json_is_kept_as_text(serve, client_of):
    with pytest.raises(ServerFaultError) as caught:
        client_of(serve(text("<b>Bad Gateway</b>", 502)), retries=0).score("q", "d")
    assert caught.value.body == "<b>Bad Gateway</b>"


def test_a_redirect_is_not_followed_with_the_key(serve, client_of):
    elsewhere = serve()
    moved = serve(answer(307, {}, Location=f"{elsewhere.url}/score"))
    with pytest.raises(ApiError, match="another address"):
        client_of(moved, api_key=KEY).score("q", "d")
    assert elsewhere.paths == []


def test_a_fault_of_the_server_is_not_repeated(serve, client_of):
    server = serve(answer(500, {"error": {"message": "EngineDeadError"}}), good)
    with pytest.raises(ServerFaultError, match="EngineDeadError"):
        client_of(server).score("q", "d")
    assert len(server.payloads) == 1


# -- what is tried again ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(serve, client_of, status):
    server = serve(answer(status, {}), answer(status, {}), good)
    assert client_of(server).score("q", "d").score == expected_score("q", "d")
    assert len(server.payloads) == 3


@pytest.mark.parametrize("fault", [reset, half_closed, truncated])
def test_a_broken_connection_is_tried_again(serve, client_of, fault):
    server = serve(fault, fault, good)
    assert client_of(server).score("q", "d").score == expected_score("q", "d")
    assert len(server.payloads) == 3


@pytest.mark.parametrize(("status", "kind"), [(429, ServerBusyError), (503, ServerBusyError)])
def test_a_server_that_stays_busy_is_given_up_after_the_retries(serve, client_of, status, kind):
    server = serve(answer(status, {"error": {"message": "overloaded"}}))
    with pytest.raises(kind, match="overloaded"):
        client_of(server, retries=2).score("q", "d")
    assert len(server.payloads) == 3


def test_no_retries_means_one_try(serve, client_of):
    server = serve(answer(503, {}))
    with pytest.raises(ServerBusyError):
        client_of(server, retries=0).score("q", "d")
    assert len(server.payloads) == 1


def test_pauses_grow_and_differ(serve, client_of, no_pauses):
    with pytest.raises(ServerBusyError):
        client_of(serve(answer(503, {})), retries=5, timeout=1000).score("q", "d")
    pauses = no_pauses.pauses
    assert len(set(pauses)) == 5
    for number, pause in enumerate(pauses):
        assert 0.5 * 0.25 * 2**number <= pause <= 1.5 * 0.25 * 2**number


def test_the_pause_that_the_server_asks_for_is_kept(serve, client_of, no_pauses):
    client_of(serve(answer(503, {}, Retry_After="7"), good)).score("q", "d")
    assert no_pauses.pauses == [7]


def test_a_date_to_come_back_at_is_understood(serve, client_of, no_pauses):
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    client_of(serve(answer(429, {}, Retry_After=past), good)).score("q", "d")
    assert no_pauses.pauses == [0]


def test_an_endless_pause_is_capped(serve, client_of, no_pauses):
    client_of(serve(answer(503, {}, Retry_After="86400"), good), timeout=100).score("q", "d")
    assert no_pauses.pauses == [LONGEST_RETRY_AFTER]


@pytest.mark.parametrize("header", ["soon", "-3", "1e9", "9" * 5000])
def test_a_senseless_retry_after_is_ignored(serve, client_of, no_pauses, header):
    client_of(serve(answer(503, {}, Retry_After=header), good)).score("q", "d")
    assert len(no_pauses.pauses) == 1
    assert no_pauses.pauses[0] <= LONGEST_RETRY_AFTER


def test_a_pause_beyond_the_time_of_the_call_is_not_begun(serve, client_of, no_pauses):
    with pytest.raises(ServerBusyError):
        client_of(serve(answer(503, {}, Retry_After="20")), timeout=10).score("q", "d")
    assert no_pauses.pauses == []


# -- what cannot be reached, or takes too long -------------------------------------------------


def test_a_server_that_is_not_there_says_how_to_start_one(no_pauses, without_pauses):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnreachableError) as caught:
        without_pauses(ScoreClient(f"http://127.0.0.1:{port}")).score("q", "d")
    assert "Connection refused" in str(caught.value)
    assert "ScoreServer().start()" in str(caught.value)
    assert len(no_pauses.pauses) == 3


def test_a_reason_is_that_of_the_network_and_not_of_what_was_handled_before(without_pauses):
    client = without_pauses(ScoreClient("http://127.0.0.1:9"))
    try:
        raise LookupError("something else")
    except LookupError:
        with pytest.raises(UnreachableError) as caught:
            client.score("q", "d")
    assert "something else" not in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_an_unknown_host_is_named(without_pauses):
    with pytest.raises(UnreachableError, match=r"no-such-host\.invalid"):
        without_pauses(ScoreClient("http://no-such-host.invalid")).score("q", "d")


def test_https_to_a_server_that_speaks_http_is_told_apart(serve, no_pauses, without_pauses):
    url = serve().url.replace("http://", "https://")
    with pytest.raises(UnreachableError, match="secure connection"):
        without_pauses(ScoreClient(url)).score("q", "d")
    assert no_pauses.pauses == []


@pytest.mark.parametrize("fault", [reset, half_closed])
def test_connections_that_keep_breaking_are_unreachable(serve, client_of, fault):
    with pytest.raises(UnreachableError):
        client_of(serve(fault)).score("q", "d")


@pytest.mark.parametrize("slow", [silent, dripping])
def test_a_slow_answer_ends_with_the_time_and_is_not_repeated(serve, client_of, slow):
    server = serve(slow)
    client = client_of(server, timeout=1)
    with pytest.raises(RequestTimeoutError, match="within 1 seconds"):
        client.score("q", ["document"] * 20)
    assert len(server.payloads) == 1
    assert not server.released.is_set()


def test_an_answer_that_came_too_late_is_not_taken_for_that_of_the_next_request(serve, client_of):
    def late(handler, payload):
        handler.server.released.wait()
        good(handler, payload)

    server = serve(late, good)
    client = client_of(server, timeout=1, model=MODEL)
    with pytest.raises(RequestTimeoutError):
        client.score("q", "first")
    assert client.score("q", "second").score == expected_score("q", "second")
    server.released.set()
    assert client.score("q", "third").score == expected_score("q", "third")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (silent, RequestTimeoutError),
        (dripping, RequestTimeoutError),
        (answer(503, {}), ServerBusyError),
        (answer(429, {}), ServerBusyError),
        (reset, UnreachableError),
        (half_closed, UnreachableError),
        (truncated, ResponseError),
    ],
)
def test_slow_busy_and_gone_are_three_errors(serve, client_of, fault, kind):
    with pytest.raises(ScoreError) as caught:
        client_of(serve(fault), timeout=1, retries=1).score("q", ["document"] * 20)
    assert type(caught.value) is kind


def test_a_host_that_drops_connections_is_gone_and_not_slow():
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        waiting = [stack.enter_context(socket.socket()) for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        client = ScoreClient(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=1, retries=0)
        with pytest.raises(UnreachableError, match="timed out"):
            client.models()


def test_a_urllib3_that_is_too_old_is_named_at_once(monkeypatch):
    for kind in (urllib3.HTTPResponse, urllib3.BaseHTTPResponse):
        monkeypatch.delattr(kind, "read1")
    monkeypatch.setattr(urllib3, "__version__", "1.26.20")
    with pytest.raises(ScoreError, match=r'urllib3 1.26.20 is too old: .* "urllib3>=2.2"'):
        ScoreClient()


def test_a_closed_client_says_so(serve):
    client = ScoreClient(serve().url)
    client.close()
    with pytest.raises(ScoreError, match="closed"):
        client.score("q", "d")


def test_closing_ends_a_pause_in_another_thread(serve):
    server = serve(answer(503, {}, Retry_After="25"))
    client = ScoreClient(server.url, model=MODEL, timeout=1000, retries=50)
    errors = []

    def score():
        try:
            client.score("q", "d")
        except ScoreError as error:
            errors.append(error)

    thread = threading.Thread(target=score)
    thread.start()
    while not server.payloads:
        thread.join(0.05)
    client.close()
    thread.join(20)  # less than the one pause that the server asked for
    assert not thread.is_alive()
    assert len(errors) == 1


# -- what cannot be used -----------------------------------------------------------------------


def test_an_answer_that_stays_cut_off_is_refused(serve, client_of):
    with pytest.raises(ResponseError, match="cut off"):
        client_of(serve(truncated)).score("q", "d")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (text("<html>hello</html>"), "Expected JSON"),
        (text(""), "Expected JSON"),
        (text("[1, 2]"), "list `data`"),
        (text("null"), "list `data`"),
        (changed(lambda body: body["data"][0].update(score=float("nan"))), "is nan"),
        (changed(lambda body: body["data"].pop()), "2 pairs were sent and 1 scores"),
        (changed(lambda body: body["data"][0].update(index=1)), "indices"),
    ],
)
def test_a_wrong_answer_is_refused_at_once(serve, client_of, fault, said):
    server = serve(fault)
    with pytest.raises(ResponseError) as caught:
        client_of(server).score("q", ["a", "b"])
    assert said in str(caught.value)
    assert len(server.payloads) == 1


def test_scores_in_another_order_are_put_back(serve, client_of):
    server = serve(changed(lambda body: body["data"].reverse()))
    result = client_of(server).score("q", ["a", "b", "c"])
    assert result.scores == tuple(expected_score("q", document) for document in "abc")


# -- proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_does_not_capture_a_server_on_this_machine(serve, monkeypatch, name, host):
    proxy, server = serve(), serve()
    monkeypatch.setenv(name, proxy.url)
    with ScoreClient(f"http://{host}:{server.server_port}") as client:
        assert client.score("q", "d").score == expected_score("q", "d")
    assert proxy.paths == []


def test_a_server_elsewhere_is_reached_through_the_proxy(serve, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("http_proxy", proxy.url)
    with ScoreClient("http://scores.invalid:8000", model=MODEL) as client:
        assert client.score("q", "d").score == expected_score("q", "d")
    assert proxy.paths == ["http://scores.invalid:8000/score"]


def test_a_proxy_that_is_down_is_named(monkeypatch, without_pauses):
    with FaultServer() as gone:
        monkeypatch.setenv("http_proxy", gone.url)
    with pytest.raises(UnreachableError, match="HTTP_PROXY"):
        without_pauses(ScoreClient("http://scores.invalid:8000")).score("q", "d")


# -- the key ------------------------------------------------------------------------------------


def test_the_key_of_the_environment_is_sent(serve, monkeypatch):
    monkeypatch.setenv("SCORE_API_KEY", f" {KEY}\n")
    server = serve()
    with ScoreClient(server.url) as client:
        client.score("q", "d")
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_a_given_key_comes_before_that_of_the_environment(serve, monkeypatch):
    monkeypatch.setenv("SCORE_API_KEY", "another")
    server = serve()
    with ScoreClient(server.url, api_key=KEY) as client:
        client.models()
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_none_is_sent_not_even_that_of_a_netrc(serve, monkeypatch, tmp_path, key):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve()
    with ScoreClient(server.url, api_key=key) as client:
        client.models()
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY}é", f"{KEY}\x00", KEY.encode(), 5])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key):
    with pytest.raises(InputError, match="SCORE_API_KEY") as caught:
        ScoreClient(api_key=key)
    assert KEY not in everything_about(caught.value)


def everything_about(error: BaseException) -> str:
    """Return all that a log, a notebook or a debugger would show of an error."""
    parts = [repr(error), str(error), *traceback.format_exception(error)]
    seen = [error, error.__cause__, error.__context__]
    parts += [repr(vars(link)) for link in seen if link is not None]
    return "\n".join(parts)


@pytest.mark.parametrize(
    "fault",
    [
        answer(400, {"error": {"message": "bad"}}),
        answer(401, {"error": "Unauthorized"}),
        answer(404, {"detail": "Not Found"}),
        answer(503, {}),
        answer(500, {}),
        answer(307, {}, Location="http://127.0.0.1:9"),
        text("<html>"),
        truncated,
        reset,
        half_closed,
        dripping,
    ],
)
def test_the_key_is_in_no_error_repr_or_log(serve, client_of, caplog, fault):
    caplog.set_level(logging.DEBUG)
    client = client_of(serve(fault), api_key=KEY, timeout=2)
    with pytest.raises(ScoreError) as caught:
        client.score("q", ["d"] * 30)
    assert KEY not in everything_about(caught.value)
    # Such an error would hold the request, and that its headers.
    assert not isinstance(caught.value.__context__, requests.RequestException)
    assert KEY not in repr(client) + str(client) + repr(vars(client))
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", [f"{KEY}\n", f"\r\n {KEY}\t", f"\ufeff{KEY}\r\n"])
def test_a_key_from_a_file_loses_its_line_end_and_its_mark(serve, key):
    server = serve()
    with ScoreClient(server.url, api_key=key) as client:
        client.models()
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert clean_key(key) == KEY


def test_no_key_is_a_key_of_no_length():
    assert clean_key("") == clean_key(" \n") == ""


# -- processes and threads ----------------------------------------------------------------------


TWO_CHILDREN = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from fault_server import expected_score
from helpers.client import ScoreClient

signal.alarm(300)
client = ScoreClient(sys.argv[2], retries=0)
client.score("warm", "up")  # a connection that both children inherit
wrong = []
for round in range(30):
    gate, go = os.pipe()
    children = []
    for number in range(2):
        child = os.fork()
        if not child:
            try:
                os.close(go)
                os.read(gate, 1)  # both go at once, when the parent closes its end
                document = f"{round} {number}"
                right = client.score("q", document).score == expected_score("q", document)
                os._exit(0 if right else 1)
            except BaseException:
                os._exit(2)
        children.append(child)
    os.close(gate)
    os.close(go)
    wrong += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    document = f"parent {round}"
    assert client.score("q", document).score == expected_score("q", document)
print(sorted(set(wrong)))
"""


def test_two_forked_processes_never_get_the_score_of_the_other(serve):
    server = serve()
    assert run_script(TWO_CHILDREN, server.url) == "[0]"


POOLS = """
import multiprocessing, sys
sys.path.insert(0, sys.argv[1])
from fault_server import expected_score
from helpers.client import ScoreClient

client = ScoreClient(sys.argv[2], retries=0)

def score(document):
    return client.score("q", document).score

if __name__ == "__main__":
    documents = [f"document {row}" for row in range(160)]
    score("warm up")
    right = [expected_score("q", document) for document in documents]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print(pool.map(score, documents, chunksize=1) == right)
    # Here the client itself travels, pickled with its method.
    pairs = [("q", document) for document in documents]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print([result.score for result in pool.starmap(client.score, pairs, chunksize=1)] == right)
"""


def test_a_pool_of_forked_processes_scores_as_one_process_does(serve):
    assert run_script(POOLS, serve().url).split() == ["True", "True"]


def run_script(script, url):
    """Return what a script prints that is given the folder of the tests and an address."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), url],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_process_forked_while_a_thread_asks_for_the_model_does_not_wait_for_it(serve):
    server = serve()
    asked, note = threading.Event(), server.note

    def hold_the_first(handler, payload):
        note(handler, payload)
        if not asked.is_set():
            asked.set()
            server.released.wait()

    server.note = hold_the_first
    client = ScoreClient(server.url)
    thread = threading.Thread(target=lambda: client.model)
    thread.start()
    assert asked.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if client.model == MODEL else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        server.released.set()
        thread.join()


@pytest.mark.parametrize(
    "copied", [lambda client: pickle.loads(pickle.dumps(client)), copy.deepcopy]
)
def test_a_copied_client_has_its_settings_and_its_own_connections(serve, copied):
    server = serve()
    with ScoreClient(
        f"{server.url}/score", model="mine", api_key=KEY, timeout=7, retries=5
    ) as client:
        client.score("q", "before")
        twin = copied(client)
        client.close()
        assert twin.score("q", "after").score == expected_score("q", "after")
    assert (twin.url, twin.model) == (server.url, "mine")
    assert (twin._transport.timeout, twin._transport.retries) == (7, 5)
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert server.connections == 2
    assert KEY not in repr(twin) + repr(vars(twin))


def test_many_threads_share_a_client_and_each_gets_its_own_scores(serve):
    with ScoreClient(serve().url) as client, ThreadPoolExecutor(8) as pool:
        documents = [f"document {row}" for row in range(200)]
        results = list(pool.map(lambda document: client.score("q", document), documents))
    assert [result.score for result in results] == [expected_score("q", d) for d in documents]


def test_a_client_that_was_closed_in_one_process_works_in_another(serve):
    client = ScoreClient(serve().url)
    client.close()
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if client.score("q", "d").score == expected_score("q", "d") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- addresses and settings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000///", "http://127.0.0.1:8000"),
        (" http://127.0.0.1:8000\n", "http://127.0.0.1:8000"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("\ufeffhttp://127.0.0.1:8000\r\n", "http://127.0.0.1:8000"),
        ("HTTP://Host:8000", "http://Host:8000"),
        ("https://example.org/prefix/v1/", "https://example.org/prefix"),
        ("https://example.org/prefix/v1/score", "https://example.org/prefix"),
        ("http://127.0.0.1:8000//score", "http://127.0.0.1:8000"),
        # Names that only begin or end like a route.
        ("http://host/reranker", "http://host/reranker"),
        ("http://host/my-score", "http://host/my-score"),
        ("http://host/v10", "http://host/v10"),
        ("http://host/score/below", "http://host/score/below"),
    ],
)
def test_an_address_may_be_written_in_several_ways(given, clean):
    assert ScoreClient(given).url == clean
    assert clean_url(clean) == clean


@pytest.mark.parametrize("end", ["", "/", "\n"])
@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize(
    "route",
    [
        *("/v1", "/v2", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"),
        *("/v1/embeddings", "/v1/models", "/tokenize", "/detokenize", "/classify", "/pooling"),
        *("/metrics", "/health", "/version", "/load", "/ping", "/docs"),
    ],
)
def test_the_address_of_a_route_is_taken_for_that_of_its_server(scheme, route, end):
    assert clean_url(f" {scheme}127.0.0.1:8000{route}{end}") == "http://127.0.0.1:8000"
    assert clean_url(f"{scheme}gateway/model{route}{end}") == "http://gateway/model"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        None,
        8000,
        "ftp://example.org",
        "http://",
        "http://:8000",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://[::1",
        "http://a b",
        "http://host/?a=b",
        "http://host/#a",
        "http:/host",
        "http:host",
        "host:",
        "/v1/score",
        "//host",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="url"):
        ScoreClient(url)


@pytest.mark.parametrize(
    "url",
    [f"http://me:{KEY}@host", f"http://{KEY}@host:8000", f"me:{KEY}@host", f"http://me:{KEY}"],
)
def test_a_password_in_an_address_is_refused_unseen(url):
    with pytest.raises(InputError) as caught:
        ScoreClient(url)
    assert KEY not in everything_about(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_an_error_of_ours(url):
    try:
        client = ScoreClient(url)
    except InputError:
        return
    assert client.url.startswith(("http://", "https://"))
    assert not client.url.endswith("/")


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": None},
        {"timeout": "60"},
        {"timeout": True},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"retries": np.float64(3)},
        {"timeout": np.float32("nan")},
        {"model": " \n"},
        {"model": ""},
        {"model": 5},
    ],
)
def test_settings_without_sense_are_refused_by_name(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        ScoreClient(**settings)


def test_settings_may_be_numbers_of_numpy(serve):
    server = serve(answer(503, {}))
    settings = {"timeout": np.float32(5), "retries": np.int64(1), "model": " mine\n"}
    with ScoreClient(server.url, **settings) as client, pytest.raises(ServerBusyError):
        client.score("q", "d")
    assert [payload["model"] for payload in server.payloads] == ["mine", "mine"]
