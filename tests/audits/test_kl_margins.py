"""KLOM: divergences of margins, raw and corrected, against NumPy's histograms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.audits import kl_margins
from rumjax.audits.kl_margins import corrected_klom, klom
from rumjax.errors import InvalidInputError
from tests.references import audits as slow
from tests.references import divergences


def gaussian(shift, models, examples=400, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(each, 1.0, (models, examples)) for each in (shift, 0.0))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(2, 9), st.integers(2, 9), st.floats(0.1, 200))
def test_it_is_the_divergence_of_numpys_histograms(seed, models, oracles, scale):
    random = np.random.default_rng(seed)  # so that no margin lies on the edge of a bin
    sides = [random.normal(0, scale, (count, 3)) for count in (models, oracles)]
    np.testing.assert_allclose(klom(*sides), slow.klom(*sides), rtol=1e-9, atol=1e-12)


def test_unlearned_models_where_no_oracle_is_weigh_more_than_the_reverse():
    unlearned, oracles = np.array([[0.0], [0], [0], [9]]), np.array([[0.0], [0], [0], [0]])
    astray = 0.75 * np.log(0.75) + 0.25 * np.log(0.25 / 1e-5)
    np.testing.assert_allclose(klom(unlearned, oracles), astray, atol=1e-3)
    missed = np.log(1 / 0.75)
    np.testing.assert_allclose(klom(oracles, unlearned), missed, atol=1e-3)


def test_the_same_models_on_both_sides_diverge_by_nothing():
    ours, _ = gaussian(0.0, 20)
    np.testing.assert_array_equal(klom(ours, ours), 0)
    np.testing.assert_array_equal(klom(np.full((3, 2), 7.0), np.full((4, 2), 7.0)), 0)


def test_disjoint_sides_diverge_as_far_as_the_floor_allows():
    ours, theirs = np.full((4, 1), -200.0), np.full((5, 1), 200.0)
    # All of the one in a bin where the other has the floor, and the reverse.
    np.testing.assert_allclose(klom(ours, theirs), (1 - 1e-5) * np.log(1e5), rtol=1e-9)


def test_two_samples_of_a_hundred_of_the_same_gaussian_are_far_from_nothing():
    found = klom(*gaussian(0.0, 100, 1000))
    assert 0.25 < found.mean() < 0.45


@pytest.mark.parametrize("models", [20, 64, 200])
def test_the_correction_leaves_nothing_where_both_sides_are_alike(models):
    found = corrected_klom(*gaussian(0.0, models, 1000, seed=models))
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.integers(2, 5), st.integers(2, 5), st.floats(0.0, 9.0))
def test_what_chance_makes_is_the_mean_over_all_deals(seed, models, oracles, shift):
    random = np.random.default_rng(seed)
    ours, theirs = random.normal(shift, 1, (models, 3)), random.normal(0, 1, (oracles, 3))
    wanted = slow.klom(ours, theirs) - divergences.by_chance(slow.klom, ours, theirs)
    np.testing.assert_allclose(corrected_klom(ours, theirs), wanted, rtol=1e-9, atol=1e-9)


def test_the_order_of_models_and_examples_does_not_move_the_correction():
    ours, theirs = gaussian(1.0, 30, 20)
    random = np.random.default_rng(1)
    rows, others, columns = random.permutation(30), random.permutation(30), random.permutation(20)
    moved = corrected_klom(ours[rows][:, columns], theirs[others][:, columns])
    np.testing.assert_allclose(moved, corrected_klom(ours, theirs)[columns], rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"bins": 1}, {"clip": 0.0}, {"floor": 0.0}, {"floor": np.nan}])
def test_histograms_that_cannot_be_are_refused(wrong):
    (name,) = wrong
    for measure in (klom, corrected_klom):
        with pytest.raises(InvalidInputError, match=name):
            measure(np.zeros((2, 1)), np.ones((2, 1)), **wrong)


def test_with_many_models_it_comes_to_the_closed_form():
    ours, theirs = gaussian(1.0, 4000, 50)
    plain, corrected = klom(ours, theirs), corrected_klom(ours, theirs)
    divergence = 0.5
    assert corrected.mean() == pytest.approx(divergence, rel=0.15)
    assert np.abs(corrected - divergence).mean() <= np.abs(plain - divergence).mean() + 0.02
    # Of the histograms themselves: the same bins, with what a Gaussian has in each.
    low, high = min(ours[:, 0].min(), theirs[:, 0].min()), max(ours[:, 0].max(), theirs[:, 0].max())
    edges = np.linspace(low, high, 21)
    p, q = (np.maximum(np.diff(stats.norm.cdf(edges, at)), 1e-5) for at in (1.0, 0.0))
    assert plain[0] == pytest.approx(np.sum(p * np.log(p / q)), rel=0.3)


def test_a_shift_is_found_beneath_the_bias_of_few_models():
    shifted, same = (corrected_klom(*gaussian(shift, 64, 1000)).mean() for shift in (1.0, 0.0))
    assert shifted > 0.3
    assert abs(same) < 0.03


def test_order_and_scale_do_not_matter():
    ours, theirs = gaussian(1.0, 30, 20)
    random = np.random.default_rng(1)
    rows, others, columns = random.permutation(30), random.permutation(30), random.permutation(20)
    moved = klom(ours[rows][:, columns], theirs[others][:, columns])
    found = klom(ours, theirs)
    np.testing.assert_allclose(moved, found[columns])
    np.testing.assert_allclose(klom(2 * ours + 4, 2 * theirs + 4), found, rtol=0.5)
    assert not np.allclose(klom(theirs, ours), found)  # a divergence is no distance


def test_many_examples_are_taken_a_few_at_a_time(monkeypatch):
    ours, theirs = gaussian(1.0, 8, 50)
    whole = klom(ours, theirs)
    monkeypatch.setattr(kl_margins, "CHUNK", 64)
    np.testing.assert_array_equal(klom(ours, theirs), whole)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "unlearned: margins are"),
        (np.zeros((4, 3)), np.zeros((1, 3)), "oracles: margins are"),
        (np.zeros((4, 0)), np.zeros((4, 0)), "one example"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "3 examples"),
        (np.zeros((4, 3)), np.array([[0.0, np.nan, 0]] * 2), "oracles: 2 margins are not finite"),
        (np.array([[0.0, np.inf, 0]] * 2), np.zeros((4, 3)), "unlearned: 2 margins"),
    ],
)
def test_margins_that_cannot_be_compared_are_refused(ours, theirs, message):
    for measure in (klom, corrected_klom):
        with pytest.raises(InvalidInputError, match=message):
            measure(ours, theirs)
