"""Compare probabilities with what is true: are eight of ten pairs scored 0.8 really relevant?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.errors import InputError


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Group pairs by their probability and say how many of each group are relevant.

    The groups are equally wide parts of 0 to 1, as in the reliability diagrams of Guo and others
    (2017, arXiv:1706.04599); an edge belongs to the part below it, 0 to the first.

    Args:
        labels: N times True (1) where the pair is relevant, False (0) where it is not.
        probabilities: N numbers from 0 to 1, in the same order.
        bins: How many parts.

    Returns:
        One row a part, parts without a pair left out, with the columns low and high (its edges),
        pairs (how many), predicted (their mean probability) and relevant (the share of them that
        is relevant, from 0 to 1).

    Raises:
        InputError: The lengths differ, there is no pair, a label is no truth value, or a number
            is not between 0 and 1.

    >>> reliability_bins([0, 1, 1, 1], [0.1, 0.3, 0.9, 0.7], bins=2)
       low  high  pairs  predicted  relevant
    0  0.0   0.5      2        0.2       0.5
    1  0.5   1.0      2        0.8       1.0
    """
    true, chances = _checked(labels, probabilities)
    edges = np.linspace(0, 1, bins + 1)
    part = np.searchsorted(edges[1:-1], chances)
    frame = pd.DataFrame({"predicted": chances, "relevant": true.astype(float)})
    groups = frame.groupby(part)
    found = groups.mean()
    found.insert(0, "pairs", groups.size())
    found.insert(0, "high", edges[found.index + 1])
    found.insert(0, "low", edges[found.index])
    return found.reset_index(drop=True)


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> float:
    """Return how far the probabilities are from the shares of relevant pairs, on average.

    It is the mean over the `reliability_bins` of the distance between predicted and relevant,
    weighted by the pairs in each (Naeini and others, 2015; Guo and others, 2017): 0 for
    probabilities that can be taken at their word, at most 1. Arguments and errors are those of
    `reliability_bins`.

    >>> round(expected_calibration_error([0, 1, 1, 1], [0.1, 0.3, 0.9, 0.7], bins=2), 3)
    0.25
    """
    found = reliability_bins(labels, probabilities, bins)
    distance = (found["predicted"] - found["relevant"]).abs()
    return float(np.average(distance, weights=found["pairs"]))


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, chances = np.asarray(labels), np.asarray(probabilities)
    if true.shape != chances.shape or true.ndim != 1 or not len(true):
        raise InputError(
            "Labels and probabilities must be two lists of one length, at least 1; their shapes "
            f"are {true.shape} and {chances.shape}."
        )
    if not np.isin(true, (0, 1)).all():
        raise InputError("A label is True or False (1 or 0). For grades, say which count as True.")
    # Written so that NaN is refused as well.
    if not ((chances >= 0) & (chances <= 1)).all():
        raise InputError(
            f"A probability lies between 0 and 1, and these run from {np.min(chances):.4g} to "
            f"{np.max(chances):.4g}. Are they logits? Then apply the sigmoid first."
        )
    return true.astype(bool), chances.astype(float)
