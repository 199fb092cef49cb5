"""Does a measure rise or fall from level to level, and do two scores rank alike? SciPy."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from rumjax.errors import InvalidInputError, check_choice
from rumjax.metrics.intervals import Interval

MOST_ARRANGEMENTS = 20_000
"""Up to so many, a permutation test looks at every one."""


class Trend(NamedTuple):
    """A trend over ordered groups."""

    effect: float
    """in −1…1: of pairs from different groups, the share that rises less the share that falls"""
    p_value: float
    """two-sided: the probability of so strong a trend, up or down, if there were none"""


def jonckheere(groups: Sequence[np.ndarray]) -> Trend:
    """The Jonckheere–Terpstra test of a trend over ordered groups, by permutation.

    (Jonckheere, Biometrika 1954.) All arrangements are looked at if there are at most
    `MOST_ARRANGEMENTS`, else the normal approximation with ties in its variance is taken.

    Args:
      groups: the values of each, float[n]; at least two groups, none of them empty.

    Raises:
      InvalidInputError: fewer groups, an empty one, or values that are not finite.
    """
    groups = [np.asarray(group, np.float64) for group in groups]
    values = np.concatenate(groups) if groups else np.empty(0)
    if len(groups) < 2 or min(map(len, groups)) == 0 or not np.isfinite(values).all():
        raise InvalidInputError("trend: wanted at least two groups of finite values, none empty")
    sizes = [len(group) for group in groups]
    sign = np.sign(values[None] - values[:, None])
    labels = np.repeat(np.arange(len(groups)), sizes)
    pairs = (len(values) ** 2 - sum(size**2 for size in sizes)) / 2
    found = _rises(sign, labels)
    if _arrangements(sizes) <= MOST_ARRANGEMENTS:
        each = np.array([_rises(sign, other) for other in _relabelled(sizes)])
        p_value = float(np.mean(np.abs(each) >= abs(found) - 1e-9))
    else:
        p_value = float(2 * stats.norm.sf(abs(found) / 2 / math.sqrt(_variance(sizes, values))))
    return Trend(found / pairs, min(p_value, 1.0))


def least_p_value(sizes: Sequence[int]) -> float:
    """The p-value of a perfect trend over groups of these sizes: there is none below it."""
    return min(2 / _arrangements(sizes), 1.0)


def _rises(sign: np.ndarray, labels: np.ndarray) -> float:
    """Pairs of different groups that rise, less those that fall."""
    return float(sign[labels[:, None] < labels[None]].sum())


def _arrangements(sizes: Sequence[int]) -> float:
    return math.factorial(sum(sizes)) / math.prod(math.factorial(size) for size in sizes)


def _relabelled(sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Every way to deal the values out to groups of these sizes, as labels."""

    def deal(free: tuple[int, ...], group: int) -> Iterator[dict[int, int]]:
        if group == len(sizes):
            yield {}
            return
        for chosen in itertools.combinations(free, sizes[group]):
            rest = tuple(each for each in free if each not in chosen)
            for others in deal(rest, group + 1):
                yield others | dict.fromkeys(chosen, group)

    for dealt in deal(tuple(range(sum(sizes))), 0):
        yield np.array([dealt[position] for position in range(sum(sizes))])


def _variance(sizes: Sequence[int], values: np.ndarray) -> float:
    """Of the statistic that counts rising pairs, where there is no trend, with ties."""
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
    """Spearman's ρ or Kendall's τ of two scores, with a percentile bootstrap over the examples.

    Args:
      first: float[N].
      second: float[N].
      kind: "spearman" or "kendall".
      replicates: bootstrap samples of N examples each.
      level: of confidence.
      seed: of the samples.

    Raises:
      InvalidInputError: two lengths, fewer than three examples, or values that are not finite.
    """
    correlate: Callable[..., object] = _KINDS[check_choice("rank correlation", kind, _KINDS)]
    both = np.array([first, second], np.float64) if len(first) == len(second) else np.empty((2, 0))
    if both.shape[1] < 3 or not np.isfinite(both).all():
        raise InvalidInputError(
            f"rank correlation: {len(first)} scores and {len(second)}; wanted as many of both, at "
            "least 3, all finite"
        )
    random = np.random.default_rng(seed)

    def correlation(chosen: np.ndarray) -> float:
        x, y = both[:, chosen]
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return 0.0
        return float(correlate(x, y).statistic)  # type: ignore[attr-defined]

    count = both.shape[1]
    samples = (random.integers(0, count, size=(count,)) for _ in range(replicates))
    found = [correlation(sample) for sample in samples]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    whole = np.arange(count)
    return Interval(correlation(whole), float(low), float(high))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """The share of the first set's indices that are in the second too, 0…1.

    Raises:
      InvalidInputError: an empty set.
    """
    if len(first) == 0 or len(second) == 0:
        raise InvalidInputError("overlap: both sets need an example")
    return len(np.intersect1d(first, second)) / len(first)
