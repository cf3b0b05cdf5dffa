"""The benchmark's arithmetic: its pairs, its clock, its ratios, its tables and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from fault_server import MODEL, FaultServer, answer, expected_score

import aims
import measurement
import raw_requests
import report
import run as command_line
import timing
import workload
from helpers.server.model import base_encoder_path
from measurement import Measurement, Run
from timing import Effort
from workload import PASSAGES, SHORT

EFFORT = Effort(rounds=3, seconds=2.0, singles=5)


def peer(name: str, passages: float, short: float = 100.0, **more: object) -> Measurement:
    """Give a peer whose best setting has these medians."""
    rates = {
        PASSAGES: {"small": [1.0, 1.0, 1.0], "large": [passages, passages + 9, passages - 9]},
        SHORT: {"small": [short]},
    }
    return Measurement(name, rates=rates, **more)


def run_of(*measurements: Measurement) -> Run:
    return Run(
        date="2026-11-23T14:00:00+00:00",
        hardware={"processor": "A processor", "cores": "2 cores"},
        effort=EFFORT,
        tokens={PASSAGES: 80.4, SHORT: 20.0},
        measurements=list(measurements),
    )


EVERYONE = run_of(
    peer("ours", 200, ready=10.0, single=[0.02, 0.01, 0.03], versions={"vllm": "0.32.0"}),
    peer("vllm-defaults", 10, ready=30.0, single=[0.2, 0.2]),
    peer("sentence-transformers-float32", 50),
    peer("sentence-transformers-bfloat16", 100, short=125.0),
    peer("infinity", 100, ready=12.0, single=[0.05]),
    peer("client", 99),
    peer("raw-loop", 100),
)


class Clock:
    """Stand for the clock: it moves only when something is scored."""

    def __init__(self) -> None:
        self.now = 0.0

    def scorer(self, seconds_a_pair: float, calls: list[int] | None = None) -> timing.Scorer:
        def score(pairs: Sequence[timing.Pair]) -> None:
            self.now += seconds_a_pair * len(pairs)
            if calls is not None:
                calls.append(len(pairs))

        return score


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give a clock that the module under test reads in place of the real one."""
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


# The pairs


def test_every_run_has_the_same_pairs():
    assert workload.workloads() == workload.workloads()


def test_both_workloads_come_in_groups_of_one_query_that_fill_a_request():
    for pairs in workload.workloads().values():
        asked = list(workload.requests_of(pairs, workload.GROUP))
        assert {len(documents) for _, documents in asked} == {workload.GROUP}
        assert [(query, text) for query, texts in asked for text in texts] == pairs


def test_a_request_never_mixes_queries_and_never_exceeds_its_size():
    pairs = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")]
    assert list(workload.requests_of(pairs, 2)) == [("a", ["1", "2"]), ("a", ["3"]), ("b", ["4"])]


def test_short_pairs_are_about_twenty_tokens_and_passages_are_of_real_length():
    pairs = workload.workloads()
    tokens = {
        name: workload.tokens_per_pair(some, base_encoder_path()) for name, some in pairs.items()
    }
    assert 18 <= tokens[SHORT] <= 22
    assert tokens[PASSAGES] > 70


# The clock


def test_a_rate_is_pairs_by_seconds_one_number_a_round(clock: Clock):
    pairs = workload.workloads()[SHORT]
    measured = timing.rates({"one": clock.scorer(0.01)}, pairs, EFFORT)
    assert measured == {"one": pytest.approx([100.0] * 3)}


def test_a_round_lasts_about_as_long_as_asked_whatever_the_speed(clock: Clock):
    pairs = workload.workloads()[PASSAGES]
    fast, slow = [], []
    scorers = {"fast": clock.scorer(0.001, fast), "slow": clock.scorer(0.1, slow)}
    timing.rates(scorers, pairs, EFFORT)
    assert fast[-1] == 1984  # the whole steps of 32 pairs in 2 seconds
    assert slow[-1] == 64  # not less than two steps


def test_the_rounds_of_two_settings_are_interleaved(clock: Clock):
    order: list[str] = []

    def noting(name: str) -> Callable[[Sequence[timing.Pair]], None]:
        score = clock.scorer(0.1)

        def note(pairs: Sequence[timing.Pair]) -> None:
            order.append(name)
            score(pairs)

        return note

    pairs = workload.workloads()[PASSAGES]
    timing.rates({"a": noting("a"), "b": noting("b")}, pairs, EFFORT)
    assert order[-6:] == ["a", "b"] * 3


def test_single_pairs_leave_the_warm_up_out_and_stop_when_time_is_up(clock: Clock):
    pairs = workload.workloads()[PASSAGES]
    calls: list[int] = []
    assert timing.singles(clock.scorer(0.5, calls), pairs, EFFORT) == [0.5] * 5
    assert calls == [1] * (timing.WARM_UP_SINGLES + EFFORT.singles)
    assert len(timing.singles(clock.scorer(3.0), pairs, EFFORT)) == 2


# The raw loops


def test_the_raw_loops_return_the_scores_of_all_pairs_in_order(serve: Callable[..., FaultServer]):
    pairs = workload.workloads()[SHORT][:70]
    loops = raw_requests.score_loops(serve().url, MODEL, 32, 4)
    assert len(loops) == 2
    for loop in loops.values():
        assert loop(pairs) == [expected_score(*pair) for pair in pairs]


def test_a_raw_loop_does_not_take_a_refusal_for_a_score(serve: Callable[..., FaultServer]):
    server = serve(answer(503, {"error": "busy"}))
    for loop in raw_requests.score_loops(server.url, MODEL, 32, 4).values():
        with pytest.raises(raw_requests.requests.HTTPError):
            loop([("query", "document")])


# What is made of it


def test_the_best_setting_is_the_one_with_the_highest_median():
    assert peer("ours", 200).best(PASSAGES) == ("large", [200, 209, 191])
    assert peer("ours", 200).rate(PASSAGES) == 200
    assert Measurement("ours").best(PASSAGES) is None


def test_each_aim_is_met_or_missed_by_its_own_figure():
    jobs = [
        Measurement(name, ready=start, rates={SHORT: {"a job": [rate]}})
        for name, start, rate in (("score-frame", 9.0, 400.0), ("score-parquet", 20.0, 300.0))
    ]
    int8 = [peer("ours-int8", 260), peer("sentence-transformers-onnx-int8", 130)]
    run = run_of(*EVERYONE.measurements, *int8, *jobs)
    found = {ratio.text: (ratio.value, ratio.met) for ratio in aims.ratios(run)}
    assert found == {
        "time to ready, of vLLM's defaults": (pytest.approx(1 / 3), True),
        "passages, times vLLM's defaults": (20, True),
        "short pairs, times vLLM's defaults": (1, None),
        "one pair alone, of vLLM's defaults": (pytest.approx(0.1), None),
        "passages, times Sentence-Transformers bfloat16": (2, True),
        "short pairs, times Sentence-Transformers bfloat16": (0.8, False),
        "passages, times Sentence-Transformers float32": (4, None),
        "short pairs, times Sentence-Transformers float32": (1, None),
        "passages, int8, times Sentence-Transformers ONNX int8": (2, None),
        "short pairs, int8, times Sentence-Transformers ONNX int8": (1, None),
        "passages, int8 times our own default": (1.3, None),
        "passages, times Infinity": (2, True),
        "short pairs, times Infinity": (1, None),
        "our client, times the best raw loop": (0.99, True),
        "a job on a file, times score_frame with a server": (0.75, None),
    }


def test_a_bound_itself_is_met_and_less_is_not():
    def first(ours: float) -> bool | None:
        run = run_of(peer("ours", 1, ready=ours), peer("vllm-defaults", 1, ready=20.0))
        return aims.ratios(run)[0].met

    assert first(10.0) is True
    assert first(10.1) is False


def test_a_ratio_with_a_side_that_was_not_measured_has_no_value():
    failed = Measurement("vllm-defaults", missing="no room")
    for run in (run_of(peer("ours", 200, ready=10.0), failed), run_of(failed), run_of()):
        assert {(ratio.value, ratio.met) for ratio in aims.ratios(run)} == {(None, None)}


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path: Path):
    path = tmp_path / "results" / "run.json"
    ratios = aims.ratios(EVERYONE)
    measurement.save(EVERYONE, [ratio.as_dict() for ratio in ratios], path)
    assert measurement.load(path) == EVERYONE
    assert json.loads(path.read_text("utf-8"))["ratios"][1]["value"] == ratios[1].value == 20


def test_the_tables_show_medians_with_their_spread_and_what_was_not_measured():
    run = run_of(
        peer("ours", 200, ready=10.0, single=[0.0123]),
        peer("vllm-defaults", 10, note="with less memory"),
        Measurement("infinity", missing="pip could not install it"),
    )
    table = report.measured_table(run).splitlines()
    assert "passages (80 tokens), pairs/s" in table[0]
    assert "10.0 s" in table[2] and "200 (191–209; large)" in table[2] and "12.3 ms" in table[2]
    remarks = [
        "vllm-defaults: with less memory",
        "infinity: not measured: pip could not install it",
    ]
    assert [line for line in table[4:] if line] == remarks
    assert "| not measured |" in report.ratio_table(aims.ratios(run))


def test_the_ratio_table_says_which_aims_are_met():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in report.ratio_table(aims.ratios(EVERYONE)).splitlines()
    ]
    assert ["passages, times vLLM's defaults", "20.00", "≥ 15", "met"] in rows
    missed = "short pairs, times Sentence-Transformers bfloat16"
    assert [missed, "0.80", "≥ 1", "missed"] in rows
    assert ["time to ready, of vLLM's defaults", "0.33", "≤ 0.5", "met"] in rows


def test_the_plot_has_a_labelled_bar_for_each_peer():
    passages, short, ready = report.draw(EVERYONE).axes
    peers = ["ours", "vllm-defaults", "infinity"]
    assert [label.get_text() for label in ready.get_yticklabels()] == peers
    assert [text.get_text() for text in ready.texts] == ["10.0", "30", "12.0"]
    assert len(passages.get_yticklabels()) == len(short.get_yticklabels()) == 5
    assert passages.get_title(loc="left") == "passages (80 tokens), pairs/s"


def test_a_plot_without_a_server_leaves_the_time_to_ready_out():
    assert len(report.draw(run_of(peer("infinity", 100))).axes) == 2


def test_an_earlier_run_is_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "run.json"
    measurement.save(EVERYONE, [], path)
    assert command_line.main(["--show", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "2026-11-23: A processor, 2 cores" in printed and "vllm 0.32.0" in printed
    assert report.ratio_table(aims.ratios(EVERYONE)) in printed
    assert path.with_suffix(".png").stat().st_size > 0


def test_a_run_without_any_measurement_is_shown_without_a_plot(tmp_path: Path):
    path = tmp_path / "run.json"
    measurement.save(run_of(Measurement("ours", missing="interrupted")), [], path)
    assert command_line.main(["--show", str(path)]) == 0
    assert not path.with_suffix(".png").exists()


def test_a_peer_that_does_not_exist_is_refused_by_name(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command_line.main(["--peers", "ours,outfinity"])
    assert "no peer is called outfinity" in capsys.readouterr().err
