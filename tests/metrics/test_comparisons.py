"""Corrections for many comparisons, against the closed testing that defines them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.metrics import holm, paired_p_value


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_it_is_closed_testing_by_bonferroni(p_values):
    """A hypothesis falls if every set that it is in falls: then its corrected value is known."""
    count = len(p_values)
    subsets = [
        subset
        for size in range(1, count + 1)
        for subset in itertools.combinations(range(count), size)
    ]
    expected = [
        max(
            min(1.0, len(subset) * min(p_values[member] for member in subset))
            for subset in subsets
            if position in subset
        )
        for position in range(count)
    ]
    np.testing.assert_allclose(holm(np.array(p_values)), expected, rtol=1e-12)


def test_false_discoveries_are_as_rare_as_it_says():
    random = np.random.default_rng(0)
    runs = 200
    wrong = sum(
        holm(np.array([paired_p_value(random.normal(size=5)) for _ in range(10)])).min() < 0.05
        for _ in range(runs)
    )
    # Five standard deviations of a binomial fraction.
    assert wrong / runs < 0.05 + 5 * np.sqrt(0.05 * 0.95 / runs)
    assert wrong > 0


def test_a_paired_test_is_scipys():
    random = np.random.default_rng(1)
    first, second = random.normal(size=(2, 8))
    expected = stats.ttest_rel(first, second).pvalue
    assert paired_p_value(first - second) == pytest.approx(expected)
    assert paired_p_value(np.zeros(4)) == 1.0
    assert paired_p_value(np.full(4, 0.5)) == 0.0


@pytest.mark.parametrize("values", [[-0.1], [1.5], [np.nan]])
def test_what_is_no_p_value_is_refused(values):
    with pytest.raises(InvalidInputError, match="p-values"):
        holm(np.array(values))


def test_one_difference_has_no_p_value():
    with pytest.raises(InvalidInputError, match="at least two"):
        paired_p_value(np.array([0.5]))


def test_nothing_to_correct_is_nothing():
    assert holm(np.empty(0)).shape == (0,)
