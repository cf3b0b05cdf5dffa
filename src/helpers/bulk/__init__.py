"""Score many pairs: in batches, in order, and on from where an earlier run ended."""

from helpers.bulk.scoring import Batch, batched, in_order, pair_up, score_frame, score_pairs

__all__ = [
    "Batch",
    "batched",
    "in_order",
    "pair_up",
    "score_frame",
    "score_pairs",
]
