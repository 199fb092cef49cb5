"""Student-t intervals against SciPy's, and their coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.metrics import Interval, mean_interval


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9), st.floats(0.5, 0.99))
def test_it_is_scipys_interval(values, level):
    found = mean_interval(np.array(values), level=level)
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)
    if stats.sem(values) > 0:
        low, high = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
        assert found[1:] == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    else:
        assert found.half_width == 0


def test_it_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        _, low, high = mean_interval(random.normal(5, 2, 3))
        hits += low <= 5 <= high
    # Five standard deviations of a binomial fraction.
    assert abs(hits / 2000 - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 2000)


def test_a_single_value_has_no_width():
    found = mean_interval(np.array([0.25]))
    assert found.value == 0.25
    assert np.isnan([*found[1:], found.half_width]).all()


def test_the_half_width_is_half_the_distance_of_the_ends():
    assert Interval(0.7, 0.5, 0.75).half_width == 0.125


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(InvalidInputError, match="finite"):
        mean_interval(np.array(values))
