"""Likelihood-ratio attacks on single examples: U-LiRA on unlearned models, LiRA on any.

All fit a Gaussian to the margins φ of an example in either of two worlds, and compare a model's own
margin with both.
"""

from typing import NamedTuple

import numpy as np

from rumjax.audits.population import (
    FORGOTTEN,
    IN,
    OUT,
    WORLDS,
    Game,
    Population,
    check_examples,
    check_population,
)
from rumjax.errors import InvalidInputError, as_array, check_choice, check_scalar

VARIANCES = ("each", "shared")
VARIANCE_FLOOR = 1e-4
"""Least variance of a Gaussian, in squared nats: closer agreement is taken for chance."""
LEAST = 2
"""Models that a Gaussian needs, apart from the one that is attacked."""


def unlearning_lira(
    unlearned: Population,
    *,
    positive: int = FORGOTTEN,
    negative: int = OUT,
    variance: str = "each",
    variance_floor: float = VARIANCE_FLOOR,
) -> Game:
    """Plays U-LiRA: tells examples that an unlearned model has forgotten from those it never saw.

    (Hayes et al., arXiv 2403.01218, section 4.) For each example a Gaussian of φ in two worlds:
    models that were trained with it and then unlearned it, and models that never saw it and
    unlearned something else. The model that is attacked is left out of the fit of its own world.
    The score is log N(φ; positive) − log N(φ; negative); above 0, the attack says "forgotten".

    The world that a model is left out of is fitted to one model fewer than the other, so that
    worlds that are alike come out a little below ½ where models are few: at an area under the curve
    of .37 for 3 models in each world, .44 for 4, .49 for 8 and .50 from 16 on; with a "shared"
    variance .46, .48 and .49.

    Args:
      unlearned: models after the same algorithm; only examples with 3 in each world are played.
      positive: the one world; with `IN` the attack is on examples that are retained.
      negative: the other.
      variance: "each" for a variance of every example and world, "shared" for one of every world,
        over all examples, which is better for few models (Carlini et al., 2022, section VI-C).
      variance_floor: in squared nats, above 0.

    Raises:
      InvalidInputError: margins that are not finite, an unknown world or twice the same, an unknown
        `variance`, a floor of 0, or no example of which both worlds have models enough.

    Examples:
      >>> from rumjax.audits import auc
      >>> worlds = np.tile([[OUT], [FORGOTTEN]], (8, 5)).astype(np.int8)
      >>> noise = np.random.default_rng(0).normal(size=worlds.shape)
      >>> game = unlearning_lira(Population(4.0 * (worlds == FORGOTTEN) + noise, worlds))
      >>> auc(game) > 0.9
      True
    """
    unlearned = check_population("unlearned", unlearned)
    return lira(
        unlearned,
        unlearned,
        left_out=np.arange(len(unlearned.margins)),
        positive=positive,
        negative=negative,
        shadow_positive=positive,
        shadow_negative=negative,
        variance=variance,
        variance_floor=variance_floor,
    )


def lira(
    targets: Population,
    shadows: Population,
    *,
    left_out: np.ndarray | None = None,
    positive: int = FORGOTTEN,
    negative: int = OUT,
    shadow_positive: int = IN,
    shadow_negative: int = OUT,
    variance: str = "each",
    variance_floor: float = VARIANCE_FLOOR,
) -> Game:
    """Plays LiRA online: tests whether a model was trained on an example.

    (Carlini et al., S&P 2022, algorithm 1.) The attacker compares its margin with those of models
    trained with and without the example, the shadows, and knows nothing of unlearning.

    Args:
      targets: the models that are attacked.
      shadows: the attacker's models, on the same examples.
      left_out: of each target, the row of `shadows` that it came from, which is left out of the
        fits; int[M], −1 for none.
      positive: the targets' world that the attack is to detect; with `FORGOTTEN` it tests whether
        unlearned examples still look trained on.
      negative: the targets' other world.
      shadow_positive: the shadows' world that stands for `positive`.
      shadow_negative: the shadows' world that stands for `negative`.
      variance: see `unlearning_lira`.
      variance_floor: see `unlearning_lira`.

    Raises:
      InvalidInputError: different examples; see `unlearning_lira` besides.

    Examples:
      >>> from rumjax.audits import auc
      >>> seen = np.tile([[OUT], [IN]], (8, 5)).astype(np.int8)
      >>> random = np.random.default_rng(0)
      >>> shadows = Population(4.0 * seen + random.normal(size=seen.shape), seen)
      >>> targets = Population(4.0 * seen + random.normal(size=seen.shape), seen)
      >>> auc(lira(targets, shadows, positive=IN)) > 0.9
      True
    """
    targets, shadows, left_out = _check(targets, shadows, left_out, variance, variance_floor)
    check_worlds(shadow_positive, shadow_negative)

    # A density of every pair in both worlds, by models other than the one attacked.
    of_positive, of_negative = (
        fit(targets, shadows, world, left_out, variance, variance_floor)
        for world in (shadow_positive, shadow_negative)
    )

    # The logarithm of the likelihood ratio.
    scores = of_positive.log_density(targets.margins) - of_negative.log_density(targets.margins)
    enough = (of_positive.fitted >= LEAST) & (of_negative.fitted >= LEAST)
    return pairs_of(targets, scores, enough, positive, negative, threshold=0.0)


def offline_lira(
    targets: Population,
    shadows: Population,
    *,
    left_out: np.ndarray | None = None,
    positive: int = FORGOTTEN,
    negative: int = OUT,
    variance: str = "each",
    variance_floor: float = VARIANCE_FLOOR,
) -> Game:
    """Plays LiRA offline: like `lira`, with models that never saw the example alone.

    (Carlini et al., S&P 2022, section VI-B.) The score is (φ − μ_out)/σ_out, and has no threshold
    of its own. Arguments and errors are those of `lira`.

    Examples:
      >>> from rumjax.audits import auc
      >>> seen = np.tile([[OUT], [IN]], (8, 5)).astype(np.int8)
      >>> random = np.random.default_rng(0)
      >>> shadows = Population(random.normal(size=seen.shape), np.zeros_like(seen))
      >>> targets = Population(4.0 * seen + random.normal(size=seen.shape), seen)
      >>> auc(offline_lira(targets, shadows, positive=IN)) > 0.9
      True
    """
    targets, shadows, left_out = _check(targets, shadows, left_out, variance, variance_floor)
    # The distance from the mean of models that never saw the example, in standard deviations.
    fitted = fit(targets, shadows, OUT, left_out, variance, variance_floor)
    scores = (targets.margins - fitted.mean) / np.sqrt(fitted.variance)
    return pairs_of(targets, scores, fitted.fitted >= LEAST, positive, negative, threshold=None)


class Gaussian(NamedTuple):
    """A Gaussian for every target model and example."""

    mean: np.ndarray
    """float64[M, n]"""
    variance: np.ndarray
    """float64[M, n]"""
    fitted: np.ndarray
    """number of models that it was fitted to, int[M, n]"""

    def log_density(self, margins: np.ndarray) -> np.ndarray:
        """Returns log N(φ; mean, variance) of the targets' margins, float64[M, n]."""
        from scipy import stats

        return np.asarray(stats.norm.logpdf(margins, self.mean, np.sqrt(self.variance)))


def fit(
    targets: Population,
    shadows: Population,
    world: int,
    left_out: np.ndarray | None,
    variance: str,
    floor: float,
) -> Gaussian:
    """Fits Gaussians to a world of the shadows, for every target without its own shadow.

    Models that are left out are subtracted from sums; the error of a variance is below .0001 as
    long as no |φ| is beyond 100 000.

    Args:
      targets: M models.
      shadows: M' models, on the same n examples.
      world: of the shadows.
      left_out: see `lira`.
      variance: see `unlearning_lira`.
      floor: of the variances, in squared nats.
    """
    # The shadows of the world.
    margins, member = shadows.margins.astype(np.float64), shadows.worlds == world
    count = member.sum(axis=0)

    # Sums of squares about a center near the mean lose no digits.
    center = (margins * member).sum(axis=0) / np.maximum(count, 1)
    apart = np.where(member, margins - center, 0.0)
    sums, squares = apart.sum(axis=0), (apart**2).sum(axis=0)

    # The share of every target's own shadow in the sums.
    own = np.zeros((len(targets.margins), margins.shape[1]))
    mine = np.zeros_like(own, bool)
    if left_out is not None:
        has_shadow = left_out >= 0
        rows = left_out[has_shadow]
        own[has_shadow], mine[has_shadow] = apart[rows], member[rows]

    # Means and variances of the models that are left.
    left = count - mine
    mean = (sums - own) / np.maximum(left, 1)
    spread = np.maximum(squares - own**2 - left * mean**2, 0.0)
    if variance == "shared":
        # One variance of all examples of which models enough are left.
        enough = left >= LEAST
        pooled = (spread * enough).sum(axis=1) / np.maximum(((left - 1) * enough).sum(axis=1), 1)
        variances = np.broadcast_to(pooled[:, None], own.shape)
    else:
        variances = spread / np.maximum(left - 1, 1)
    return Gaussian(center + mean, np.maximum(variances, floor), left)


def pairs_of(
    targets: Population,
    scores: np.ndarray,
    enough: np.ndarray,
    positive: int,
    negative: int,
    *,
    threshold: float | None,
    least: int = LEAST,
) -> Game:
    """Returns the game of telling two worlds of the targets apart.

    Args:
      targets: the models that are attacked.
      scores: float64[M, n].
      enough: True where the attack had models enough for a score, bool[M, n].
      positive: the one world.
      negative: the other.
      threshold: of the scores, if there is one.
      least: models of a world that are enough, for messages.

    Raises:
      InvalidInputError: an unknown world or twice the same, or no example has both worlds among
        pairs of which there is enough.
    """
    check_worlds(positive, negative)
    worlds = targets.worlds
    yes, no = worlds == positive, worlds == negative
    played = (yes | no) & enough
    # An example with one world alone says nothing of the other.
    played &= (played & yes).any(axis=0) & (played & no).any(axis=0)

    # Without any pair, say how many models each world had.
    if not played.any():
        there = ", ".join(
            f"{np.count_nonzero(side)} are {WORLDS[world]} to some model, to {side.max()} at most"
            for world, side in ((positive, yes.sum(axis=0)), (negative, no.sum(axis=0)))
        )
        raise InvalidInputError(
            f"attack: there is no example of which both worlds, {WORLDS[positive]} and "
            f"{WORLDS[negative]}, have models enough, at least {least} besides the one attacked; "
            f"of {worlds.shape[1]} examples, {there}"
        )
    return Game(scores, yes, played, threshold)


def check_worlds(positive: int, negative: int) -> None:
    """Checks that two numbers are two different worlds.

    Raises:
      InvalidInputError: an unknown world, or twice the same.
    """
    if positive == negative or not {positive, negative} <= {OUT, IN, FORGOTTEN}:
        raise InvalidInputError(
            f"attack: wanted two of the worlds OUT, IN and FORGOTTEN, 0, 1 and 2, got {positive} "
            f"and {negative}"
        )


def _check(
    targets: Population,
    shadows: Population,
    left_out: np.ndarray | None,
    variance: str,
    variance_floor: float,
) -> tuple[Population, Population, np.ndarray | None]:
    """Checks and returns what `lira` and `offline_lira` are given."""
    check_choice("variance", variance, VARIANCES)
    if check_scalar("variance_floor", variance_floor) < np.finfo(np.float32).tiny:
        raise InvalidInputError(f"variance_floor: wanted a number above 0, got {variance_floor}")
    targets = check_population("targets", targets)
    shadows = check_population("shadows", shadows)
    check_examples("shadows", shadows, "the targets'", targets)
    return targets, shadows, check_left_out(left_out, targets, shadows)


def check_left_out(
    left_out: np.ndarray | None, targets: Population, shadows: Population
) -> np.ndarray | None:
    """Returns a row of the shadows, or −1, for each target; None if there are none.

    Raises:
      InvalidInputError: another number of rows, no integers, or a row that the shadows lack.
    """
    if left_out is None:
        return None
    models, left_out = len(shadows.margins), as_array("left_out", left_out)
    if (
        left_out.shape != (len(targets.margins),)
        or not np.issubdtype(left_out.dtype, np.integer)
        or not np.isin(left_out, np.arange(-1, models)).all()
    ):
        raise InvalidInputError(
            f"left_out: wanted a row of the {models} shadows, or -1, for each of the "
            f"{len(targets.margins)} targets"
        )
    return left_out
