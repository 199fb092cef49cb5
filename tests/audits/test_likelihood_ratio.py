"""U-LiRA and LiRA: likelihood ratios against Gaussian fits made one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.audits.games import auc, balanced_accuracy
from rumjax.audits.likelihood_ratio import fit, lira, offline_lira, unlearning_lira
from rumjax.audits.population import FORGOTTEN, IN, OUT, Population
from rumjax.errors import InvalidInputError
from tests.references import audits as slow

FLOOR = 1e-4


def where_played(game):
    return np.where(game.played, game.scores, np.nan)


@pytest.mark.parametrize("variance", ["each", "shared"])
def test_scores_are_those_of_fits_without_the_model_itself(population, variance):
    models = population(15, 6, forgotten=1.0)
    found = unlearning_lira(models, variance=variance, variance_floor=FLOOR)
    wanted = slow.lira(
        *(models.margins.astype(float), models.worlds) * 2, np.arange(15), FORGOTTEN, OUT,
        floor=FLOOR, shared=variance == "shared",
    )  # fmt: skip
    np.testing.assert_allclose(found.scores[found.played], wanted[found.played], rtol=1e-6)
    np.testing.assert_array_equal(found.played, models.worlds != IN)
    np.testing.assert_array_equal(found.positive, models.worlds == FORGOTTEN)
    assert found.threshold == 0.0


@pytest.mark.parametrize("variance", ["each", "shared"])
@pytest.mark.parametrize("own", [True, False])
def test_scores_against_shadows_are_those_of_fits_without_ones_own(population, own, variance):
    targets, shadows = population(9, 5, 1), population(12, 5, 2)
    left_out = np.arange(9) + 3 if own else np.full(9, -1)
    found = lira(targets, shadows, left_out=left_out, variance=variance, variance_floor=FLOOR)
    wanted = slow.lira(
        targets.margins.astype(float), targets.worlds, shadows.margins.astype(float),
        shadows.worlds, left_out, IN, OUT, floor=FLOOR, shared=variance == "shared",
    )  # fmt: skip
    np.testing.assert_allclose(found.scores[found.played], wanted[found.played], rtol=1e-6)
    plain = lira(targets, shadows, variance=variance)
    assert not own or not np.allclose(found.scores, plain.scores)


def test_a_model_that_is_left_out_changes_nothing(population):
    targets, shadows = population(4, 5, 1), population(12, 5, 2)
    moved = shadows._replace(margins=np.array(shadows.margins))
    moved.margins[7] += 50
    for attack in (lira, offline_lira):
        one, other = (
            attack(targets, each, left_out=np.array([7, 7, 7, -1])).scores
            for each in (shadows, moved)
        )
        np.testing.assert_allclose(one[:3], other[:3], rtol=1e-5)
        assert not np.allclose(one[3], other[3])


def test_offline_scores_are_standard_deviations_from_models_that_never_saw_it(population):
    targets, shadows = population(6, 4, 1), population(12, 4, 2)
    found = offline_lira(targets, shadows)
    for example in range(4):
        out = shadows.margins[shadows.worlds[:, example] == OUT, example].astype(float)
        wanted = (targets.margins[:, example] - out.mean()) / out.std(ddof=1)
        np.testing.assert_allclose(found.scores[:, example], wanted, rtol=1e-5)
    assert found.threshold is None


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_gaussians_that_are_apart_are_told_as_well_as_can_be(population, shift):
    game = unlearning_lira(population(300, 100, forgotten=shift))
    # Two parameters a world are estimated from a hundred models.
    assert auc(game) == pytest.approx(stats.norm.cdf(shift / np.sqrt(2)), abs=0.02)
    assert balanced_accuracy(game) == pytest.approx(stats.norm.cdf(shift / 2), abs=0.02)


def test_worlds_that_are_alike_come_out_below_a_half_where_models_are_few(population):
    found = {
        (models, variance): auc(unlearning_lira(population(models, 1500), variance=variance))
        for models in (9, 48)
        for variance in ("each", "shared")
    }
    assert found[9, "each"] == pytest.approx(0.37, abs=0.03)
    assert found[9, "shared"] == pytest.approx(0.46, abs=0.03)
    assert found[48, "each"] == pytest.approx(0.5, abs=0.01)


def test_worlds_that_are_disjoint_are_told_without_an_error(population):
    assert auc(unlearning_lira(population(30, 10, forgotten=100.0))) == 1


def test_what_is_kept_can_be_asked_for_too(population):
    game = unlearning_lira(population(300, 50, kept=3.0), positive=IN)
    assert auc(game) == pytest.approx(stats.norm.cdf(3 / np.sqrt(2)), abs=0.01)


def test_a_shared_variance_serves_few_models_better(population):
    few = population(9, 400, forgotten=1.0)
    each, shared = (auc(unlearning_lira(few, variance=kind)) for kind in ("each", "shared"))
    assert shared > each + 0.02


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.sampled_from(["each", "shared"]))
def test_order_and_shifts_of_an_example_do_not_matter(seed, variance):
    random = np.random.default_rng(seed)
    worlds = np.tile(np.repeat([OUT, IN, FORGOTTEN], 4)[:, None], (1, 5)).astype(np.int8)
    models = Population(random.normal(size=(12, 5)), worlds)
    found = unlearning_lira(models, variance=variance).scores
    rows, columns = random.permutation(12), random.permutation(5)
    moved = unlearning_lira(models.of(rows).at(columns), variance=variance).scores
    np.testing.assert_allclose(moved, found[rows][:, columns], rtol=1e-6, atol=1e-8)
    shifted = models._replace(margins=models.margins + random.normal(0, 100, 5))
    again = unlearning_lira(shifted, variance=variance).scores
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attack", [lira, offline_lira])
def test_shadows_may_come_in_any_order(population, attack):
    targets, shadows = population(9, 5, 1), population(12, 5, 2)
    order = np.random.default_rng(0).permutation(12)
    left_out = np.array([0, 3, 5, 7, 11, 2, -1, -1, 8])
    moved = np.where(left_out < 0, -1, np.argsort(order)[left_out])
    one = attack(targets, shadows, left_out=left_out)
    other = attack(targets, shadows.of(order), left_out=moved)
    np.testing.assert_allclose(other.scores, one.scores, rtol=1e-6, atol=1e-8)


def test_what_is_left_out_may_be_far_from_the_others(population):
    models = population(15, 4)
    models.margins[0] = 1e4
    fitted = fit(models, models, OUT, np.arange(15), "each", 1e-12)
    for example in range(4):
        others = models.worlds[1:, example] == OUT
        wanted = np.var(models.margins[1:][others, example].astype(float), ddof=1)
        if models.worlds[0, example] == OUT:
            assert fitted.variance[0, example] == pytest.approx(wanted, rel=1e-6)
    assert np.any(models.worlds[0] == OUT)


def test_margins_that_are_all_equal_leave_scores_finite(population):
    models = population(12, 3, spread=0.0)
    assert np.isfinite(unlearning_lira(models).scores).all()


def test_examples_with_too_few_models_of_a_world_are_not_played(population):
    models = population(12, 3)
    models.worlds[:, 1] = OUT
    assert unlearning_lira(models).played.any(axis=0).tolist() == [True, False, True]


@pytest.mark.parametrize(("forgetting", "played"), [(2, False), (3, True)])
def test_a_world_needs_three_models_so_that_two_are_left(population, forgetting, played):
    models = population(12, 2)
    models.worlds[:, 0] = np.where(np.arange(12) < forgetting, FORGOTTEN, OUT)
    assert unlearning_lira(models).played[:, 0].tolist() == [played] * 12


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_margins_that_are_not_finite_are_refused(population, wrong):
    models = population(12, 3)
    models.margins[4, 2] = wrong
    with pytest.raises(InvalidInputError, match="model 4's on example 2"):
        unlearning_lira(models)
    with pytest.raises(InvalidInputError, match=r"shadows.*model 4's on example 2"):
        lira(population(6, 3), models)


def test_what_cannot_be_attacked_is_refused(population):
    counted = (
        r"models enough.*of 4 examples, 4 are forgotten to some model, to 1 at most, 4 are out"
    )
    with pytest.raises(InvalidInputError, match=counted):
        unlearning_lira(population(3, 4))
    with pytest.raises(InvalidInputError, match="4 examples"):
        lira(population(6, 3), population(6, 4))
    with pytest.raises(InvalidInputError, match="left_out"):
        lira(population(6, 3), population(6, 3), left_out=np.arange(1, 7))
    with pytest.raises(InvalidInputError, match="left_out"):
        lira(population(6, 3), population(6, 3), left_out=np.zeros(6))
    with pytest.raises(InvalidInputError, match="variance"):
        unlearning_lira(population(6, 3), variance="none")
    for floor in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidInputError, match="variance_floor"):
            offline_lira(population(6, 3), population(6, 3), variance_floor=floor)
    for worlds in ((OUT, OUT), (3, OUT), (IN, -1)):
        with pytest.raises(InvalidInputError, match="two of the worlds"):
            unlearning_lira(population(12, 3), positive=worlds[0], negative=worlds[1])
