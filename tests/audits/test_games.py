import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from rumjax.audits.games import (
    auc,
    balanced_accuracy,
    bootstrap,
    per_example,
    roc_curve,
    true_positive_rate,
    weighted_auc,
)
from rumjax.audits.population import Game
from rumjax.errors import InvalidInputError


def gaussian(shift, models=100, examples=200, seed=0):
    """Independent pairs, half of them positive, whose scores are `shift` apart."""
    random = np.random.default_rng(seed)
    positive = np.zeros((models, examples), bool)
    positive[: models // 2] = True
    scores = random.normal(size=positive.shape) + shift * (positive - 0.5)
    return Game(scores, positive, np.ones(positive.shape, bool), 0.0)


@st.composite
def games(draw):
    """Small ones with ties, in which each example is played in both worlds."""
    shape = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    numbers = st.integers(-2, 2)
    scores = np.array(draw(st.lists(numbers, min_size=shape[0] * shape[1], max_size=24))[:24])
    scores = np.resize(scores, shape).astype(float)
    positive = np.arange(shape[0])[:, None] % 2 == np.arange(shape[1]) % 2
    return Game(scores, positive, np.ones(shape, bool), 0.0)


def naive_auc(game):
    yes = game.scores[game.played & game.positive]
    no = game.scores[game.played & ~game.positive]
    return np.mean([(a > b) + (a == b) / 2 for a in yes for b in no])


@settings(deadline=None, max_examples=30)
@given(games())
def test_the_area_is_how_often_a_positive_pair_scores_above_a_negative_one(game):
    assert auc(game) == pytest.approx(naive_auc(game))


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_gaussians_that_are_apart_have_their_closed_forms(shift):
    game = gaussian(shift)
    count = game.scores.size / 2
    wanted = stats.norm.cdf(shift / np.sqrt(2))
    assert auc(game) == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / count) + 1e-9)
    wanted = stats.norm.cdf(shift / 2)
    assert balanced_accuracy(game) == pytest.approx(wanted, abs=4 / np.sqrt(8 * count))
    rate = true_positive_rate(game, 0.01)
    wanted = stats.norm.sf(stats.norm.isf(0.01) - shift)
    # The threshold is an estimate too.
    assert rate.value == pytest.approx(wanted, abs=0.03)
    assert rate.low <= rate.value <= rate.high


def test_worlds_that_are_disjoint_are_told_without_an_error():
    game = gaussian(100.0, 6, 5)
    assert (auc(game), balanced_accuracy(game)) == (1.0, 1.0)
    rate = true_positive_rate(game, 0.0)
    assert (rate.value, rate.successes, rate.trials) == (1.0, 15, 15)
    assert (per_example(game) == 1).all()
    assert bootstrap(game, "auc", draws=20)[:] == (1.0, 1.0, 1.0)


def test_the_interval_of_a_rate_is_that_of_clopper_and_pearson():
    game = gaussian(1.0, 20, 10)
    rate = true_positive_rate(game, 0.05)
    k, n = rate.successes, rate.trials
    assert rate.low == pytest.approx(stats.beta.ppf(0.025, k, n - k + 1))
    assert rate.high == pytest.approx(stats.beta.ppf(0.975, k + 1, n - k))


def test_pairs_of_equal_scores_are_never_split():
    scores = np.array([[1.0, 1.0, 1.0, 0.0]]).T
    positive = np.array([[True, True, False, False]]).T
    game = Game(scores, positive, np.ones_like(positive), 0.5)
    assert true_positive_rate(game, 0.4).value == 0
    assert true_positive_rate(game, 0.5).value == 1


@settings(deadline=None, max_examples=20)
@given(games(), st.randoms(use_true_random=False))
def test_order_and_scale_do_not_matter(game, random):
    models, examples = (random.sample(range(n), n) for n in game.scores.shape)
    moved = Game(*(each[models][:, examples] for each in game[:3]), 0.0)
    assert auc(moved) == pytest.approx(auc(game))
    assert balanced_accuracy(moved) == pytest.approx(balanced_accuracy(game))
    np.testing.assert_allclose(per_example(moved), per_example(game)[examples])
    assert auc(game._replace(scores=np.exp(game.scores))) == pytest.approx(auc(game))


def test_pairs_that_are_not_played_do_not_count():
    game = gaussian(1.0, 20, 10)
    more = [np.concatenate([each, each[:3]]) for each in game[:3]]
    more[0][-3:], more[2][-3:] = np.nan, False
    padded = Game(*more, 0.0)
    for measure in (auc, balanced_accuracy):
        assert measure(padded) == measure(game)
    np.testing.assert_array_equal(per_example(padded), per_example(game))


def test_an_example_with_one_world_alone_has_no_accuracy_of_its_own():
    game = gaussian(1.0, 6, 3)
    game.positive[:, 1] = True
    assert np.isnan(per_example(game)).tolist() == [False, True, False]


@settings(deadline=None, max_examples=30)
@given(games(), st.integers(0, 99))
def test_weights_are_repetitions(game, seed):
    random = np.random.default_rng(seed)
    order = np.argsort(game.scores.ravel(), kind="stable")
    scores, positive = game.scores.ravel()[order], game.positive.ravel()[order]
    weights = random.integers(1, 4, len(scores))
    repeated = np.repeat(positive, weights), np.repeat(scores, weights)
    found = weighted_auc(scores, positive, weights.astype(float))
    assert found == pytest.approx(roc_auc_score(*repeated))


@pytest.mark.parametrize("measure", ["auc", "balanced_accuracy"])
def test_intervals_of_the_bootstrap_cover_what_is_true(measure):
    shift = 1.0
    wanted = stats.norm.cdf(shift / (np.sqrt(2) if measure == "auc" else 2))
    found = [
        bootstrap(gaussian(shift, 20, 20, seed), measure, draws=100, seed=seed)
        for seed in range(30)
    ]
    covered = sum(each.low <= wanted <= each.high for each in found)
    assert covered >= stats.binom.ppf(0.001, 30, 0.9)
    assert all(each.low < each.value < each.high for each in found)


def test_the_bootstrap_depends_on_its_seed_alone():
    game = gaussian(1.0, 10, 10)
    one, same, other = (bootstrap(game, "auc", draws=20, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_models_that_agree_among_themselves_widen_the_interval():
    one = gaussian(1.0, 10, 40)
    alike = one._replace(scores=np.repeat(one.scores[:, :1], 40, axis=1))
    widths = [np.ptp(bootstrap(each, "auc", draws=100)[1:]) for each in (one, alike)]
    assert widths[1] > 2 * widths[0]


def test_a_curve_goes_through_its_corners_and_is_thinned():
    game = gaussian(1.0)
    whole, thin = roc_curve(game, points=10**6), roc_curve(game, points=50)
    assert len(thin.false_positive_rate) <= 50
    corners = set(zip(*whole, strict=True))
    assert set(zip(*thin, strict=True)) <= corners
    for curve in (whole, thin):
        assert (curve[0][0], curve[1][0], curve[0][-1], curve[1][-1]) == (0, 0, 1, 1)
        assert np.all(np.diff(curve.false_positive_rate) >= 0)
        assert np.all(np.diff(curve.true_positive_rate) >= 0)
    assert np.trapezoid(whole[1], whole[0]) == pytest.approx(auc(game), abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.full((4, 2), np.nan)}, "not finite"),
        ({"scores": np.zeros(4)}, r"\[models, examples\]"),
        ({"positive": np.zeros((4, 2), bool)}, "0 are positive"),
        ({"positive": np.ones((4, 2), bool)}, "8 are positive"),
    ],
)
def test_games_that_are_none_are_refused(change, message):
    with pytest.raises(InvalidInputError, match=message):
        auc(gaussian(1.0, 4, 2)._replace(**change))


def test_what_cannot_be_asked_is_refused():
    game = gaussian(1.0, 4, 2)
    with pytest.raises(InvalidInputError, match="no threshold"):
        balanced_accuracy(game._replace(threshold=None))
    with pytest.raises(InvalidInputError, match="false_positive_rate"):
        true_positive_rate(game, 2.0)
    with pytest.raises(InvalidInputError, match="measure"):
        bootstrap(game, "accuracy")
