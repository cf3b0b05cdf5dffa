"""Calibration is measured as its formula says, and agrees with scikit-learn where that has it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from helpers import InputError
from helpers.search.calibration import expected_calibration_error, reliability_bins


def drawn(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are true just as often as these say."""
    rng = np.random.default_rng(seed)
    probabilities = rng.random(n)
    return rng.random(n) < probabilities, probabilities


def test_a_bin_tells_its_edges_its_pairs_and_what_became_of_them():
    bins = reliability_bins([False, True, True], [0.05, 0.85, 0.95])
    assert bins.columns.tolist() == ["low", "high", "pairs", "predicted", "relevant"]
    assert bins["pairs"].tolist() == [1, 1, 1]
    assert bins["relevant"].tolist() == [0, 1, 1]
    assert np.allclose(bins["low"], [0, 0.8, 0.9]) and np.allclose(bins["high"], [0.1, 0.9, 1])


def test_bins_without_a_pair_are_left_out():
    assert len(reliability_bins([0, 1], [0.01, 0.99], bins=50)) == 2


def test_zero_and_one_belong_to_the_outer_bins():
    bins = reliability_bins([0, 1], [0.0, 1.0], bins=4)
    assert bins["low"].tolist() == [0, 0.75] and bins["high"].tolist() == [0.25, 1]


@pytest.mark.parametrize("bins", [1, 5, 10, 15])
def test_the_curve_is_that_of_scikit_learn(bins):
    labels, probabilities = drawn(500)
    ours = reliability_bins(labels, probabilities, bins)
    relevant, predicted = calibration_curve(labels, probabilities, n_bins=bins)
    assert np.allclose(ours["relevant"], relevant)
    assert np.allclose(ours["predicted"], predicted)
    assert ours["pairs"].sum() == 500


def test_probabilities_that_keep_their_word_have_nearly_no_error():
    assert expected_calibration_error(*drawn(200_000)) < 0.01


def test_the_error_of_boasting_is_the_distance_to_what_happened():
    labels = [True] * 6 + [False] * 4
    assert expected_calibration_error(labels, [0.95] * 10) == pytest.approx(0.35)


def test_a_bin_counts_as_much_as_it_has_pairs():
    labels = [False] * 90 + [False] * 10
    probabilities = [0.0] * 90 + [1.0] * 10
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.1)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=50),
    st.integers(1, 20),
)
def test_every_pair_is_in_one_bin_and_the_error_lies_between_zero_and_one(pairs, bins):
    labels, probabilities = zip(*pairs, strict=True)
    found = reliability_bins(labels, probabilities, bins)
    assert found["pairs"].sum() == len(pairs)
    assert ((found["low"] - 1e-9 <= found["predicted"]) & found["relevant"].between(0, 1)).all()
    assert 0 <= expected_calibration_error(labels, probabilities, bins) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        ([1, 0], [0.5], r"shapes are \(2,\) and \(1,\)"),
        ([], [], "at least 1"),
        ([3, 0], [0.5, 0.5], "For grades, say which"),
        ([1, 0], [6.7, -3.4], "run from -3.4 to 6.7. Are they logits?"),
        ([1, 0], [float("nan"), 0.5], "Are they logits?"),
    ],
)
def test_what_is_no_label_or_no_probability_is_refused(labels, probabilities, words):
    with pytest.raises(InputError, match=words):
        expected_calibration_error(labels, probabilities)
