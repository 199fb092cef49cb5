"""Areas, rates and privacy losses of an attack, against counting and closed forms."""

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
    check_game,
    per_example,
    roc_curve,
    true_positive_rate,
    weighted_auc,
)
from rumjax.audits.population import Game
from rumjax.errors import InvalidInputError
from tests.references import games as slow

MEASURES = ["auc", "balanced_accuracy"]


def gaussian(shift, models=100, examples=200, seed=0, digits=9):
    """Independent pairs, half of them positive, whose scores are `shift` apart."""
    random = np.random.default_rng(seed)
    positive = np.zeros((models, examples), bool)
    positive[: models // 2] = True
    scores = random.normal(size=positive.shape) + shift * (positive - 0.5)
    return Game(np.round(scores, digits), positive, np.ones(positive.shape, bool), 0.0)


@st.composite
def games(draw):
    """Small ones with ties, in which each example is played in both worlds."""
    shape = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    count = shape[0] * shape[1]
    scores = draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    positive = np.arange(shape[0])[:, None] % 2 == np.arange(shape[1]) % 2
    return Game(np.reshape(scores, shape).astype(float), positive, np.ones(shape, bool), 0.0)


def with_gaps(game, seed=0):
    """The same, with every third pair left out."""
    left_out = np.random.default_rng(seed).permutation(game.scores.size).reshape(game.scores.shape)
    return game._replace(played=left_out % 3 > 0)


@settings(deadline=None, max_examples=30)
@given(games())
def test_all_that_is_read_from_an_attack_is_what_counting_finds(game):
    assert auc(game) == pytest.approx(slow.auc(game))
    assert auc(game) == pytest.approx(roc_auc_score(game.positive.ravel(), game.scores.ravel()))
    assert balanced_accuracy(game) == pytest.approx(slow.balanced_accuracy(game))
    np.testing.assert_allclose(per_example(game), slow.per_example(game))
    for wanted in (0.0, 0.2, 0.5, 1.0):
        found = true_positive_rate(game, wanted)
        assert found.value == pytest.approx(slow.true_positive_rate(game, wanted))
        assert found.successes == pytest.approx(found.value * found.trials)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_gaussians_that_are_apart_have_their_closed_forms(shift):
    game = gaussian(shift)
    count = game.scores.size / 2  # pairs of each world
    wanted = stats.norm.cdf(shift / np.sqrt(2))
    # The variance of the area is at most this, whatever the distributions (Birnbaum and Klose).
    assert auc(game) == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / count))
    wanted = stats.norm.cdf(shift / 2)
    error = np.sqrt(wanted * (1 - wanted) / (2 * count))
    assert balanced_accuracy(game) == pytest.approx(wanted, abs=4 * error)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alarms", [0.01, 0.001])
def test_the_rate_of_gaussians_that_are_apart_has_its_closed_form(shift, alarms):
    game = gaussian(shift, 200, 400)
    count = game.scores.size / 2
    threshold = stats.norm.isf(alarms)
    wanted = stats.norm.sf(threshold - shift)
    # The threshold is an estimate too, and moves the rate by the slope of the curve.
    slope = stats.norm.pdf(threshold - shift) / stats.norm.pdf(threshold)
    error = np.sqrt((wanted * (1 - wanted) + slope**2 * alarms * (1 - alarms)) / count)
    rate = true_positive_rate(game, alarms)
    # One false positive fewer than allowed is a step of this curve.
    assert rate.value == pytest.approx(wanted, abs=4 * error + slope / count)
    assert rate.low <= rate.value <= rate.high


def test_scores_that_are_all_alike_tell_nothing():
    game = gaussian(1.0, 6, 5)
    game = game._replace(scores=np.zeros_like(game.scores))
    assert (auc(game), balanced_accuracy(game)) == (0.5, 0.5)
    assert (per_example(game) == 0.5).all()
    assert true_positive_rate(game, 0.01)[:2] == (0.0, 0.0)
    for measure in MEASURES:
        assert bootstrap(game, measure, draws=20) == (0.5, 0.5, 0.5)


def test_worlds_that_are_disjoint_are_told_without_an_error():
    game = gaussian(100.0, 6, 5)
    assert (auc(game), balanced_accuracy(game)) == (1.0, 1.0)
    rate = true_positive_rate(game, 0.0)
    assert (rate.value, rate.successes, rate.trials) == (1.0, 15, 15)
    assert (per_example(game) == 1).all()
    for measure in MEASURES:
        assert bootstrap(game, measure, draws=20) == (1.0, 1.0, 1.0)


def test_the_interval_of_a_rate_is_that_of_clopper_and_pearson():
    low, high, k, n = true_positive_rate(gaussian(1.0, 20, 10), 0.05)[1:]
    assert low == pytest.approx(stats.beta.ppf(0.025, k, n - k + 1))
    assert high == pytest.approx(stats.beta.ppf(0.975, k + 1, n - k))


def test_pairs_of_equal_scores_are_never_split():
    positive = np.array([[True, True, False, False]])
    game = Game(np.array([[1.0, 1.0, 1.0, 0.0]]), positive, np.ones_like(positive), 0.5)
    assert true_positive_rate(game, 0.4).value == 0
    assert true_positive_rate(game, 0.5).value == 1


def test_a_score_at_the_threshold_is_half_a_positive():
    positive = np.array([[True, True, False, False]])
    game = Game(np.array([[1.0, 0.0, 0.0, -1.0]]), positive, np.ones_like(positive), 0.0)
    assert balanced_accuracy(game) == 0.75
    assert balanced_accuracy(game._replace(threshold=0.5)) == 0.75  # of positives, half are missed
    assert balanced_accuracy(game._replace(threshold=np.inf)) == 0.5


@settings(deadline=None, max_examples=20)
@given(games(), st.randoms(use_true_random=False))
def test_order_and_scale_do_not_matter(game, random):
    models, examples = (random.sample(range(n), n) for n in game.scores.shape)
    moved = Game(*(each[models][:, examples] for each in game[:3]), 0.0)
    assert auc(moved) == pytest.approx(auc(game))
    assert balanced_accuracy(moved) == pytest.approx(balanced_accuracy(game))
    np.testing.assert_allclose(per_example(moved), per_example(game)[examples])
    for measure in MEASURES:
        values = [bootstrap(each, measure, draws=2).value for each in (moved, game)]
        assert values[0] == pytest.approx(values[1])
    for one, other in ((moved, game), (game._replace(scores=np.exp(game.scores)), game)):
        assert auc(one) == pytest.approx(auc(other))
        assert true_positive_rate(one, 0.3) == true_positive_rate(other, 0.3)
        for found, wanted in zip(roc_curve(one), roc_curve(other), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("filling", [np.nan, np.inf, 7.0])
def test_pairs_that_are_not_played_do_not_count(filling):
    game = with_gaps(gaussian(1.0, 20, 10))
    filled = game._replace(
        scores=np.where(game.played, game.scores, filling), positive=game.positive ^ ~game.played
    )
    assert auc(filled) == auc(game) == pytest.approx(slow.auc(game))
    assert balanced_accuracy(filled) == balanced_accuracy(game)
    assert balanced_accuracy(game) == pytest.approx(slow.balanced_accuracy(game))
    assert true_positive_rate(filled, 0.1) == true_positive_rate(game, 0.1)
    np.testing.assert_array_equal(per_example(filled), per_example(game))
    np.testing.assert_array_equal(np.stack(roc_curve(filled)), np.stack(roc_curve(game)))
    for measure in MEASURES:
        assert bootstrap(filled, measure, draws=9) == bootstrap(game, measure, draws=9)


def test_an_example_with_one_world_alone_has_no_accuracy_of_its_own():
    game = gaussian(1.0, 6, 3)
    game.positive[:, 1] = True
    assert np.isnan(per_example(game)).tolist() == [False, True, False]


@settings(deadline=None, max_examples=30)
@given(games(), st.integers(0, 99))
def test_weights_are_repetitions(game, seed):
    scores, positive = game.scores.ravel(), game.positive.ravel()
    weights = np.random.default_rng(seed).integers(0, 4, len(scores))
    repeated = np.repeat(positive, weights), np.repeat(scores, weights)
    found = weighted_auc(scores, positive, weights.astype(float))
    if len(np.unique(repeated[0])) == 2:
        assert found == pytest.approx(roc_auc_score(*repeated))
    else:
        assert np.isnan(found)


GRID = np.arange(9.0).reshape(3, 3)
LONELY = Game(GRID, GRID == 4, np.ones((3, 3), bool), 5.0)
"""of one positive pair, so that many draws lack it and are drawn again"""


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "game", [with_gaps(gaussian(1.0, 8, 6)), with_gaps(gaussian(1.0, 8, 6, digits=0)), LONELY]
)
def test_draws_are_repetitions_of_models_and_examples(measure, game):
    found = bootstrap(game, measure, draws=40, level=0.8, seed=3)
    wanted = slow.draws(game, getattr(slow, measure), 40, seed=3)
    assert found.value == pytest.approx(getattr(slow, measure)(game))
    np.testing.assert_allclose(found[1:], np.quantile(wanted, [0.1, 0.9]))


@pytest.mark.parametrize("measure", MEASURES)
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
    assert one == same != other


def test_models_that_agree_among_themselves_widen_the_interval():
    one = gaussian(1.0, 10, 40)
    alike = one._replace(scores=np.repeat(one.scores[:, :1], 40, axis=1))
    widths = [np.ptp(bootstrap(each, "auc", draws=100)[1:]) for each in (one, alike)]
    assert widths[1] > 2 * widths[0]


def test_a_curve_goes_through_its_corners_and_is_thinned():
    game = gaussian(1.0)
    whole, thin = roc_curve(game, points=10**6), roc_curve(game, points=50)
    assert len(thin.false_positive_rate) <= 50 < len(whole.false_positive_rate)
    corners = set(zip(*whole, strict=True))
    assert set(zip(*thin, strict=True)) <= corners
    for curve in (whole, thin):
        assert (curve[0][0], curve[1][0], curve[0][-1], curve[1][-1]) == (0, 0, 1, 1)
        assert np.all(np.diff(curve.false_positive_rate) >= 0)
        assert np.all(np.diff(curve.true_positive_rate) >= 0)
    assert np.trapezoid(whole[1], whole[0]) == pytest.approx(auc(game))


@pytest.mark.parametrize("points", [4, 5, 50, 500])
def test_a_thinned_curve_keeps_its_steps_at_the_lowest_rates(points):
    game = gaussian(3.0, 40, 100)
    negatives = np.sum(~game.positive)
    thin = roc_curve(game, points=points)
    assert len(thin.false_positive_rate) <= points
    for count in range({4: 1, 5: 1, 50: 2, 500: 10}[points]):
        here = thin.true_positive_rate[thin.false_positive_rate == count / negatives]
        below = slow.true_positive_rate(game, (count - 1) / negatives)
        above = slow.true_positive_rate(game, count / negatives)
        assert [here.min(), here.max()] == pytest.approx([below, above])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.diag([0.0, 0.0, np.nan, np.inf])}, "2 scores .* model 2's on example 2"),
        ({"scores": np.zeros(4)}, r"\[models, examples\]"),
        ({"played": np.ones((4, 2), bool)}, r"\[models, examples\]"),
        ({"positive": np.zeros((4, 4), bool)}, "of 16 .* 0 are positive"),
        ({"positive": np.ones((4, 4), bool)}, "of 16 .* 16 are positive"),
        ({"played": np.zeros((4, 4), bool)}, "of 0 pairs"),
        ({"positive": np.eye(4)}, "booleans .* float64"),
        ({"played": np.ones((4, 4), int)}, "booleans .* int64"),
        ({"threshold": np.nan}, "threshold is not a number"),
    ],
)
def test_games_that_are_none_are_refused_by_name(change, message):
    game = gaussian(1.0, 4, 4)
    check_game("some attack", game)
    with pytest.raises(InvalidInputError, match="some attack: .*" + message):
        check_game("some attack", game._replace(**change))


def test_nothing_is_read_from_scores_that_are_not_finite():
    game = gaussian(1.0, 4, 2)
    game.scores[1, 1] = np.nan
    for read in (auc, balanced_accuracy, per_example, roc_curve):
        with pytest.raises(InvalidInputError, match="not finite"):
            read(game)
    for read, what in ((true_positive_rate, 0.01), *((bootstrap, each) for each in MEASURES)):
        with pytest.raises(InvalidInputError, match="not finite"):
            read(game, what)


def test_what_cannot_be_asked_is_refused():
    game = gaussian(1.0, 4, 2)
    for read in (balanced_accuracy, per_example, lambda game: bootstrap(game, MEASURES[1])):
        with pytest.raises(InvalidInputError, match="no threshold"):
            read(game._replace(threshold=None))
    for wanted in (2.0, -0.1, np.nan):
        with pytest.raises(InvalidInputError, match="false_positive_rate"):
            true_positive_rate(game, wanted)
    with pytest.raises(InvalidInputError, match="points"):
        roc_curve(game, points=3)
    with pytest.raises(InvalidInputError, match="measure"):
        bootstrap(game, "accuracy")
    for wrong in ({"draws": 0}, {"level": 0.0}, {"level": 1.0}, {"level": np.nan}):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            bootstrap(game, "auc", **wrong)
