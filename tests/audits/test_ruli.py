import numpy as np
import pytest
from scipy import stats

from rumjax.audits.games import auc, balanced_accuracy
from rumjax.audits.lira import unlearning_lira
from rumjax.audits.population import FORGOTTEN, IN, OUT
from rumjax.audits.ruli import _log_density, ruli_efficacy, ruli_privacy
from rumjax.errors import InvalidInputError
from tests.references import audits as slow


def test_scores_are_those_of_kernel_densities_without_the_model_itself(population):
    models = population(15, 5, forgotten=1.0)
    found = ruli_privacy(models, bandwidth="scott")
    wanted = slow.kernel_ratio(models.margins.astype(float), models.worlds, FORGOTTEN, OUT)
    np.testing.assert_allclose(found.scores[found.played], wanted[found.played], rtol=1e-5)
    np.testing.assert_array_equal(found.played, models.worlds != IN)


def test_the_bandwidth_is_what_is_said():
    assert stats.gaussian_kde([0.0, 1, 5]).factor == pytest.approx(3**-0.2)
    random = np.random.default_rng(0)
    margins = random.normal(size=6)
    member = np.array([0, 1, 1, 1, 0, 0], bool)
    for rule in ("scott", "silverman"):
        density = stats.gaussian_kde(margins[member], bw_method=rule)
        found = _log_density(margins, member, rule)
        np.testing.assert_allclose(found[~member], density.logpdf(margins[~member]), rtol=1e-9)
    fixed = np.log(np.mean(stats.norm.pdf(margins[0], margins[member], 0.7)))
    assert _log_density(margins, member, 0.7)[0] == pytest.approx(fixed)


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
    with pytest.raises(InvalidInputError, match="bandwidth"):
        ruli_privacy(population(12, 3), bandwidth=-1.0)
    with pytest.raises(InvalidInputError, match="models enough"):
        ruli_privacy(population(3, 4))
    with pytest.raises(InvalidInputError, match="2 examples"):
        ruli_efficacy(population(12, 3), population(12, 2))
    wrong = population(12, 3)
    wrong.margins[1, 1] = np.nan
    with pytest.raises(InvalidInputError, match="model 1's on example 1"):
        ruli_efficacy(population(12, 3), wrong)
