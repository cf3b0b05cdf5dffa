"""Find documents, and measure how well they were found."""

from helpers.search.calibration import expected_calibration_error, reliability_bins
from helpers.search.datasets import JudgedSet, load_judged
from helpers.search.measures import Comparison, as_table, compare, measure, summarize
from helpers.search.retrieval import Bm25Index, Run, VectorIndex, candidates, fuse, rerank
from helpers.search.training_data import check_training_data

__all__ = [
    "Bm25Index",
    "Comparison",
    "JudgedSet",
    "Run",
    "VectorIndex",
    "as_table",
    "candidates",
    "check_training_data",
    "compare",
    "expected_calibration_error",
    "fuse",
    "load_judged",
    "measure",
    "reliability_bins",
    "rerank",
    "summarize",
]
