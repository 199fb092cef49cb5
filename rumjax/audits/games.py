"""What is read from a `Game`, an attack's answers: areas, accuracies, rates, curves, intervals."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from rumjax.audits.population import Game
from rumjax.errors import InvalidInputError, check_choice, check_count

POINTS = 500
"""of a curve, at most"""


class Interval(NamedTuple):
    """A number and the ends of its interval."""

    value: float
    low: float
    high: float


class Rate(NamedTuple):
    """How often something happened."""

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
    """The game, once it is found to be in order.

    Raises:
      InvalidInputError: shapes differ, scores that are not finite, or pairs of one world only.
    """
    scores, positive, played, _ = game
    if scores.ndim != 2 or not scores.shape == positive.shape == played.shape:
        raise InvalidInputError(
            f"{name}: scores are {scores.shape}, positive {positive.shape} and played "
            f"{played.shape}; all must be [models, examples]"
        )
    if not np.isfinite(scores[played]).all():
        raise InvalidInputError(f"{name}: some scores of pairs that are played are not finite")
    if not (positive & played).any() or not (~positive & played).any():
        raise InvalidInputError(
            f"{name}: of {played.sum()} pairs that are played, {(positive & played).sum()} are "
            "positive; an attack needs some of both worlds"
        )
    return game


def auc(game: Game) -> float:
    """The area under the curve: how often a positive pair scores above a negative one; ties ½.

    Raises:
      InvalidInputError: see `check_game`.
    """
    scores, positive = _pairs(game)
    return float(metrics.roc_auc_score(positive, scores))


def balanced_accuracy(game: Game) -> float:
    """½(TPR + TNR) at the attack's own threshold, a score at which counts as half a "positive".

    Raises:
      InvalidInputError: the attack has no threshold; see `check_game` besides.
    """
    scores, positive = _pairs(game)
    said = _said(game, scores)
    return float((said[positive].mean() + 1 - said[~positive].mean()) / 2)


def per_example(game: Game) -> np.ndarray:
    """The balanced accuracy on each example, over models; NaN where it lacks one of the worlds.

    Returns:
      float64[n].

    Raises:
      InvalidInputError: the attack has no threshold; see `check_game` besides.
    """
    check_game("attack", game)
    said = _said(game, np.where(game.played, game.scores, 0.0))
    yes, no = game.played & game.positive, game.played & ~game.positive
    counts = yes.sum(axis=0), no.sum(axis=0)
    with np.errstate(invalid="ignore"):
        hits = np.sum(said * yes, axis=0) / counts[0]
        alarms = np.sum(said * no, axis=0) / counts[1]
    return (hits + 1 - alarms) / 2


def true_positive_rate(game: Game, false_positive_rate: float) -> Rate:
    """The true positive rate at the lowest threshold whose false positive rate is no higher.

    (Carlini et al., S&P 2022, section III-D.) Pairs of equal scores are never split. With n
    negative pairs, rates below 1/n cannot be told from 0. The interval takes the threshold as
    given and pairs as independent, which those of one model or one example are not; `bootstrap` is
    for that.

    Args:
      game: an attack's answers.
      false_positive_rate: in 0…1, .01 or .001 for instance.

    Raises:
      InvalidInputError: a rate outside 0…1; see `check_game` besides.
    """
    if not 0 <= false_positive_rate <= 1:
        raise InvalidInputError(
            f"false_positive_rate: wanted a number in 0…1, got {false_positive_rate}"
        )
    scores, positive = _pairs(game)
    false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    trials = int(positive.sum())
    successes = round(float(true[false <= false_positive_rate].max()) * trials)
    ends = stats.binomtest(successes, trials).proportion_ci(method="exact")
    return Rate(successes / trials, float(ends.low), float(ends.high), successes, trials)


def roc_curve(game: Game, *, points: int = POINTS) -> Curve:
    """The attack's curve, for logarithmic axes.

    Corners are kept as they are; where there are too many, those nearest to points that are evenly
    spaced in the logarithm of the false positive rate.

    Raises:
      InvalidInputError: see `check_game`.
    """
    scores, positive = _pairs(game)
    false, true, _ = metrics.roc_curve(positive, scores)
    if len(false) > check_count("points", points, least=2):
        negatives = np.sum(~positive)
        wanted = np.geomspace(1 / negatives, 1, points - 2)
        nearest = np.searchsorted(false, wanted, side="right") - 1
        chosen = np.unique([0, *np.clip(nearest, 0, len(false) - 1), len(false) - 1])
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
    """A percentile interval from resampling models and examples together.

    Each draw takes as many models and as many examples as there are, with replacement; a pair
    counts as often as its model, times its example. The attack itself is not fitted again.

    Args:
      game: an attack's answers.
      measure: "auc" or "balanced_accuracy".
      draws: how many.
      level: of confidence.
      seed: of the draws.

    Raises:
      InvalidInputError: an unknown measure; see `auc` and `balanced_accuracy` besides.
    """
    check_choice("measure", measure, MEASURES)
    value, weighted = MEASURES[measure]
    center = value(game)
    rows, columns = np.nonzero(game.played)
    scores, positive = _pairs(game)
    order = np.argsort(scores, kind="stable")
    rows, columns, scores, positive = (each[order] for each in (rows, columns, scores, positive))
    at = weighted(game, scores, positive)
    random = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < check_count("draws", draws):
        models, examples = (
            random.multinomial(count, np.full(count, 1 / count)) for count in game.scores.shape
        )
        weights = (models[rows] * examples[columns]).astype(np.float64)
        # A draw without one of the worlds says nothing.
        if weights[positive].any() and weights[~positive].any():
            found.append(at(weights))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(center, float(low), float(high))


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """The area under the curve of pairs that count as often as their weights say.

    Args:
      scores: float64[k], ASCENDING.
      positive: bool[k].
      weights: float64[k], not negative, some of each world above 0.
    """
    return _area(scores, positive)(weights)


def _area(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], float]:
    """What `weighted_auc` does, with the scores looked at only once."""
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])

    def area(weights: np.ndarray) -> float:
        yes = np.add.reduceat(np.where(positive, weights, 0.0), starts)
        no = np.add.reduceat(np.where(positive, 0.0, weights), starts)
        below = np.cumsum(no) - no
        return float(np.sum(yes * (below + no / 2)) / (yes.sum() * no.sum()))

    return area


def _weighted_auc(
    game: Game, scores: np.ndarray, positive: np.ndarray
) -> Callable[[np.ndarray], float]:
    del game
    return _area(scores, positive)


def _weighted_accuracy(
    game: Game, scores: np.ndarray, positive: np.ndarray
) -> Callable[[np.ndarray], float]:
    said = _said(game, scores)

    def accuracy(weights: np.ndarray) -> float:
        hits = np.average(said[positive], weights=weights[positive])
        return float((hits + 1 - np.average(said[~positive], weights=weights[~positive])) / 2)

    return accuracy


MEASURES = {
    "auc": (auc, _weighted_auc),
    "balanced_accuracy": (balanced_accuracy, _weighted_accuracy),
}
"""What `bootstrap` can do, and the same of weighted pairs in ascending order of their scores."""


def _pairs(game: Game) -> tuple[np.ndarray, np.ndarray]:
    """Scores and worlds of the pairs that are played."""
    check_game("attack", game)
    return game.scores[game.played], game.positive[game.played]


def _said(game: Game, scores: np.ndarray) -> np.ndarray:
    """1 where the attack says "positive", ½ where it cannot say, else 0."""
    if game.threshold is None:
        raise InvalidInputError("attack: it has no threshold of its own, and so no accuracy")
    return (np.sign(scores - game.threshold) + 1) / 2
