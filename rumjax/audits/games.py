"""Readings of a `Game`, an attack's answers: areas, accuracies, rates, curves, intervals."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from rumjax.audits.population import Game
from rumjax.errors import (
    InvalidInputError,
    check_choice,
    check_count,
    check_floats,
    check_masks,
    check_scalar,
    check_share,
)
from rumjax.metrics import Interval

POINTS = 500
"""Points of a curve, at most."""


class Rate(NamedTuple):
    """The share of trials that succeeded, with its interval."""

    value: float
    low: float
    high: float
    """the ends of its interval by Clopper and Pearson, at 95 %"""
    successes: int
    trials: int


class Curve(NamedTuple):
    """A receiver operating characteristic, from (0, 0) to (1, 1)."""

    false_positive_rate: np.ndarray
    """float64[k], ascending"""
    true_positive_rate: np.ndarray
    """float64[k], ascending"""


def check_game(name: str, game: Game) -> Game:
    """Returns the game, if it is in order.

    Raises:
      InvalidInputError: shapes differ, masks that are not bool, scores of played pairs that are not
        finite, with the first model and example concerned, a threshold that is not a number, or
        pairs of one world only.
    """
    # Shapes and dtypes.
    axes, threshold = ("models", "examples"), game.threshold
    scores = check_floats(f"{name}: scores", game.scores, *axes, finite=False)
    positive = check_masks(f"{name}: positive", game.positive, *axes)
    played = check_masks(f"{name}: played", game.played, *axes)
    if not scores.shape == positive.shape == played.shape:
        raise InvalidInputError(
            f"{name}: scores are {scores.shape}, positive {positive.shape} and played "
            f"{played.shape}; all must be [models, examples]"
        )

    # Scores of pairs that are played, and pairs of both worlds.
    wrong = np.argwhere(played & ~np.isfinite(scores))
    if len(wrong):
        model, example = wrong[0]
        raise InvalidInputError(
            f"{name}: {len(wrong)} scores of pairs that are played are not finite, the first is "
            f"model {model}'s on example {example}; leave such pairs out of `played`, or mend them"
        )
    if threshold is not None and np.isnan(threshold):
        raise InvalidInputError(f"{name}: the threshold is not a number; give one, or None")
    if not (positive & played).any() or not (~positive & played).any():
        raise InvalidInputError(
            f"{name}: of {played.sum()} pairs that are played, {(positive & played).sum()} are "
            "positive; an attack needs some of both worlds"
        )
    return Game(scores, positive, played, threshold)


def auc(game: Game) -> float:
    """Returns the area under the curve, ties counting ½.

    It is the probability that a positive pair scores above a negative one.

    Raises:
      InvalidInputError: see `check_game`.

    Examples:
      >>> positive = np.array([[True, False], [False, True]])
      >>> auc(Game(np.array([[3.0, 1.0], [2.0, 1.0]]), positive, np.ones((2, 2), bool)))
      0.625
    """
    from sklearn import metrics

    scores, positive = _pairs(game)
    return float(metrics.roc_auc_score(positive, scores))


def balanced_accuracy(game: Game) -> float:
    """Returns ½(TPR + TNR) at the attack's own threshold, where a score counts as half "positive".

    Raises:
      InvalidInputError: the attack has no threshold; see `check_game` besides.

    Examples:
      >>> positive = np.array([[True, False], [False, True]])
      >>> scores = np.array([[3.0, -1.0], [2.0, 1.0]])
      >>> balanced_accuracy(Game(scores, positive, np.ones((2, 2), bool), threshold=0.0))
      0.75
    """
    right, worlds = _right(game)
    return float(np.mean([right[world].mean() for world in worlds]))


def per_example(game: Game) -> np.ndarray:
    """Returns the balanced accuracy on each example over models; NaN where it lacks a world.

    Returns:
      float64[n].

    Raises:
      InvalidInputError: the attack has no threshold; see `check_game` besides.

    Examples:
      >>> positive = np.array([[True, False], [False, True]])
      >>> scores = np.array([[3.0, -1.0], [2.0, 1.0]])
      >>> per_example(Game(scores, positive, np.ones((2, 2), bool), threshold=0.0))
      array([0.5, 1. ])
    """
    # Examples without a pair of one world are 0/0.
    right, worlds = _right(game)
    with np.errstate(invalid="ignore"):
        rates = [np.sum(right * world, axis=0) / world.sum(axis=0) for world in worlds]
    return np.mean(rates, axis=0)


def true_positive_rate(game: Game, false_positive_rate: float) -> Rate:
    """Returns the true positive rate at a bounded false positive rate.

    The threshold is the lowest whose false positive rate is not above the bound (Carlini et al.,
    S&P 2022, arXiv 2112.03570). Pairs of equal scores are never split. With n
    negative pairs, rates below 1/n cannot be told from 0. The interval takes the threshold as
    given and pairs as independent, which those of one model or one example are not; `bootstrap`
    allows for that, for other measures.

    Args:
      game: an attack's answers.
      false_positive_rate: in 0…1, .01 or .001 for instance.

    Raises:
      InvalidInputError: a rate outside 0…1; see `check_game` besides.

    Examples:
      >>> positive = np.array([[True, False], [False, True]])
      >>> game = Game(np.array([[3.0, 1.0], [2.0, 1.0]]), positive, np.ones((2, 2), bool))
      >>> rate = true_positive_rate(game, 0.1)
      >>> rate.value, rate.successes, rate.trials
      (0.5, 1, 2)
    """
    from scipy import stats
    from sklearn import metrics

    false_positive_rate = check_scalar("false_positive_rate", false_positive_rate, most=1.0)
    # The highest rate among the thresholds that are allowed.
    scores, positive = _pairs(game)
    false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    trials = int(positive.sum())
    successes = round(float(true[false <= false_positive_rate].max()) * trials)

    # Its interval by Clopper and Pearson.
    ends = stats.binomtest(successes, trials).proportion_ci(method="exact")
    return Rate(successes / trials, float(ends.low), float(ends.high), successes, trials)


def roc_curve(game: Game, *, points: int = POINTS) -> Curve:
    """Returns the attack's curve, for logarithmic axes, to be joined by straight lines.

    Where there are too many points, those are kept whose false positive rates are next below rates
    evenly spaced in the logarithm, with the corners at the foot and at the top of each. So no point
    is made up, and the steps at the lowest rates, 0 among them, stay steps.

    Args:
      game: an attack's answers.
      points: how many at most, 4 or more.

    Raises:
      InvalidInputError: too few points; see `check_game` besides.

    Examples:
      >>> positive = np.array([[True, False], [False, True]])
      >>> game = Game(np.array([[3.0, 1.0], [2.0, 1.0]]), positive, np.ones((2, 2), bool))
      >>> roc_curve(game).true_positive_rate
      array([0. , 0.5, 0.5, 1. ])
    """
    from sklearn import metrics

    scores, positive = _pairs(game)
    false, true, _ = metrics.roc_curve(positive, scores)
    if len(false) > check_count("points", points, least=4):
        # Both corners of the steps next below rates evenly spaced in the logarithm.
        wanted = np.append(np.geomspace(1, 1 / np.sum(~positive), int(points) // 2 - 1), 0)
        tops = np.searchsorted(false, wanted, side="right") - 1
        chosen = np.union1d(np.searchsorted(false, false[tops]), tops)
        false, true = false[chosen], true[chosen]
    return Curve(false, true)


# Intervals


def bootstrap(
    game: Game,
    measure: str,
    *,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns a percentile interval from resampling models and examples together.

    Each draw takes as many models and as many examples as there are, with replacement; a pair
    counts as often as its model, times its example (Owen, Annals of Applied Statistics 2007,
    doi:10.1214/07-AOAS122). Draws without any pair of one of the worlds are drawn again.

    The attack is not fitted again on each draw, so the interval does not show how its own
    parameters fluctuate; models are taken as independent of each other, and so are examples.
    Where each pair is independent of all others, intervals are too wide rather than too narrow.

    Args:
      game: an attack's answers.
      measure: "auc" or "balanced_accuracy".
      draws: how many.
      level: of confidence, between 0 and 1.
      seed: of the draws.

    Raises:
      InvalidInputError: an unknown measure, no draws, or no such level; see `auc` and
        `balanced_accuracy` besides.

    Examples:
      >>> positive = np.tile([True, False], (6, 4))
      >>> game = Game(positive * 1.0, positive, np.ones((6, 8), bool))
      >>> interval = bootstrap(game, "auc", draws=10)
      >>> interval.value, interval.low, interval.high
      (1.0, 1.0, 1.0)
    """
    measured, of_draws = MEASURES[check_choice("measure", measure, MEASURES)]
    level = check_share("level", level)
    game = check_game("attack", game)
    value, of_draw = measured(game), of_draws(game)

    # A draw counts models and examples; one that lacks a world is drawn again.
    random = np.random.default_rng(seed)
    drawn: list[float] = []
    wanted = check_count("draws", draws)
    while len(drawn) < wanted:
        models, examples = (
            random.multinomial(count, np.full(count, 1 / count)).astype(np.float64)
            for count in game.scores.shape
        )
        measured_again = of_draw(models, examples)
        if not np.isnan(measured_again):
            drawn.append(measured_again)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """Returns the area under the curve of pairs that count as often as their weights say.

    Args:
      scores: float64[k], finite.
      positive: bool[k].
      weights: float64[k], not negative.

    Returns:
      0…1, or NaN where all pairs of a world weigh nothing.
    """
    order = np.argsort(scores)
    scores, positive, weights = scores[order], positive[order], weights[order]
    ranks = _ranks(scores[positive], scores[~positive])
    return _area(weights[positive], weights[~positive], ranks)


def _ranks(yes: np.ndarray, no: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts the negative scores, ascending, that are below each positive one, and not above it."""
    return np.searchsorted(no, yes), np.searchsorted(no, yes, side="right")


def _area(yes: np.ndarray, no: np.ndarray, ranks: tuple[np.ndarray, np.ndarray]) -> float:
    """Returns the area from weights of positive and, ascending in score, negative pairs, or NaN."""
    # A pair of equal scores counts half: the mean of "below" and "not above".
    sums = np.append(0.0, np.cumsum(no))
    whole = 2 * yes.sum() * sums[-1]
    return float(yes @ (sums[ranks[0]] + sums[ranks[1]]) / whole) if whole else np.nan


OfDraws: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
"""A measure as a function of how often models, float64[M], and examples, float64[n], count; NaN
where one of the worlds has vanished."""


def _area_of_draws(game: Game) -> OfDraws:
    """Returns the area under the curve as a function of draws; sorts the scores only once."""
    # Pairs in the order of their scores, apart by world, which no draw changes.
    scores, positive = _pairs(game)
    order = np.argsort(scores)
    scores, positive = scores[order], positive[order]
    pairs = np.stack(np.nonzero(game.played))[:, order]
    yes, no = pairs[:, positive], pairs[:, ~positive]
    ranks = _ranks(scores[positive], scores[~positive])

    # A pair counts as often as its model, times its example.
    def area(models: np.ndarray, examples: np.ndarray) -> float:
        ours, theirs = (models[rows] * examples[columns] for rows, columns in (yes, no))
        return _area(ours, theirs, ranks)

    return area


def _accuracy_of_draws(game: Game) -> OfDraws:
    """Returns the balanced accuracy as a function of draws."""
    right, worlds = _right(game)
    # Sums of products are two matrix products, and no pair need be looked at one by one.
    sums = [(right * world, world.astype(np.float64)) for world in worlds]

    def accuracy(models: np.ndarray, examples: np.ndarray) -> float:
        hits, counts = (np.array([models @ sides[k] @ examples for sides in sums]) for k in (0, 1))
        return float(np.mean(hits / counts)) if counts.all() else np.nan

    return accuracy


MEASURES: dict[str, tuple[Callable[[Game], float], Callable[[Game], OfDraws]]] = {
    "auc": (auc, _area_of_draws),
    "balanced_accuracy": (balanced_accuracy, _accuracy_of_draws),
}
"""The measures of `bootstrap`: of a game, and of the same game as a function of draws."""


def _pairs(game: Game) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and worlds of the pairs that are played."""
    game = check_game("attack", game)
    return game.scores[game.played], game.positive[game.played]


def _right(game: Game) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns 1 where the attack is right, ½ on the threshold, else 0; and the pairs of a world."""
    scores, positive, played, threshold = check_game("attack", game)
    if threshold is None:
        raise InvalidInputError("attack: it has no threshold of its own, and so no accuracy")
    sides = np.sign(np.where(played, scores, 0.0) - threshold)
    right = (1 + np.where(positive, sides, -sides)) / 2
    return right, (played & positive, played & ~positive)
