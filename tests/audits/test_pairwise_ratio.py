"""RMIA: shares of won comparisons, against a loop over all other examples."""

import numpy as np
import pytest

from rumjax.audits.games import auc
from rumjax.audits.pairwise_ratio import log_probability, offline_rmia, rmia
from rumjax.audits.population import OUT, Population
from rumjax.errors import InvalidInputError
from tests.references import audits as slow


@pytest.fixture
def unseen():
    def made(models, seed=9):
        return np.random.default_rng(seed).normal(size=(models, 30)).astype(np.float32)

    return made


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("offset", [None, 0.4])
def test_scores_are_shares_of_a_loop_over_z(population, unseen, own, offset):
    targets, shadows = population(6, 4, 1), population(9, 4, 2)
    z = unseen(6), unseen(9, 8)
    left_out = np.arange(6) if own else np.full(6, -1)
    if offset is None:
        found = rmia(targets, shadows, *z, left_out=left_out, gamma=1.5)
    else:
        found = offline_rmia(targets, shadows, *z, left_out=left_out, gamma=1.5, offset=offset)
    wanted = slow.rmia(
        targets.margins.astype(float), shadows.margins.astype(float), shadows.worlds, *z, left_out,
        1.5, offset,
    )  # fmt: skip
    assert len(np.unique(wanted)) > 2
    np.testing.assert_allclose(found.scores, wanted, atol=1e-12)
    assert found.threshold is None


def test_models_that_forgot_nothing_are_told_and_those_that_never_knew_are_not(population, unseen):
    shadows = population(90, 60, 2, kept=3.0)
    z = unseen(90), unseen(90, 8)
    never = rmia(population(90, 60, 1, forgotten=0.0), shadows, *z)
    assert auc(never) == pytest.approx(0.5, abs=0.03)
    random = np.random.default_rng(0)
    # The same examples, since what is hard differs from example to example.
    margins = np.where(shadows.worlds == OUT, shadows.margins, shadows.margins.max(axis=0))
    known = shadows._replace(margins=(margins + 0.1 * random.normal(size=margins.shape)))
    assert auc(rmia(known, shadows, *z)) > 0.9
    assert auc(offline_rmia(known, shadows, *z)) > 0.8


def test_order_does_not_matter(population, unseen):
    targets, shadows = population(6, 4, 1), population(9, 4, 2)
    z_targets, z_shadows = unseen(6), unseen(9, 8)
    found = rmia(targets, shadows, z_targets, z_shadows).scores
    random = np.random.default_rng(0)
    rows, others, columns, z = (random.permutation(n) for n in (6, 9, 4, 30))
    moved = rmia(
        targets.of(rows).at(columns),
        shadows.of(others).at(columns),
        z_targets[rows][:, z],
        z_shadows[others][:, z],
    )
    np.testing.assert_allclose(moved.scores, found[rows][:, columns])


def test_a_model_that_is_left_out_changes_nothing(population, unseen):
    targets, shadows = population(3, 4, 1), population(9, 4, 2)
    z_targets, z_shadows = unseen(3), unseen(9, 8)
    moved = shadows._replace(margins=np.array(shadows.margins))
    moved.margins[5], moved_z = 9.0, np.array(z_shadows)
    moved_z[5] = 9.0
    for attack in (rmia, offline_rmia):
        one, other = (
            attack(targets, each, z_targets, z, left_out=np.array([5, 5, 5])).scores
            for each, z in ((shadows, z_shadows), (moved, moved_z))
        )
        np.testing.assert_array_equal(one, other)


def test_probabilities_of_extreme_margins_are_finite():
    margins = np.array([[-1e4, -1.0, 0.0, 1.0, 1e4]])
    found = log_probability(margins)
    np.testing.assert_allclose(found[0, 1:4], np.log(1 / (1 + np.exp([1.0, 0, -1]))))
    assert found[0, 0] == -1e4
    assert found[0, -1] == 0


def test_offline_scores_see_nothing_of_models_that_saw_the_example(population, unseen):
    targets, shadows = population(6, 4, 1), population(9, 4, 2)
    moved = shadows._replace(
        margins=np.where(shadows.worlds == OUT, shadows.margins, 7.0).astype(np.float32)
    )
    z = unseen(6), unseen(9, 8)
    one, other = (offline_rmia(targets, each, *z, offset=0.5) for each in (shadows, moved))
    np.testing.assert_array_equal(one.scores, other.scores)


def test_what_cannot_be_attacked_is_refused(population, unseen):
    targets, shadows = population(6, 4, 1), population(9, 4, 2)
    with pytest.raises(InvalidInputError, match="unseen_by_targets"):
        rmia(targets, shadows, unseen(5), unseen(9))
    with pytest.raises(InvalidInputError, match="the same examples"):
        rmia(targets, shadows.at(np.arange(3)), unseen(6), unseen(9))
    with pytest.raises(InvalidInputError, match="gamma"):
        rmia(targets, shadows, unseen(6), unseen(9), gamma=0.5)
    one = Population(shadows.margins[:1], shadows.worlds[:1])
    with pytest.raises(InvalidInputError, match="no shadow"):
        rmia(targets, one, unseen(6), unseen(1), left_out=np.zeros(6, int))
    with pytest.raises(InvalidInputError, match="at least 1 besides the one attacked"):
        rmia(targets, shadows._replace(worlds=np.zeros_like(shadows.worlds)), unseen(6), unseen(9))
    with pytest.raises(InvalidInputError, match="offset"):
        offline_rmia(targets, shadows, unseen(6), unseen(9), offset=1.5)
    wrong = population(9, 4, 2)
    wrong.margins[4, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"shadows.*model 4's on example 1"):
        rmia(targets, wrong, unseen(6), unseen(9))
    wrong = unseen(9)
    wrong[2, 3] = np.inf
    with pytest.raises(InvalidInputError, match="model 2's on example 3"):
        rmia(targets, shadows, unseen(6), wrong)
