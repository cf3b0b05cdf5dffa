"""Measure runs on judged queries: means with intervals, and paired tests between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.errors import InputError, ScoreError
from helpers.search.datasets import JudgedSet
from helpers.search.retrieval import Run

MEASURES = ("nDCG@10", "MRR@10", "Recall@100")
RESAMPLES = 9_999
CONFIDENCE = 0.95


def measure(runs: Mapping[str, Run], judged: JudgedSet) -> pd.DataFrame:
    """Measure each run on each query with ir_measures.

    nDCG@10 uses the grades as gains (trec_eval's definition). MRR@10 and Recall@100 know relevant
    and not relevant only; a document is relevant from the grade `judged.relevant_from` up. A query
    for which a run found nothing counts as 0.

    Args:
        runs: Runs by name; the names are the stages of a search engine.
        judged: Queries and judgments.

    Returns:
        A frame with one row for each stage, measure and query: the columns stage, measure,
        query_id, kind and value (0 to 1).

    Raises:
        ScoreError: ir_measures, or the library behind it, is not installed.
    """
    try:
        import ir_measures
        import pytrec_eval  # noqa: F401 - ir_measures would miss it too late and say too little
    except ImportError as error:
        raise ScoreError(
            f"Measuring needs the package ir_measures, and {error.name} is missing. Install it "
            "with: pip install ir_measures. Its library pytrec_eval has no ready-made build for "
            "Arm processors: there, pip needs a C compiler."
        ) from None
    level = judged.relevant_from
    by_name = dict(
        zip(
            MEASURES,
            (
                ir_measures.nDCG @ 10,
                ir_measures.RR(rel=level) @ 10,
                ir_measures.R(rel=level) @ 100,
            ),
            strict=True,
        )
    )
    names = {str(wanted): name for name, wanted in by_name.items()}
    rows = []
    for stage, run in runs.items():
        # Scores that fall with the place: trec_eval would sort equal ones by identifier.
        ranked = {
            query_id: {d: 1 / place for place, d in enumerate(run.get(query_id, []), start=1)}
            for query_id in judged.queries
        }
        values = dict.fromkeys(((name, q) for name in MEASURES for q in judged.queries), 0.0)
        for found in ir_measures.iter_calc(by_name.values(), judged.judgments, ranked):
            values[names[str(found.measure)], found.query_id] = found.value
        rows += [(stage, name, q, judged.kinds[q], value) for (name, q), value in values.items()]
    return pd.DataFrame(rows, columns=["stage", "measure", "query_id", "kind", "value"])


def summarize(scores: pd.DataFrame, by: str = "measure") -> pd.DataFrame:
    """Return the mean of each stage and its 95% interval (bootstrap over the queries).

    Args:
        scores: Rows of `measure`.
        by: "measure", or "kind" for rows of one measure.

    Returns:
        A frame with the columns stage, `by`, mean, low, high and queries (their number). The
        interval says how far the mean would move with other queries of the same kind.

    Raises:
        InputError: `by` is "kind" and the rows hold several measures.
    """
    if by == "kind" and scores.measure.nunique() > 1:
        raise InputError("By kind, choose one measure first: scores[scores.measure == 'nDCG@10'].")
    rows = [
        (stage, part, values.mean(), *_interval(values.to_numpy()), len(values))
        for (stage, part), values in scores.groupby(["stage", by], sort=False).value
    ]
    return pd.DataFrame(rows, columns=["stage", by, "mean", "low", "high", "queries"])


def as_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Write a summary as a table: a row a stage, and in each cell "mean [low, high]"."""
    by = summary.columns[1]
    cells = [
        f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in summary[["mean", "low", "high"]].itertuples(index=False)
    ]
    table = summary.assign(cell=cells).pivot(index="stage", columns=by, values="cell")
    return table.loc[summary.stage.unique(), summary[by].unique()].rename_axis(columns=None)


@dataclass(frozen=True)
class Comparison:
    """What changes between two stages, measured on the same queries.

    Attributes:
        before: The name of the earlier stage.
        after: The name of the later stage.
        difference: The mean of the later stage minus that of the earlier one.
        low: The lower end of its 95% interval (bootstrap over the queries).
        high: The upper end.
        p: How often a difference at least as large comes about by swapping the two stages' values
            query by query at random (paired permutation test, two-sided), from 0 to 1.
        better: For how many of the queries the value rose.
        worse: For how many it fell.
        queries: How many queries there are.
    """

    before: str
    after: str
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    queries: int

    @property
    def verdict(self) -> str:
        """Return "adds", "costs" or "not shown": on which side of 0 the whole interval lies."""
        if self.low > 0:
            return "adds"
        return "costs" if self.high < 0 else "not shown"


def compare(
    scores: pd.DataFrame, before: str, after: str, measure: str = MEASURES[0]
) -> Comparison:
    """Compare two stages query by query, by one measure.

    Raises:
        InputError: There is no such stage or measure, or the two were not measured on the same
            queries.
    """
    columns = {}
    for stage in (before, after):
        rows = scores[(scores.stage == stage) & (scores.measure == measure)]
        if rows.empty:
            raise InputError(
                f"Nothing was measured for the stage {stage!r} and the measure {measure!r}. "
                f"Stages: {', '.join(scores.stage.unique())}."
            )
        columns[stage] = rows.set_index("query_id").value
    earlier, later = columns[before].sort_index(), columns[after].sort_index()
    if not earlier.index.equals(later.index):
        raise InputError(f"{before!r} and {after!r} were not measured on the same queries.")
    difference = (later - earlier).to_numpy()
    low, high = _interval(difference)
    return Comparison(
        before=before,
        after=after,
        difference=float(difference.mean()),
        low=low,
        high=high,
        p=_p_value(later.to_numpy(), earlier.to_numpy()),
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
        queries=len(difference),
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of the mean; one query alone has none."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return float("nan"), float("nan")
    # Percentile, because the default (BCa) is not defined where all values are equal.
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _p_value(later: np.ndarray, earlier: np.ndarray) -> float:
    from scipy.stats import permutation_test

    found = permutation_test(
        (later, earlier),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
