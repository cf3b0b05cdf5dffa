"""Measuring: what the measures say, how sure they are, and what they can tell apart."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from helpers.errors import InputError, ScoreError
from helpers.search import datasets as beir
from helpers.search import measures as evaluation
from helpers.search.datasets import JudgedSet
from helpers.search.retrieval import Bm25Index

GRADES = {"best": 3, "good": 2, "near": 1, "wrong": 0}


def judged_set(queries=2, **settings):
    return JudgedSet(
        name="played",
        documents=dict.fromkeys(GRADES, "text"),
        queries={f"q{row}": "query" for row in range(queries)},
        judgments={f"q{row}": GRADES for row in range(queries)},
        **settings,
    )


def values(scores, measure):
    """Return the values of one stage by query."""
    rows = scores[scores.measure == measure]
    return dict(zip(rows.query_id, rows.value, strict=True))


def rows_of(stage, numbers, measure="nDCG@10"):
    """Return measured values as `measure` gives them."""
    return pd.DataFrame(
        {
            "stage": stage,
            "measure": measure,
            "query_id": [f"q{row:03}" for row in range(len(numbers))],
            "kind": "query",
            "value": numbers,
        }
    )


# -- measures -----------------------------------------------------------------------------------


def test_the_ideal_order_has_an_ndcg_of_one_and_any_other_less():
    runs = {"ideal": {"q0": ["best", "good", "near"], "q1": ["best", "near", "good"]}}
    found = values(evaluation.measure(runs, judged_set()), "nDCG@10")
    assert found["q0"] == pytest.approx(1)
    # Gains are the grades, and the discount is 1 / log2(place + 1).
    ideal = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    assert found["q1"] == pytest.approx((3 + 1 / math.log2(3) + 2 / math.log2(4)) / ideal)


@pytest.mark.parametrize(("relevant_from", "place"), [(1, 2), (2, 3), (3, 4)])
def test_the_reciprocal_rank_counts_from_the_grade_that_is_relevant(relevant_from, place):
    runs = {"stage": {"q0": ["wrong", "near", "good", "best"]}}
    found = evaluation.measure(runs, judged_set(1, relevant_from=relevant_from))
    assert values(found, "MRR@10")["q0"] == pytest.approx(1 / place)


def test_what_comes_after_the_tenth_place_is_seen_by_recall_alone():
    strangers = [f"s{row}" for row in range(10)]
    scores = evaluation.measure({"stage": {"q0": [*strangers, "best"]}}, judged_set(1))
    assert values(scores, "nDCG@10")["q0"] == values(scores, "MRR@10")["q0"] == 0
    assert values(scores, "Recall@100")["q0"] == pytest.approx(1 / 3)
    strangers = [f"s{row}" for row in range(100)]
    scores = evaluation.measure({"stage": {"q0": [*strangers, "best"]}}, judged_set(1))
    assert values(scores, "Recall@100")["q0"] == 0


def test_a_query_for_which_nothing_was_found_counts_as_zero():
    scores = evaluation.measure({"stage": {"q0": ["best"], "q1": []}}, judged_set(3))
    for name in evaluation.MEASURES:
        found = values(scores, name)
        assert found["q0"] > 0
        assert found["q1"] == found["q2"] == 0


def test_the_order_of_a_run_counts_and_not_the_names_of_its_documents():
    judged = judged_set(1)
    for order in (["best", "wrong", "good"], ["wrong", "best", "good"]):
        scores = evaluation.measure({"stage": {"q0": order}}, judged)
        assert values(scores, "MRR@10")["q0"] == pytest.approx(1 / (1 + order.index("best")))


def test_every_stage_measure_and_query_has_one_row_with_its_kind():
    judged = judged_set(2, kinds={"q0": "question", "q1": "keyword"})
    scores = evaluation.measure({"one": {"q0": ["best"]}, "two": {}}, judged)
    assert len(scores) == 2 * 3 * 2
    assert not scores.duplicated(["stage", "measure", "query_id"]).any()
    assert set(zip(scores.query_id, scores.kind, strict=True)) == {
        ("q0", "question"),
        ("q1", "keyword"),
    }


def test_bm25_reaches_on_the_tutorial_corpus_what_the_data_card_says():
    judged = beir.load_judged()
    found = {"BM25": Bm25Index(judged.documents).search(judged.queries)}
    scores = evaluation.measure(found, judged)
    ndcg = scores[scores.measure == "nDCG@10"]
    assert ndcg.value.mean() == pytest.approx(0.59, abs=0.01)
    assert ndcg[ndcg.kind == "paraphrase"].value.mean() == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("package", ["ir_measures", "pytrec_eval"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ScoreError, match=f"{package} is missing.*pip install ir_measures"):
        evaluation.measure({}, judged_set())


# -- means and intervals ------------------------------------------------------------------------


def test_an_interval_holds_the_mean_and_shrinks_with_more_queries():
    rng = np.random.default_rng(1)
    widths = []
    for count in (20, 80, 320):
        (row,) = evaluation.summarize(rows_of("stage", rng.random(count))).itertuples()
        assert row.low < row.mean < row.high
        assert row.queries == count
        widths.append(row.high - row.low)
    for wide, narrow in pairwise(widths):
        assert narrow == pytest.approx(wide / 2, rel=0.3)


def test_an_interval_is_that_of_a_normal_mean_where_queries_are_many():
    numbers = np.random.default_rng(2).normal(0.5, 0.1, 400)
    (row,) = evaluation.summarize(rows_of("stage", numbers)).itertuples()
    half = 1.96 * numbers.std(ddof=1) / math.sqrt(400)
    assert (row.low, row.high) == pytest.approx(
        (numbers.mean() - half, numbers.mean() + half), abs=0.001
    )


def test_equal_values_have_an_interval_without_width_and_one_query_has_none():
    (row,) = evaluation.summarize(rows_of("stage", [0.5] * 9)).itertuples()
    assert (row.mean, row.low, row.high) == (0.5, 0.5, 0.5)
    (row,) = evaluation.summarize(rows_of("stage", [0.5])).itertuples()
    assert math.isnan(row.low) and math.isnan(row.high)


def test_the_same_values_give_the_same_interval_each_time():
    scores = rows_of("stage", np.random.default_rng(3).random(50))
    pd.testing.assert_frame_equal(evaluation.summarize(scores), evaluation.summarize(scores))


def test_kinds_are_summarized_apart_for_one_measure_only():
    scores = rows_of("stage", [0.0, 1.0, 1.0]).assign(kind=["easy", "hard", "hard"])
    summary = evaluation.summarize(scores, "kind")
    assert summary[["kind", "mean", "queries"]].to_numpy().tolist() == [
        ["easy", 0.0, 1],
        ["hard", 1.0, 2],
    ]
    both = pd.concat([scores, rows_of("stage", [0.0], "MRR@10")])
    with pytest.raises(InputError, match="choose one measure first"):
        evaluation.summarize(both, "kind")


def test_a_table_has_a_row_a_stage_in_the_order_in_which_they_came():
    parts = [("second", "nDCG@10"), ("first", "nDCG@10"), ("second", "MRR@10"), ("first", "MRR@10")]
    scores = pd.concat([rows_of(stage, [0.25, 0.25], name) for stage, name in parts])
    table = evaluation.as_table(evaluation.summarize(scores))
    assert list(table.index) == ["second", "first"]
    assert list(table.columns) == ["nDCG@10", "MRR@10"]
    assert table.loc["first", "nDCG@10"] == "0.25 [0.25, 0.25]"


# -- two stages ---------------------------------------------------------------------------------


def stages(before, after):
    return pd.concat([rows_of("before", before), rows_of("after", after)])


def test_a_steady_gain_is_found_although_the_queries_differ_widely():
    rng = np.random.default_rng(4)
    before = rng.random(60)
    after = before + rng.normal(0.05, 0.05, 60)
    scores = stages(before, after)
    found = evaluation.compare(scores, "before", "after")
    assert found.difference == pytest.approx((after - before).mean())
    assert 0 < found.low < found.difference < found.high
    assert found.p < 0.001
    assert found.verdict == "adds"
    # The two intervals overlap: only the comparison query by query can tell.
    low, high = evaluation.summarize(scores).low, evaluation.summarize(scores).high
    assert low[1] < high[0]


def test_the_other_way_round_the_gain_is_a_cost():
    rng = np.random.default_rng(4)
    scores = stages(rng.random(60), rng.random(60) + 0.4)
    there = evaluation.compare(scores, "before", "after")
    back = evaluation.compare(scores, "after", "before")
    assert (back.verdict, there.verdict) == ("costs", "adds")
    assert back.difference == pytest.approx(-there.difference)
    assert (back.better, back.worse) == (there.worse, there.better)


def test_noise_is_not_called_a_gain():
    rng = np.random.default_rng(5)
    before = rng.random(60)
    found = evaluation.compare(stages(before, before + rng.normal(0, 0.2, 60)), "before", "after")
    assert found.low < 0 < found.high
    assert found.p > 0.05
    assert found.verdict == "not shown"


def test_two_equal_stages_do_not_differ():
    found = evaluation.compare(stages([0.2, 0.4, 0.9], [0.2, 0.4, 0.9]), "before", "after")
    assert (found.difference, found.p, found.better, found.worse) == (0, 1, 0, 0)
    assert found.verdict == "not shown"


def test_values_are_paired_by_query_whatever_their_order():
    scores = stages([0.1, 0.2, 0.3], [0.2, 0.3, 0.4])
    shuffled = scores.sample(frac=1, random_state=0)
    assert evaluation.compare(scores, "before", "after") == evaluation.compare(
        shuffled, "before", "after"
    )
    assert evaluation.compare(shuffled, "before", "after").better == 3


def test_what_can_not_be_compared_is_refused_by_name():
    scores = stages([0.1, 0.2], [0.2, 0.3])
    with pytest.raises(InputError, match=r"stage 'nobody'.*Stages: before, after"):
        evaluation.compare(scores, "before", "nobody")
    with pytest.raises(InputError, match="measure 'MAP'"):
        evaluation.compare(scores, "before", "after", "MAP")
    with pytest.raises(InputError, match="not measured on the same queries"):
        evaluation.compare(scores.iloc[:-1], "before", "after")
