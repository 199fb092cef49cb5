"""Whether a model still looks trained on an example: p-values against models that never saw it.

The model, θu, is compared with *shadows*: models of the same recipe of which each was trained on a
random part of the data. φ is the margin of an example, its true label's logit less the logsumexp of
the others; a larger one is fitted better.
"""

from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, check_floats, check_masks
from rumjax.evidence.findings import check_chosen, check_scores, check_shadows


def example_p_values(
    margins: np.ndarray,
    shadow_margins: np.ndarray,
    shadow_in: np.ndarray,
    *,
    shift: float | None = None,
) -> np.ndarray:
    """Returns p_i = (1 + #{m: i∉m, φ_m(i) ≥ φ_u(i)}) / (n_out,i + 1) of each example.

    (The rank form of offline LiRA, Carlini et al., S&P 2022, section VI-B.) m runs through the
    n_out,i shadows that were not trained on i. A small p says that θu fits i better than models do
    that never saw it. p is exact if θu is exchangeable with these shadows, as a model of the same
    recipe on as many examples would be. θu has usually seen more examples than a shadow; `shift`
    or `standardized` allow for that, and `calibration` on examples that nobody saw tells whether
    they suffice.

    Args:
      margins: φ_u, float[n].
      shadow_margins: φ_m on the same examples, float[M, n].
      shadow_in: True where a shadow was trained on the example, bool[M, n].
      shift: how much higher θu's margins are for other reasons than having seen the example, in
        nats; it is taken off them. None for 0.

    Returns:
      float64[n], in 1/(n_out + 1)…1; NaN where every shadow was trained on the example.

    Raises:
      InvalidInputError: no examples, no shadows, shapes that differ, or numbers that are not
        finite.

    Examples:
      >>> shadow_margins = np.array([[0.0, 5.0], [1.0, 1.0], [2.0, 0.0]])
      >>> shadow_in = np.array([[False, True], [False, False], [False, False]])
      >>> example_p_values(np.array([1.5, 4.0]), shadow_margins, shadow_in).round(3)
      array([0.5  , 0.333])
    """
    margins, shadows, member = check_shadows(margins, shadow_margins, shadow_in)
    if shift is not None:
        margins = margins - float(check_floats("shift", [shift], "n")[0])
    as_high = np.sum(~member & (shadows >= margins), axis=0)
    out = np.sum(~member, axis=0)
    return np.where(out > 0, (1 + as_high) / (1 + out), np.nan)


def least_p_value(shadow_in: np.ndarray) -> np.ndarray:
    """Returns 1/(n_out + 1) of each example: the least p-value that its shadows allow.

    With shadows of random halves that is about 1/(M/2 + 1): .030, .015 and .005 for 64, 128 and
    400 of them.

    Args:
      shadow_in: see `example_p_values`, bool[M, n].

    Returns:
      float64[n]; NaN where every shadow was trained on the example.

    Raises:
      InvalidInputError: no booleans [M, n].

    Examples:
      >>> least_p_value(np.array([[True, False], [False, False], [False, False]])).round(3)
      array([0.333, 0.25 ])
    """
    out = np.sum(~check_masks("shadow_in", shadow_in, "M", "n"), axis=0)
    return np.where(out > 0, 1 / (1 + out), np.nan)


class Calibration(NamedTuple):
    """How far p-values of examples that nobody was trained on are from uniform ones.

    Examples:
      >>> Calibration(p_value=0.4, statistic=0.03, mean=0.51, count=1000).mean
      0.51
    """

    p_value: float
    """the probability of so great a distance, if the p-values were uniform"""
    statistic: float
    """the greatest distance between the two distribution functions, in 0…1"""
    mean: float
    """of the p-values, less half a step of their grid: ½ if they are uniform; below, θu is fitted
    better than the shadows, above, worse"""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    """number of examples"""


def calibration(
    p_values: np.ndarray, *, least: np.ndarray | float | None = None, seed: int = 0
) -> Calibration:
    """Tests whether p-values are uniform (Kolmogorov and Smirnov), allowing for their grid.

    A p-value by ranks is a multiple of its step, 1/(n_out + 1), and the test is of continuous
    values. Each p is therefore lowered by a random part of its step, which makes it uniform in 0…1
    precisely where p is uniform on its grid.

    The test takes examples as independent. All p-values of one model share that model, and of
    thousands of examples the least difference between it and the shadows is found: read
    `statistic` and `mean` as the size of it, and see `shadow_calibration` for a test of models.

    Args:
      p_values: of examples that neither θu nor a shadow was trained on, float[n]; NaN is left out.
      least: the step of each p, see `least_p_value`, float[n] or one number; None takes the
        smallest gap between 0 and the p-values, which is the step where all have the same.
      seed: of the random parts.

    Raises:
      InvalidInputError: no p-values, or some outside 0…1 or below their step.

    Examples:
      >>> p_values = np.repeat(np.arange(1, 11) / 10, 20)
      >>> check = calibration(p_values)
      >>> check.p_value > 0.5, round(check.mean, 3)
      (True, 0.5)
      >>> calibration(p_values**2, least=0.0).p_value < 0.001
      True
    """
    from scipy import stats

    # The p-values that are there.
    values = check_floats("p_values", p_values, "n", finite=False).astype(np.float64)
    present = ~np.isnan(values)
    kept = check_scores("p_values", values[present])
    if kept.min() <= 0 or kept.max() > 1:
        raise InvalidInputError("p_values: some are outside 0…1, or 0; those by ranks never are")

    # Their steps.
    if least is None:
        gaps = np.diff(np.unique(kept.round(12)), prepend=0.0)
        steps = np.full(len(kept), gaps.min())
    else:
        steps = np.broadcast_to(np.asarray(least, np.float64), values.shape)[present]
        if not np.all((steps >= 0) & (steps <= kept + 1e-9)):
            raise InvalidInputError("least: some are negative, NaN, or above their p-value")

    # Spread evenly over the step, they are continuous.
    spread = kept - np.random.default_rng(seed).random(len(kept)) * steps
    test = stats.kstest(np.clip(spread, 0.0, 1.0), "uniform")
    mean = float(np.mean(kept - steps / 2))
    return Calibration(float(test.pvalue), float(test.statistic), mean, len(kept))


def shadow_calibration(margins: np.ndarray, shadow_margins: np.ndarray) -> Calibration:
    """Tests whether a model is exchangeable with its shadows on examples that none of them saw.

    θu and the M shadows are treated alike: on every example each is ranked among all M + 1, which
    gives it a p-value, and each has the Kolmogorov–Smirnov distance of its p-values from the
    uniform distribution on their grid. θu's distance is then ranked among the shadows':
    p = (1 + #{m: D_m ≥ D_u}) / (M + 1). That is exact if θu is exchangeable with the shadows,
    however alike a model's margins are (of few examples, equal distances make p larger), and never
    below 1/(M + 1).

    Args:
      margins: φ_u of examples that no model saw, float[n].
      shadow_margins: φ_m on the same examples, float[M, n].

    Raises:
      InvalidInputError: see `example_p_values`.

    Examples:
      >>> random = np.random.default_rng(0)
      >>> shadows, model = random.normal(size=(19, 500)), random.normal(size=500)
      >>> shadow_calibration(model, shadows).p_value > 0.05
      True
      >>> shadow_calibration(model + 1, shadows).p_value
      0.05
    """
    from scipy import stats

    # Ranks of all models on every example, the best first; equal ones have the last of their ranks.
    margins, shadows, _ = check_shadows(margins, shadow_margins)
    models, count = len(shadows) + 1, len(margins)
    ranks = stats.rankdata(-np.vstack([margins, shadows]), method="max", axis=0).astype(int)

    # The distance of every model's distribution function from the uniform one.
    cells = ranks - 1 + models * np.arange(models)[:, None]
    counted = np.bincount(cells.ravel(), minlength=models**2).reshape(models, models)
    uniform = np.arange(1, models + 1) / models
    distances = np.abs(counted.cumsum(axis=1) / count - uniform).max(axis=1)

    # The model's among the others', where roundings make no difference.
    as_far = np.sum(distances[1:] >= distances[0] - 1e-12)
    mean = float(ranks[0].mean() - 0.5) / models
    return Calibration(float((1 + as_far) / models), float(distances[0]), mean, count)


QUARTILES = (0.25, 0.75)


def standardized(
    margins: np.ndarray, unseen: np.ndarray, shadow_margins: np.ndarray, *, robust: bool = True
) -> np.ndarray:
    """Shifts and scales a model's margins so that on unseen examples they are like the shadows'.

    A shadow was trained on a part of the data, θu on nearly all of it, and so fits even new
    examples better. The mended margins are c + (φ_u − c_u)·s/s_u: c_u and s_u are the center and
    the spread of θu's margins over the unseen examples, c and s the means over shadows of theirs.
    Mend each shadow so too where models and not examples are compared, as in `shadow_group_test`.
    What was used to mend cannot show that it is mended: check `calibration` on other unseen
    examples, on V where T was used here.

    Args:
      margins: φ_u of all examples, float[n].
      unseen: which of them neither θu nor any shadow was trained on, bool[n] or indices.
      shadow_margins: φ_m of the same n examples, float[M, n].
      robust: takes median and interquartile range for center and spread, else mean and standard
        deviation.

    Returns:
      float64[n].

    Raises:
      InvalidInputError: see `example_p_values`; no unseen examples, or margins on them that are
        all alike.

    Examples:
      >>> margins = np.array([1.0, 3.0, 5.0, 7.0])
      >>> shadow_margins = np.array([[0.0, 1.0, 2.0, 9.0], [1.0, 2.0, 3.0, -9.0]])
      >>> standardized(margins, np.array([0, 1, 2]), shadow_margins)
      array([0.5, 1.5, 2.5, 3.5])
    """
    margins, shadows, _ = check_shadows(margins, shadow_margins)
    chosen = check_chosen("unseen", unseen, len(margins))

    # Center and spread on the unseen examples, of θu and of the mean shadow.
    own = _center_and_spread(margins[None, chosen], robust)
    others = _center_and_spread(shadows[:, chosen], robust)
    center, spread = own[0][0], own[1][0]
    if spread == 0:
        raise InvalidInputError(
            f"unseen: the model's margins on {chosen.sum()} examples have no spread, so that "
            "nothing can be scaled by it; give more examples, or leave the margins as they are"
        )
    return others[0].mean() + (margins - center) * (others[1].mean() / spread)


def _center_and_spread(margins: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns a center and a spread of every model's margins, float[M, n]."""
    if robust:
        low, high = np.quantile(margins, QUARTILES, axis=1)
        return np.median(margins, axis=1), high - low
    return margins.mean(axis=1), margins.std(axis=1)
