"""The score of the NeurIPS 2023 challenge: the best of many thresholds, and the utility."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.audits.challenge import CAP, DELTA, challenge_score, epsilons, forgetting_quality
from rumjax.errors import InvalidInputError
from tests.references import audits as slow

FEW = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=6)


@settings(deadline=None, max_examples=60)
@given(FEW, FEW)
def test_the_best_attack_is_the_best_of_all_thresholds(ours, theirs):
    found = epsilons(np.array([ours]).T, np.array([theirs]).T)
    assert found[0] == pytest.approx(slow.epsilon(ours, theirs, DELTA, CAP), abs=1e-12)


def test_sides_that_are_separated_have_the_cap():
    ours, theirs = np.arange(5.0)[:, None], np.arange(5.0)[:, None] + 10
    assert epsilons(ours, theirs) == epsilons(theirs, ours) == [CAP]
    around = np.array([[-9.0, -8, 8, 9]]).T  # an interval separates them too
    assert epsilons(ours, around) == [CAP]


def test_the_same_models_on_both_sides_are_told_by_chance_alone():
    values = np.random.default_rng(0).normal(size=(40, 3))
    # Any set of models is called "unlearned" as often on both sides: TPR = FPR.
    count = np.arange(1, 40) / 40
    best = max(np.max(np.log(1 - DELTA - count) - np.log(1 - count)), 0.0)
    np.testing.assert_allclose(epsilons(values, values), best, atol=1e-12)


def test_gaussians_that_are_apart_have_the_epsilon_of_a_threshold_in_the_tail():
    random = np.random.default_rng(0)
    near, far = (
        epsilons(random.normal(shift, 1, (64, 100)), random.normal(0, 1, (64, 100))).mean()
        for shift in (0.0, 2.0)
    )
    assert 0 < near < far <= CAP
    # With M models no rate but 0 is below 1/M.
    limit = np.log(64)
    assert epsilons(random.normal(0, 1, (64, 50)), random.normal(0, 1, (64, 50))).max() <= limit


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99))
def test_order_sides_and_monotone_transformations_do_not_matter(seed):
    random = np.random.default_rng(seed)
    ours, theirs = random.normal(1, 1, (7, 3)), random.normal(0, 1, (6, 3))
    found = epsilons(ours, theirs)
    rows, others, columns = random.permutation(7), random.permutation(6), random.permutation(3)
    moved = epsilons(ours[rows][:, columns], theirs[others][:, columns])
    np.testing.assert_allclose(moved, found[columns])
    np.testing.assert_allclose(epsilons(theirs, ours), found)
    np.testing.assert_allclose(epsilons(np.exp(ours), np.exp(theirs)), found)


def test_quality_halves_with_every_bin():
    models = 512  # whose bins reach to ⌈log 511⌉ = 7
    for number in range(14):
        assert forgetting_quality(np.array([0.5 * number]), models=models) == 2.0**-number
    assert forgetting_quality(np.array([0.49, 0.5]), models=models) == 0.75
    assert forgetting_quality(np.array([7.0, CAP]), models=models) == 0


def test_the_score_is_quality_times_both_ratios():
    assert challenge_score(0.5, 0.9, 1.1) == pytest.approx(0.495)


@pytest.mark.parametrize("wrong", [[], [-1.0], [np.nan], [np.inf]])
def test_epsilons_that_are_none_are_refused(wrong):
    with pytest.raises(InvalidInputError, match="epsilons"):
        forgetting_quality(np.array(wrong), models=64)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InvalidInputError, match="oracles: 1 margins are not finite"):
        epsilons(np.zeros((3, 1)), np.array([[0.0], [np.nan]]))
    with pytest.raises(InvalidInputError, match="unlearned: margins are"):
        epsilons(np.zeros((1, 1)), np.zeros((3, 1)))
    for wrong in ({"delta": 1.0}, {"delta": -0.1}, {"cap": 0.0}):
        with pytest.raises(InvalidInputError, match="delta"):
            epsilons(np.zeros((3, 1)), np.ones((3, 1)), **wrong)
    with pytest.raises(InvalidInputError, match="retain_ratio"):
        challenge_score(0.5, -1.0, 1.0)
