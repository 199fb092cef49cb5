"""RULI: kernel densities of margins, against densities fitted one by one."""

import numpy as np
import pytest
from scipy import special, stats

from rumjax.audits.games import auc, balanced_accuracy
from rumjax.audits.likelihood_ratio import unlearning_lira
from rumjax.audits.population import FORGOTTEN, IN, OUT, Population
from rumjax.audits.ruli import ruli_efficacy, ruli_privacy
from rumjax.errors import InvalidInputError
from tests.references import audits as slow


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_scores_are_those_of_kernel_densities_without_the_model_itself(population, rule):
    models = population(12, 3, forgotten=1.0)
    found = ruli_privacy(models, bandwidth=rule)
    wanted = slow.kernel_ratio(models.margins.astype(float), models.worlds, FORGOTTEN, OUT, rule)
    np.testing.assert_allclose(found.scores[found.played], wanted[found.played], rtol=1e-5)
    np.testing.assert_array_equal(found.played, models.worlds != IN)


def test_a_bandwidth_in_nats_is_what_is_said(population):
    models = population(12, 3, forgotten=1.0)
    found = ruli_privacy(models, bandwidth=0.7)
    margins = models.margins.astype(float)
    for model, example in np.argwhere(found.played):
        own = models.worlds[:, example]
        others = np.arange(12) != model
        logs = [
            special.logsumexp(stats.norm.logpdf(margins[model, example], around, 0.7))
            - np.log(len(around))
            for around in (margins[others & (own == world), example] for world in (FORGOTTEN, OUT))
        ]
        assert found.scores[model, example] == pytest.approx(logs[0] - logs[1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_gaussians_that_are_apart_are_told_nearly_as_well_as_can_be(population, shift):
    game = ruli_privacy(population(240, 60, forgotten=shift))
    wanted = stats.norm.cdf(shift / np.sqrt(2))
    assert wanted - 0.04 < auc(game) < wanted + 0.02


def test_densities_of_two_humps_tell_what_gaussians_cannot(population):
    models = population(180, 40, spread=0.2)
    random = np.random.default_rng(0)
    side = random.choice([-1.0, 1.0], models.margins.shape)
    # Both worlds have about the same mean and variance; only their forms differ.
    apart = np.where(models.worlds == FORGOTTEN, side, random.normal(size=side.shape))
    models = models._replace(margins=models.margins + apart.astype(np.float32))
    assert (
        balanced_accuracy(ruli_privacy(models)) > 0.6 > balanced_accuracy(unlearning_lira(models))
    )


def test_unlearned_models_are_told_from_retrained_ones_if_they_differ(population):
    retrained = population(60, 20, 1)
    same = ruli_efficacy(population(60, 20, 1), retrained)
    assert same.scores.shape == (120, 20)
    np.testing.assert_array_equal(same.positive[:60], retrained.worlds == FORGOTTEN)
    assert not same.positive[60:].any()
    np.testing.assert_array_equal(same.played[60:], retrained.worlds == FORGOTTEN)
    moved = retrained._replace(margins=retrained.margins + np.float32(9))
    assert auc(ruli_efficacy(moved, retrained)) == 1


def test_efficacy_is_the_ratio_of_densities_of_unlearned_and_of_retrained_models(population):
    unlearned, retrained = population(12, 3, 1, forgotten=1.0), population(15, 3, 2)
    found = ruli_efficacy(unlearned, retrained)
    # Only models that were to forget an example are asked about it.
    margins = np.concatenate([unlearned.margins, retrained.margins]).astype(float)
    sides = [np.where(unlearned.worlds == FORGOTTEN, FORGOTTEN, IN)]
    sides.append(np.where(retrained.worlds == FORGOTTEN, OUT, IN))
    wanted = slow.kernel_ratio(margins, np.concatenate(sides), FORGOTTEN, OUT)
    np.testing.assert_array_equal(found.played, np.concatenate(sides) != IN)
    np.testing.assert_allclose(found.scores[found.played], wanted[found.played], rtol=1e-5)


@pytest.mark.parametrize("bandwidth", ["scott", 0.5])
def test_examples_that_lack_a_world_or_both_are_not_played(population, bandwidth):
    models = population(12, 4)
    models.worlds[:, 1] = IN
    models.worlds[:, 2] = OUT
    alone = ruli_privacy(models.at(np.array([0, 3])), bandwidth=bandwidth)
    found = ruli_privacy(models, bandwidth=bandwidth)
    assert found.played.any(axis=0).tolist() == [True, False, False, True]
    np.testing.assert_array_equal(found.scores[:, [0, 3]], alone.scores)


def test_moving_all_margins_of_an_example_changes_nothing(population):
    models = population(12, 4, forgotten=1.0)
    exact = Population(models.margins.astype(float), models.worlds)
    moved = exact._replace(margins=exact.margins + np.array([100.0, -30, 0, 7]))
    np.testing.assert_allclose(
        ruli_privacy(moved).scores, ruli_privacy(exact).scores, rtol=1e-9, atol=1e-9
    )


def test_order_does_not_matter(population):
    models = population(12, 4, forgotten=1.0)
    random = np.random.default_rng(0)
    rows, columns = random.permutation(12), random.permutation(4)
    found = ruli_privacy(models).scores
    moved = ruli_privacy(models.of(rows).at(columns)).scores
    np.testing.assert_allclose(moved, found[rows][:, columns], rtol=1e-9)


def test_scores_are_finite_however_far_and_equal_margins_are(population):
    far = population(12, 3, forgotten=1e4, spread=0.0)
    game = ruli_privacy(far)
    assert np.isfinite(game.scores[game.played]).all()
    assert auc(game) == 1


def test_what_cannot_be_attacked_is_refused(population):
    with pytest.raises(InvalidInputError, match="bandwidth"):
        ruli_privacy(population(12, 3), bandwidth="wide")
    for width in (-1.0, 0.0, np.inf, np.nan):
        with pytest.raises(InvalidInputError, match="bandwidth"):
            ruli_privacy(population(12, 3), bandwidth=width)
    with pytest.raises(InvalidInputError, match="models enough"):
        ruli_privacy(population(3, 4))
    blank = population(12, 3)
    blank.worlds[:] = OUT
    with pytest.raises(InvalidInputError, match="retrained: no example is FORGOTTEN"):
        ruli_efficacy(population(12, 3), blank)
    with pytest.raises(InvalidInputError, match="2 examples"):
        ruli_efficacy(population(12, 3), population(12, 2))
    wrong = population(12, 3)
    wrong.margins[1, 1] = np.nan
    with pytest.raises(InvalidInputError, match="model 1's on example 1"):
        ruli_efficacy(population(12, 3), wrong)
