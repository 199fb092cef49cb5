"""Tests whether a measure rises or falls from level to level, and how alike two scores rank."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from rumjax.errors import InvalidInputError, check_choice
from rumjax.metrics.intervals import Interval

MOST_ARRANGEMENTS = 20_000
"""of values over groups that a permutation test looks at, every one"""


class Trend(NamedTuple):
    """A trend over ordered groups."""

    effect: float
    """in −1…1: of pairs from different groups, the share that rises less the share that falls"""
    p_value: float
    """two-sided: the probability of so strong a trend, up or down, if there were none"""


def jonckheere(groups: Sequence[np.ndarray]) -> Trend:
    """Tests for a trend over ordered groups, as Jonckheere and Terpstra do, by permutation.

    (Jonckheere, Biometrika 1954.) All arrangements are looked at if there are at most
    `MOST_ARRANGEMENTS`, else the normal approximation with ties in its variance is taken.

    Args:
      groups: the values of each, float[n]; at least two groups, none of them empty.

    Raises:
      InvalidInputError: fewer groups, an empty one, or values that are not finite.

    Examples:
      >>> jonckheere([np.array([0.1, 0.2]), np.array([0.3, 0.4])])
      Trend(effect=1.0, p_value=0.3333333333333333)
    """
    groups = [np.asarray(group, np.float64) for group in groups]
    values = np.concatenate(groups) if groups else np.empty(0)
    if len(groups) < 2 or min(map(len, groups)) == 0 or not np.isfinite(values).all():
        raise InvalidInputError("trend: wanted at least two groups of finite values, none empty")

    # The statistic: pairs of different groups that rise, less those that fall.
    sizes = [len(group) for group in groups]
    sign = np.sign(values[None] - values[:, None])
    rises = _rises(sign, np.repeat(np.arange(len(groups)), sizes))

    # Its p-value: how often values dealt out at random give as much.
    if _arrangements(sizes) <= MOST_ARRANGEMENTS:
        by_chance = np.array([_rises(sign, labels) for labels in _relabelled(sizes)])
        p_value = float(np.mean(np.abs(by_chance) >= abs(rises) - 1e-9))
    else:
        deviation = math.sqrt(_variance(sizes, values))
        p_value = float(2 * stats.norm.sf(abs(rises) / 2 / deviation))
    pairs = (len(values) ** 2 - sum(size**2 for size in sizes)) / 2
    return Trend(rises / pairs, min(p_value, 1.0))


def least_p_value(sizes: Sequence[int]) -> float:
    """Returns the p-value of a perfect trend over groups of these sizes: none can be below it."""
    return min(2 / _arrangements(sizes), 1.0)


def _rises(sign: np.ndarray, labels: np.ndarray) -> float:
    """Counts the pairs of different groups that rise, less those that fall."""
    return float(sign[labels[:, None] < labels[None]].sum())


def _arrangements(sizes: Sequence[int]) -> float:
    """Counts the ways to deal values out to groups of these sizes."""
    return math.factorial(sum(sizes)) / math.prod(math.factorial(size) for size in sizes)


def _relabelled(sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Yields every way to deal values out to groups of these sizes, as labels."""

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
    """Computes the variance of the number of rising pairs, with ties, where there is no trend."""
    ties = np.unique(values, return_counts=True)[1].astype(float)
    n, group = float(len(values)), np.asarray(sizes, float)

    def first(t: np.ndarray | float) -> np.ndarray | float:
        return t * (t - 1) * (2 * t + 5)

    def second(t: np.ndarray | float) -> np.ndarray | float:
        return t * (t - 1) * (t - 2)

    def third(t: np.ndarray | float) -> np.ndarray | float:
        return t * (t - 1)

    total = (first(n) - np.sum(first(group)) - np.sum(first(ties))) / 72
    total += np.sum(second(group)) * np.sum(second(ties)) / (36 * n * (n - 1) * (n - 2))
    total += np.sum(third(group)) * np.sum(third(ties)) / (8 * n * (n - 1))
    return float(total)


_KINDS: dict[str, Callable[..., object]] = {
    "spearman": stats.spearmanr,
    "kendall": stats.kendalltau,
}


def rank_correlation(
    first: np.ndarray,
    second: np.ndarray,
    *,
    kind: str = "spearman",
    replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Computes Spearman's ρ or Kendall's τ of two scores, with a bootstrap over the examples.

    Args:
      first: float[N].
      second: float[N].
      kind: "spearman" or "kendall".
      replicates: bootstrap samples of N examples each.
      level: of confidence.
      seed: of the samples.

    Returns:
      The correlation and its percentile interval; 0 where a score is the same everywhere.

    Raises:
      InvalidInputError: two lengths, fewer than three examples, or values that are not finite.
    """
    correlate: Callable[..., object] = _KINDS[check_choice("rank correlation", kind, _KINDS)]
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(x) != len(y) or len(x) < 3 or not np.isfinite([x, y]).all():
        raise InvalidInputError(
            f"rank correlation: {len(x)} scores and {len(y)}; wanted as many of both, at "
            "least 3, all finite"
        )

    def correlation(chosen: np.ndarray) -> float:
        if np.ptp(x[chosen]) == 0 or np.ptp(y[chosen]) == 0:
            return 0.0
        return float(correlate(x[chosen], y[chosen]).statistic)  # type: ignore[attr-defined]

    # Each sample takes as many examples as there are, with replacement.
    random = np.random.default_rng(seed)
    samples = (random.integers(0, len(x), size=(len(x),)) for _ in range(replicates))
    correlations = [correlation(sample) for sample in samples]
    low, high = np.quantile(correlations, [(1 - level) / 2, (1 + level) / 2])
    return Interval(correlation(np.arange(len(x))), float(low), float(high))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Computes the share of the first set's indices that are in the second too, 0…1.

    Raises:
      InvalidInputError: an empty set.
    """
    if len(first) == 0 or len(second) == 0:
        raise InvalidInputError("overlap: both sets need an example")
    return len(np.intersect1d(first, second)) / len(first)
