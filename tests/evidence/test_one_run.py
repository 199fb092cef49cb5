"""The lower bound on ε from coins: figures, a slow sum, and made mechanisms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.evidence import ceiling, epsilon_lower_bound, guess
from tests.references import evidence as slow

COINS = 3000


@pytest.mark.parametrize(
    ("guesses", "right", "wanted"),
    [
        (3000, 1560, 0.02),
        (3000, 1650, 0.14),
        (300, 180, 0.20),
        (300, 201, 0.50),
        (300, 270, 1.87),
        (100, 100, 3.41),
    ],
)
def test_bounds_are_the_figures_known_at_a_delta_of_a_hundred_thousandth(guesses, right, wanted):
    assert round(epsilon_lower_bound(right, guesses, COINS), 2) == wanted


def test_all_right_without_delta_is_the_ceiling():
    assert round(ceiling(100), 2) == 3.49
    for guesses in (1, 4, 5, 100, 10**4):
        found = epsilon_lower_bound(guesses, guesses, 10**4, delta=0.0)
        assert found == pytest.approx(ceiling(guesses), abs=1e-9)
    assert ceiling(4) == 0 < ceiling(5)
    assert ceiling(100, level=0.99) < ceiling(100)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.floats(0, 1), st.sampled_from([0.0, 1e-5, 1e-3]), st.integers(0, 50))
def test_bounds_are_where_the_probability_by_slow_sums_is_a_twentieth(guesses, share, delta, more):
    right, coins = round(share * guesses), guesses + more
    found = epsilon_lower_bound(right, guesses, coins, delta=delta)
    arguments = (right, guesses, coins, delta)
    if found:
        assert slow.one_run_probability(found, *arguments) == pytest.approx(0.05, rel=1e-6)
        assert slow.one_run_probability(0.9 * found, *arguments) < 0.05
    else:
        assert slow.one_run_probability(1e-9, *arguments) > 0.05 - 1e-6
    assert found <= ceiling(guesses)


def test_bounds_rise_with_right_guesses_and_fall_with_delta_coins_and_confidence():
    rising = [epsilon_lower_bound(right, 100, COINS) for right in range(50, 101, 5)]
    assert rising[0] == 0
    assert np.all(np.diff(rising) >= 0)
    assert rising[-1] > 3
    for changes in (
        [{"delta": delta} for delta in (0.0, 1e-6, 1e-5, 1e-4)],
        [{"coins": coins} for coins in (100, 1000, 10**5)],
        [{"level": level} for level in (0.9, 0.95, 0.99)],
    ):
        bounds = [epsilon_lower_bound(90, 100, **{"coins": COINS} | each) for each in changes]
        assert np.all(np.diff(bounds) < 0)
    assert epsilon_lower_bound(0, 1, 1) == epsilon_lower_bound(100, 100, COINS, delta=1.0) == 0


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_bounds_are_seldom_above_the_truth(epsilon):
    """Randomized response is ε-indistinguishable, and its answers are the best attack on it."""
    random = np.random.default_rng(0)
    guesses, runs = 100, 300
    right = random.binomial(guesses, 1 / (1 + np.exp(-epsilon)), runs)
    bounds = {v: epsilon_lower_bound(int(v), guesses, 1000, delta=0.0) for v in np.unique(right)}
    above = np.sum([bounds[v] > epsilon for v in right])
    assert above <= stats.binom.ppf(0.999, runs, 0.05)
    assert np.mean([bounds[v] for v in right]) > 0.4 * epsilon


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_the_most_extreme_are_guessed_half_in_and_half_out(seed, count):
    random = np.random.default_rng(seed)
    scores = random.normal(size=count).round(1)
    for guesses in range(1, count + 1):
        examples, answers = guess(scores, guesses)
        assert len(np.unique(examples)) == len(answers) == guesses
        assert np.all(np.diff(examples) > 0)
        assert np.sum(answers == 1) - np.sum(answers == -1) == guesses % 2
        rest = np.setdiff1d(np.arange(count), examples)
        least, most = scores[examples[answers == 1]].min(), scores[examples[answers == -1]]
        assert np.all(scores[rest] <= least)
        assert not most.size or np.all(scores[rest] >= most.max())


def test_guesses_of_a_model_that_still_knows_are_right():
    random = np.random.default_rng(1)
    coins = random.random(1000) < 0.5
    for memory, low, high in ((0.0, 0.0, 0.3), (2.0, 1.0, 4.0)):
        examples, answers = guess(random.normal(size=1000) + memory * coins, 200)
        right = int(np.sum(answers == np.where(coins, 1, -1)[examples]))
        assert low <= epsilon_lower_bound(right, 200, 1000) <= high


def test_guesses_that_cannot_be_are_refused():
    for wrong in ((3, 2, 5), (1, 6, 5), (-1, 2, 5), (0, 0, 5), (1.5, 2, 5)):
        with pytest.raises(InvalidInputError):
            epsilon_lower_bound(*wrong)
    for option in ({"delta": -1e-5}, {"delta": 2.0}, {"level": 1.0}, {"delta": np.nan}):
        with pytest.raises(InvalidInputError, match=next(iter(option))):
            epsilon_lower_bound(1, 2, 3, **option)
    for scores, guesses in (([], 1), ([1.0], 2), ([np.nan], 1), ([1.0], 0)):
        with pytest.raises(InvalidInputError):
            guess(np.array(scores), guesses)
    with pytest.raises(InvalidInputError, match="guesses"):
        ceiling(0)
