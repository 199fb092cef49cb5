"""Divergences from another model's probabilities: SciPy's, bounds, cases by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import jensenshannon

from rumjax.errors import InvalidInputError
from rumjax.metrics.divergence import (
    activation_distance,
    jensen_shannon,
    zero_retrain_forgetting,
)

MEASURES = (jensen_shannon, zero_retrain_forgetting, activation_distance)
slow = settings(deadline=None, max_examples=40)
chance = st.one_of(st.just(0.0), st.floats(1e-300, 1e-290), st.floats(1e-9, 1))


@st.composite
def pairs(draw, dtype=np.float64):
    """Two models' probabilities on the same examples; some of them 0, some hardly above."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(2, 5)))
    found = []
    for _ in range(2):
        raw = draw(arrays.arrays(np.float64, shape, elements=chance))
        # No row is all but empty, since what is left of it would not sum to 1.
        raw[np.arange(shape[0]), draw(st.integers(0, shape[1] - 1))] += 1
        found.append((raw / raw.sum(axis=1, keepdims=True)).astype(dtype))
    return found


def softmax(count, classes, seed):
    logits = 3 * np.random.default_rng(seed).normal(size=(count, classes))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@slow
@given(pairs())
def test_the_divergence_is_the_square_of_scipys_distance(both):
    p, q = both
    wanted = [jensenshannon(*rows) ** 2 for rows in zip(p, q, strict=True)]
    found = jensen_shannon(p, q)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_the_smallest_probability_that_there_is_makes_no_infinity():
    # Half of it is 0, against which the divergence would be infinite.
    p, q = np.array([[1.0, 0.0]]), np.array([[1.0, np.nextafter(0, 1)]])
    assert jensen_shannon(p, q) == pytest.approx([0], abs=1e-300)


@slow
@given(pairs(np.float32))
def test_all_measures_stay_within_their_bounds_and_are_symmetric(both):
    p, q = both
    divergence = jensen_shannon(p, q)
    assert ((divergence >= 0) & (divergence <= math.log(2))).all()
    assert 0 <= zero_retrain_forgetting(p, q) <= 1
    assert 0 <= activation_distance(p, q) <= math.sqrt(2) + 1e-12
    for measure in MEASURES:
        np.testing.assert_array_equal(measure(p, q), measure(q, p))


@slow
@given(pairs(np.float32))
def test_a_model_is_no_way_from_itself(both):
    p, _ = both
    assert not jensen_shannon(p, p).any()
    assert zero_retrain_forgetting(p, p) == 1
    assert activation_distance(p, p) == 0


def test_certain_models_that_never_agree_are_as_far_apart_as_can_be():
    p, q = np.eye(3)[[0, 1, 2]], np.eye(3)[[1, 2, 0]]
    assert jensen_shannon(p, q) == pytest.approx([math.log(2)] * 3)
    assert zero_retrain_forgetting(p, q) == pytest.approx(0, abs=1e-12)
    assert activation_distance(p, q) == pytest.approx(math.sqrt(2))


def test_a_case_by_hand():
    p, q = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    # m = (3/4, 1/4): ½ log 4/3 + ½ (½ log 2/3 + ½ log 2)
    first = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert jensen_shannon(p, q) == pytest.approx([first, 0])
    assert zero_retrain_forgetting(p, q) == pytest.approx(1 - first / math.log(2) / 2)
    assert activation_distance(p, q) == pytest.approx(math.sqrt(0.5) / 2)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_the_examples_changes_nothing(measure):
    p, q = softmax(50, 7, seed=0), softmax(50, 7, seed=1)
    order = np.random.default_rng(2).permutation(50)
    wanted = measure(p, q)
    wanted = wanted[order] if np.ndim(wanted) else wanted
    np.testing.assert_allclose(measure(p[order], q[order]), wanted, rtol=1e-13)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_the_classes_changes_nothing(measure):
    p, q = softmax(50, 7, seed=0), softmax(50, 7, seed=1)
    order = np.random.default_rng(2).permutation(7)
    np.testing.assert_allclose(measure(p[:, order], q[:, order]), measure(p, q), rtol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_given_stays_as_it_was(measure):
    p, q = softmax(4, 3, seed=0), softmax(4, 3, seed=1)
    before = p.copy(), q.copy()
    measure(p, q)
    np.testing.assert_array_equal((p, q), before)


GOOD = softmax(4, 3, seed=0)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (GOOD[:3], r"\[4, 3\] against \[3, 3\]|\[3, 3\] against \[4, 3\]"),
        (GOOD[:, :2], "the same"),
        (np.log(GOOD), "not logits"),
        (GOOD * np.array([1, 1, np.nan]), "not finite"),
        (GOOD - np.array([0, 1, -1]), "not logits"),
    ],
)
def test_what_are_no_probabilities_of_the_same_examples_is_refused(measure, bad, match):
    for pair in ((GOOD, bad), (bad, GOOD)):
        with pytest.raises(InvalidInputError, match=match):
            measure(*pair)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_examples_are_refused(measure):
    with pytest.raises(InvalidInputError, match="at least one example"):
        measure(GOOD[:0], GOOD[:0])
    with pytest.raises(InvalidInputError, match="n, K"):
        measure(GOOD[0], GOOD[0])
