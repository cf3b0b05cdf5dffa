"""Score many pairs: in batches, in order, and on from where an earlier run ended."""

from helpers.bulk.scoring import score_frame, score_pairs

__all__ = [
    "score_frame",
    "score_pairs",
]
