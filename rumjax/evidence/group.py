"""Whether S as a whole still looks trained on: one statistic of θu among those of other models."""

from typing import Literal, NamedTuple

import numpy as np

from rumjax.errors import check_choice
from rumjax.evidence.findings import NAN, check_scores, check_shadows

ALTERNATIVES = ("two-sided", "greater", "less")
VARIANCE_FLOOR = 1e-4
"""Least variance of an example's margins over shadows, in squared nats, as in `rumjax.audits`."""
LEAST = 2
"""Shadows that must lack an example, for it to enter."""
PRIOR = 4
"""Degrees of freedom that the variance of all examples has in the variance of each."""


def group_statistic_p_value(
    unlearned: float,
    retrained: np.ndarray,
    *,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> float:
    """Returns the p-value of a model's statistic among those of models retrained without S.

    One-sided it is (1 + #{T_o ≥ T_u}) / (M_o + 1) for "greater"; two-sided it is twice the smaller
    of both sides, at most 1. The statistic may be any number of S, the mean margin for instance;
    the p-value is exact if the unlearned model is exchangeable with the M_o retrained ones. A
    p-value of .05 needs 19 of them one-sided, 39 two-sided.

    Args:
      unlearned: T_u.
      retrained: T_o, float[M_o].
      alternative: "greater" where only T_u above the others' counts, "less" where only below.

    Raises:
      InvalidInputError: no retrained models, numbers that are not finite, or an unknown
        alternative.

    Examples:
      >>> group_statistic_p_value(3.0, np.linspace(-1.0, 1.0, 19), alternative="greater")
      0.05
      >>> group_statistic_p_value(0.0, np.array([-1.0, 1.0]))
      1.0
    """
    check_choice("alternative", alternative, ALTERNATIVES)
    value = check_scores("unlearned", np.atleast_1d(unlearned), size=1)[0]
    others = check_scores("retrained", retrained)
    sides = {
        "greater": (1 + np.sum(others >= value)) / (1 + len(others)),
        "less": (1 + np.sum(others <= value)) / (1 + len(others)),
    }
    return float(sides.get(alternative, min(2 * min(sides.values()), 1.0)))


class GroupTest(NamedTuple):
    """A model's mean standardized margin on S among those of models that saw only a part of S.

    Examples:
      >>> GroupTest(value=1.8, null=0.0, spread=0.4, p_value=0.015, count=200, models=64).models
      64
    """

    value: float
    """T_u, in standard deviations of an example's margin over models that never saw it"""
    null: float
    """the mean of the shadows' statistics, near 0"""
    spread: float
    """their standard deviation, as it would be if each had all of S to be measured on"""
    p_value: float
    """one-sided: the probability of so great a T_u if θu were one of the shadows"""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    """examples of S that entered"""
    models: int
    """shadows that entered"""


def shadow_group_test(
    margins: np.ndarray, shadow_margins: np.ndarray, shadow_in: np.ndarray
) -> GroupTest:
    """Tests without oracles whether S as a whole is fitted better than by models that lack it.

    Each shadow m is a witness for the part of S that it has not seen. θu is treated as one more of
    them, which has seen none. The statistic of each, T, is the mean over its unseen part of
    z(i) = (φ(i) − μ(i))/(σ(i)√(1 + 1/k)), where μ and σ are of the k others that have not seen i.
    The variance of all examples stands for PRIOR degrees of freedom in that of each, which few
    shadows alone would give poorly (Smyth, 2004, doi:10.2202/1544-6115.1027).

    A shadow's part is smaller than S. The variance of a T has two parts, τ² of the model as a whole
    and v/k of its k examples; both are estimated, and each T_m is drawn towards their mean by
    √((τ² + v/n)/(τ² + v/k)), so that it spreads as a statistic of all n examples does. Then
    p = (1 + #{T_m ≥ T_u}) / (M + 1).

    The p-value holds if θu is exchangeable with the shadows but for what it saw of S. It assumes
    that:
    - the number of other examples makes no difference (mend the margins by `standardized`, and
      those of every shadow likewise: what is taken off θu's must be taken off theirs);
    - a model's deviations on examples of S are independent, given its deviation as a whole;
    - what helps with one example of S helps little with another. A shadow was trained on about half
      of S, so where S is a group that hangs together (a person, a class), shadows fit the unseen
      half better than a model that lacks all of S, and the test then misses what is left of S in
      θu. Only retrained models replace that: `group_statistic_p_value`.

    The p-value is uniform over choices of S and models. Models retrained without one S share
    its luck, and their p-values lie together.

    Args:
      margins: φ_u on S, float[n].
      shadow_margins: φ_m on S, float[M, n].
      shadow_in: True where a shadow was trained on the example, bool[M, n].

    Returns:
      The test; numbers are NaN where fewer than 2 shadows or no example is left. Examples that
      fewer than 2 shadows lack do not enter, nor do shadows that saw all that remain.

    Raises:
      InvalidInputError: see `example_p_values`.

    Examples:
      >>> random = np.random.default_rng(0)
      >>> shadow_in = random.random((39, 50)) < 0.5
      >>> shadows = random.normal(size=(39, 50)) + 3.0 * shadow_in
      >>> shadow_group_test(random.normal(size=50) + 3.0, shadows, shadow_in).p_value
      0.025
    """
    # θu is the first of the models; examples that are not compared with two shadows are left out.
    margins, shadows, member = check_shadows(margins, shadow_margins, shadow_in)
    enough = np.sum(~member, axis=0) >= LEAST
    count = int(enough.sum())
    models = np.vstack([margins, shadows])[:, enough]
    unseen = np.vstack([np.ones_like(margins, bool), ~member])[:, enough]
    entered = unseen.any(axis=1)
    models, unseen = models[entered], unseen[entered]
    if len(models) <= LEAST:
        return GroupTest(NAN, NAN, NAN, NAN, 0, 0)

    # The statistic of each.
    deviations = _deviations(models, unseen)
    sizes = unseen.sum(axis=1)
    statistics = np.sum(deviations, axis=1, where=unseen) / sizes
    value, statistics, sizes = float(statistics[0]), statistics[1:], sizes[1:]

    # The shadows' variances, of models as a whole and of their examples.
    null = float(statistics.mean())
    apart = (deviations[1:] - statistics[:, None]) ** 2
    of_examples = np.sum(apart, where=unseen[1:]) / max(int(np.sum(sizes - 1)), 1)
    of_models = max(float(statistics.var(ddof=1)) - float(np.mean(of_examples / sizes)), 0.0)

    # The shadows' statistics, as they would spread if they had all of S.
    wanted, present = of_models + of_examples / count, of_models + of_examples / sizes
    drawn = null + (statistics - null) * np.sqrt(wanted / np.maximum(present, 1e-12))
    p_value = float((1 + np.sum(drawn >= value)) / (1 + len(drawn)))
    return GroupTest(value, null, float(np.sqrt(wanted)), p_value, count, len(drawn))


def shadow_group_p_value(
    margins: np.ndarray, shadow_margins: np.ndarray, shadow_in: np.ndarray
) -> float:
    """Returns the p-value of `shadow_group_test`, whose arguments and errors these are.

    Examples:
      >>> random = np.random.default_rng(0)
      >>> shadow_in = random.random((39, 50)) < 0.5
      >>> shadows = random.normal(size=(39, 50)) + 3.0 * shadow_in
      >>> shadow_group_p_value(-1.0 + random.normal(size=50), shadows, shadow_in) > 0.05
      True
    """
    return shadow_group_test(margins, shadow_margins, shadow_in).p_value


def _deviations(margins: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Returns how far each model's margins are from those of other models without the example.

    Args:
      margins: φ, float64[M, n].
      unseen: True where a model lacks the example, bool[M, n]; at least 3 in every column.

    Returns:
      z, float64[M, n], which means nothing where not `unseen`.
    """
    # Sums about a center near the mean lose no digits.
    count = unseen.sum(axis=0)
    center = np.sum(margins, axis=0, where=unseen) / count
    apart = np.where(unseen, margins - center, 0.0)
    squares = np.sum(apart**2, axis=0)

    # The others' sums are those of all less a model's own.
    left = count - 1
    mean = -apart / left
    spread = np.maximum(squares - apart**2 - left * mean**2, 0.0)

    # Variances of few models are mended by that of all examples.
    pooled = squares.sum() / left.sum()
    variances = (spread + PRIOR * pooled) / (left - 1 + PRIOR)
    return (apart - mean) / np.sqrt(np.maximum(variances, VARIANCE_FLOOR) * (1 + 1 / left))
