"""Trends of a measure over ordered levels, and agreement of two rankings. NumPy and SciPy."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    check_choice,
    check_count,
    check_floats,
    check_indices,
    check_share,
)
from rumjax.metrics.intervals import Interval

MOST_ARRANGEMENTS = 20_000
"""Up to so many arrangements, a permutation test looks at every one."""


class Trend(NamedTuple):
    """A trend over ordered groups.

    Examples:
      >>> Trend(effect=1.0, p_value=0.1).effect
      1.0
    """

    effect: float
    """in −1…1: of pairs from different groups, the share that rises less the share that falls"""
    p_value: float
    """two-sided: the probability of so strong a trend, up or down, if there were none"""


def jonckheere(groups: Sequence[np.ndarray]) -> Trend:
    """Runs the Jonckheere–Terpstra test of a trend over ordered groups, by permutation.

    (Jonckheere, Biometrika 1954.) All arrangements are looked at if there are at most
    `MOST_ARRANGEMENTS`, else the normal approximation with ties in its variance is taken.

    Args:
      groups: the values of each, float[n]; at least two groups, none of them empty.

    Raises:
      InvalidInputError: fewer groups, an empty one, or values that are not finite.

    Examples:
      >>> trend = jonckheere([np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])])
      >>> trend.effect, round(trend.p_value, 4)
      (1.0, 0.0222)
    """
    from scipy import stats

    groups = [check_floats("trend", group, "n").astype(np.float64) for group in groups]
    values = np.concatenate(groups) if groups else np.empty(0)
    if len(groups) < 2 or min(map(len, groups)) == 0:
        raise InvalidInputError("trend: wanted at least two groups of finite values, none empty")

    # The statistic: pairs of different groups that rise, less those that fall.
    sizes = [len(group) for group in groups]
    sign = np.sign(values[None] - values[:, None])
    labels = np.repeat(np.arange(len(groups)), sizes)
    pairs = (len(values) ** 2 - sum(size**2 for size in sizes)) / 2
    rises = _rises(sign, labels)

    # How often chance alone is as far from 0, exactly if that is little work.
    if _arrangements(sizes) <= MOST_ARRANGEMENTS:
        by_chance = np.array([_rises(sign, other) for other in _relabelled(sizes)])
        p_value = float(np.mean(np.abs(by_chance) >= abs(rises) - 1e-9))
    else:
        p_value = float(2 * stats.norm.sf(abs(rises) / 2 / math.sqrt(_variance(sizes, values))))
    return Trend(rises / pairs, min(p_value, 1.0))


def least_p_value(sizes: Sequence[int]) -> float:
    """Returns the p-value of a perfect trend over groups of these sizes, the least there is.

    Examples:
      >>> round(least_p_value([2, 2, 2]), 4)
      0.0222
    """
    return min(2 / _arrangements(sizes), 1.0)


def _rises(sign: np.ndarray, labels: np.ndarray) -> float:
    """Counts pairs of different groups that rise, less those that fall."""
    return float(sign[labels[:, None] < labels[None]].sum())


def _arrangements(sizes: Sequence[int]) -> float:
    """Counts the ways to deal values out to groups of these sizes."""
    return math.factorial(sum(sizes)) / math.prod(math.factorial(size) for size in sizes)


def _relabelled(sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Yields every way to deal the values out to groups of these sizes, as labels."""

    def deal(free: tuple[int, ...], group: int) -> Iterator[dict[int, int]]:
        if group == len(sizes):
            yield {}
            return
        for chosen in itertools.combinations(free, sizes[group]):
            rest = tuple(position for position in free if position not in chosen)
            for others in deal(rest, group + 1):
                yield others | dict.fromkeys(chosen, group)

    for dealt in deal(tuple(range(sum(sizes))), 0):
        yield np.array([dealt[position] for position in range(sum(sizes))])


def _variance(sizes: Sequence[int], values: np.ndarray) -> float:
    """Returns the variance of the number of rising pairs where there is no trend, with ties."""
    # Polynomials of the numbers of examples, in all, of a group and of a tie.
    ties = np.unique(values, return_counts=True)[1].astype(float)
    n, group = float(len(values)), np.asarray(sizes, float)

    def first(t: np.ndarray | float) -> np.ndarray | float:
        return t * (t - 1) * (2 * t + 5)

    def second(t: np.ndarray | float) -> np.ndarray | float:
        return t * (t - 1) * (t - 2)

    def third(t: np.ndarray | float) -> np.ndarray | float:
        return t * (t - 1)

    # Three terms; without ties, the last two are 0.
    total = (first(n) - np.sum(first(group)) - np.sum(first(ties))) / 72
    total += np.sum(second(group)) * np.sum(second(ties)) / (36 * n * (n - 1) * (n - 2))
    total += np.sum(third(group)) * np.sum(third(ties)) / (8 * n * (n - 1))
    return float(total)


_KINDS = {"spearman": "spearmanr", "kendall": "kendalltau"}
"""SciPy's functions by the names of rank correlations."""


def rank_correlation(
    first: np.ndarray,
    second: np.ndarray,
    *,
    kind: str = "spearman",
    replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns Spearman's ρ or Kendall's τ of two scores, with a percentile bootstrap interval.

    Args:
      first: float[N].
      second: float[N].
      kind: "spearman" or "kendall".
      replicates: bootstrap samples of N examples each, drawn with replacement.
      level: of confidence.
      seed: of the samples.

    Raises:
      InvalidInputError: two lengths, fewer than three examples, or values that are not finite.

    Examples:
      >>> correlation = rank_correlation(np.arange(20), np.arange(20) ** 2)
      >>> round(correlation.value, 3), round(correlation.low, 3)
      (1.0, 1.0)
    """
    from scipy import stats

    correlate: Callable[..., Any] = getattr(
        stats, _KINDS[check_choice("rank correlation", kind, _KINDS)]
    )
    first, second = (check_floats("rank correlation", scores, "N") for scores in (first, second))
    replicates = check_count("replicates", replicates)
    level = check_share("level", level)
    if len(first) != len(second) or len(first) < 3:
        raise InvalidInputError(
            f"rank correlation: {len(first)} scores and {len(second)}; wanted as many of both, at "
            "least 3"
        )
    both = np.array([first, second], np.float64)

    # A sample of one value alone has no ranks: it counts as no correlation.
    random = np.random.default_rng(seed)

    def correlation(chosen: np.ndarray) -> float:
        x, y = both[:, chosen]
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return 0.0
        return float(correlate(x, y).statistic)

    count = both.shape[1]
    samples = (random.integers(0, count, size=(count,)) for _ in range(replicates))
    drawn = [correlation(sample) for sample in samples]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    whole = np.arange(count)
    return Interval(correlation(whole), float(low), float(high))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the share of the first set's indices that are in the second too, 0…1.

    Raises:
      InvalidInputError: an empty set.

    Examples:
      >>> overlap(np.array([1, 2, 3, 4]), np.array([3, 4, 5]))
      0.5
    """
    first, second = (check_indices("overlap", chosen, None) for chosen in (first, second))
    return len(np.intersect1d(first, second)) / len(first)
