"""Metrics of a server: what is read from their text, and what two snapshots tell."""

from __future__ import annotations

import math

import pytest
from fault_server import FaultServer, Handler

from helpers.errors import InputError, NotFoundError, ResponseError, UnreachableError
from helpers.monitor.metrics import ENGINE, Metrics, Work, parse, read_metrics

# The form of vLLM 0.32, with two engines.
TEXT = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 20.0
# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 20.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 9600.0
# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 100.0
vllm:request_success_total{engine="1",finished_reason="stop",model_name="m"} 20.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 7.0
vllm:request_success_total{engine="0",finished_reason="error",model_name="m"} 2.0
# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="1024.0",model_name="m"} 9.0
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="m"} 10.0
vllm:iteration_tokens_total_count{engine="0",model_name="m"} 10.0
vllm:iteration_tokens_total_sum{engine="0",model_name="m"} 9600.0
# HELP vllm:e2e_request_latency_seconds Histogram of e2e request latency in seconds.
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",model_name="m"} 120.0
vllm:e2e_request_latency_seconds_count{engine="0",model_name="m"} 120.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="m"} 60.5
# HELP vllm:request_queue_time_seconds Histogram of time spent in WAITING phase.
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{engine="0",le="+Inf",model_name="m"} 120.0
vllm:request_queue_time_seconds_count{engine="0",model_name="m"} 120.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 30.25
# HELP vllm:request_inference_time_seconds Histogram of time spent in RUNNING phase.
# TYPE vllm:request_inference_time_seconds histogram
vllm:request_inference_time_seconds_bucket{engine="0",le="+Inf",model_name="m"} 120.0
vllm:request_inference_time_seconds_count{engine="0",model_name="m"} 120.0
vllm:request_inference_time_seconds_sum{engine="0",model_name="m"} 24.0
# HELP http_requests_total Total number of requests by method, status and handler.
# TYPE http_requests_total counter
http_requests_total{handler="/score",method="POST",status="2xx"} 4.0
http_requests_total{handler="/v2/rerank",method="POST",status="2xx"} 1.0
http_requests_total{handler="/score",method="POST",status="4xx"} 9.0
http_requests_total{handler="/tokenize",method="POST",status="2xx"} 500.0
"""
SNAPSHOT = Metrics(5.0, 5, 120, 9600, 10, 60.5, 30.25, 24.0, 7, 20)


def metrics_route(monkeypatch, status, body):
    """Let the fault server answer /metrics, which it does not know by itself."""
    get = Handler.do_GET

    def do_get(handler):
        if handler.path == "/metrics":
            handler.send_bytes(status, body.encode())
        else:
            get(handler)

    monkeypatch.setattr(Handler, "do_GET", do_get)


def without(name):
    return "\n".join(line for line in TEXT.splitlines() if name not in line) + "\n"


def test_labels_are_added_up_and_other_metrics_and_other_routes_left_out():
    assert parse(TEXT, 5.0) == SNAPSHOT


def test_pairs_that_ended_without_a_score_are_not_counted():
    only_failures = without('finished_reason="stop"')
    assert parse(only_failures, 0.0).pairs == 0


@pytest.mark.parametrize("name", ENGINE.values())
def test_a_missing_metric_is_named(name):
    stem = name.removesuffix("_total") if name.startswith("vllm:request_success") else name
    with pytest.raises(ResponseError, match=name):
        parse(without(f"{stem}{{") if stem == name else without(stem), 0.0)


def test_a_server_that_scored_nothing_yet_has_no_route_and_counts_zero():
    assert parse(without("http_requests_total{"), 0.0).requests == 0


@pytest.mark.parametrize("text", ["<html>It works!</html>", '{"detail": "Not Found"}', "a 1 2 3 b"])
def test_a_text_of_another_kind_is_refused_with_its_start(text):
    with pytest.raises(ResponseError) as caught:
        parse(text, 0.0)
    assert repr(text) in str(caught.value)


def test_the_work_between_two_snapshots_is_their_difference():
    later = Metrics(7.0, 8, 216, 17280, 18, 84.5, 42.25, 33.6, 0, 0)
    work = later - SNAPSHOT
    assert (work.seconds, work.requests, work.pairs, work.tokens, work.steps) == (2, 3, 96, 7680, 8)
    assert work.pairs_per_second == 48
    assert work.tokens_per_second == 3840
    assert work.pairs_per_step == 12
    assert work.tokens_per_pair == 80


def test_its_table_gives_each_number_and_the_metric_behind_it():
    table = Work(2.0, 3, 96, 7680, 8, latency=24.0, queue=12.0, inference=9.6).table()
    assert table.value["pairs scored"] == "96"
    assert table.value["tokens read"] == "7,680"
    assert table.value["pairs a step"] == "12.0"
    assert table.value["ms a pair, arrival to score"] == "250.0"
    assert table.value["ms of these in the queue"] == "125.0"
    assert table.value["ms of these in the model"] == "100.0"
    assert table["from"]["pairs scored"] == "vllm:request_success_total"


def test_quotients_of_no_work_are_no_numbers_and_shown_as_dashes():
    nothing = SNAPSHOT - SNAPSHOT
    assert math.isnan(nothing.pairs_per_step)
    assert math.isnan(nothing.pairs_per_second)
    assert nothing.table().value["pairs a step"] == "–"
    assert "–" in repr(nothing)
    assert ">–</td>" in nothing._repr_html_()


def test_gauges_may_fall_between_two_snapshots():
    later = Metrics(**vars(SNAPSHOT) | {"running": 0, "waiting": 0})
    assert (later - SNAPSHOT).pairs == 0


@pytest.mark.parametrize("field", ["at", "pairs", "queue"])
def test_snapshots_in_the_wrong_order_or_of_two_servers_are_refused(field):
    fields = vars(SNAPSHOT) | {field: getattr(SNAPSHOT, field) - 1}
    with pytest.raises(InputError, match="fell between"):
        Metrics(**fields) - SNAPSHOT


def test_a_snapshot_is_read_from_the_server_itself(serve, monkeypatch):
    metrics_route(monkeypatch, 200, TEXT)
    snapshot = read_metrics(serve().url)
    assert vars(snapshot) | {"at": 5.0} == vars(SNAPSHOT)


def test_two_snapshots_have_their_order_in_time(serve, monkeypatch):
    metrics_route(monkeypatch, 200, TEXT)
    server = serve()
    first, second = read_metrics(server.url), read_metrics(server.url)
    assert (second - first).seconds > 0


def test_a_server_without_metrics_is_told_apart(serve):
    with pytest.raises(NotFoundError, match="a proxy in front of it may hide them") as caught:
        read_metrics(serve().url)
    assert caught.value.status == 404


def test_a_server_that_is_gone_is_unreachable():
    with FaultServer() as server:
        url = server.url
    with pytest.raises(UnreachableError):
        read_metrics(url)
