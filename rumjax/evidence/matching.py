"""Strata of examples of like class and difficulty, so that S can be compared with its like in V."""

import numpy as np

from rumjax.errors import check_count, check_labels
from rumjax.evidence.findings import check_scores


def strata(
    labels_s: np.ndarray,
    difficulty_s: np.ndarray,
    labels_v: np.ndarray,
    difficulty_v: np.ndarray,
    *,
    bins: int = 5,
    least: int = 5,
) -> tuple[np.ndarray, np.ndarray]:
    """Groups S and V by class and by difficulty, for `rank_test`.

    Within a class the edges are quantiles of difficulty over S and V together, where S weighs as
    much as V, however many more V has. A bin with S and fewer than `least` of V is merged with the
    neighbour that has fewer of V (the lower one if they are alike), the bin poorest in V first,
    until there is none or one bin is left. A class whose last bin has too few of V joins a pool;
    the pool takes in the class poorest in V until it has `least` of V, and is then cut into bins
    as a class is. Nothing is random, and examples of equal difficulty are never parted.

    The difficulty must not come from the model under test, which would see its own residue as
    ease: take shadows that never saw the example, a memorization score, or another model's margin.

    Args:
      labels_s: classes of S, int[n_S].
      difficulty_s: float[n_S].
      labels_v: classes of V, int[n_V].
      difficulty_v: float[n_V], by the same measure.
      bins: per class, at most.
      least: examples of V that a stratum with S needs, where V has as many.

    Returns:
      The strata of S, int64[n_S], and of V, int64[n_V], numbered from 0.

    Raises:
      InvalidInputError: no examples on a side, sizes that differ, difficulties that are not finite,
        or labels that are no classes.

    Examples:
      >>> of_s, of_v = strata(
      ...     np.array([0, 0, 1]), np.array([0.9, 0.1, 0.5]), np.array([0, 0, 0, 0, 2]),
      ...     np.array([0.8, 0.7, 0.2, 0.1, 0.4]), bins=2, least=1,
      ... )
      >>> of_s.tolist(), of_v.tolist()
      ([1, 0, 2], [1, 1, 0, 0, 2])
    """
    bins, least = check_count("bins", bins), check_count("least", least)
    hard_s = check_scores("difficulty_s", difficulty_s)
    hard_v = check_scores("difficulty_v", difficulty_v)
    classes_s = check_labels("labels_s", labels_s, size=len(hard_s))
    classes_v = check_labels("labels_v", labels_v, size=len(hard_v))

    # Classes that lack V are pooled, with the poorest of the others until there is enough.
    present = np.unique(classes_s)
    supply = {int(label): int(np.sum(classes_v == label)) for label in np.unique(classes_v)}
    richest = sorted((supply.get(int(label), 0), int(label)) for label in present)
    pool = [label for count, label in richest if count < least]
    rest = sorted((count, label) for label, count in supply.items() if label not in pool)
    while pool and rest and sum(supply.get(label, 0) for label in pool) < least:
        pool.append(rest.pop(0)[1])

    # Every class, or the pool, is cut into bins of its own; V of other classes is in none.
    groups = [[int(label)] for label in np.unique(np.append(classes_s, classes_v))]
    groups = [group for group in groups if group[0] not in pool] + [pool] * bool(pool)
    of_s, of_v = np.zeros(len(hard_s), np.int64), np.zeros(len(hard_v), np.int64)
    start = 0
    for group in groups:
        ours, theirs = np.isin(classes_s, group), np.isin(classes_v, group)
        edges = _edges(hard_s[ours], hard_v[theirs], bins)
        binned_s = np.searchsorted(edges, hard_s[ours], side="right")
        binned_v = np.searchsorted(edges, hard_v[theirs], side="right")
        merged = _merged(binned_s, binned_v, len(edges) + 1, least)
        of_s[ours], of_v[theirs] = start + merged[binned_s], start + merged[binned_v]
        start += int(merged.max()) + 1
    return of_s, of_v


def residuals(
    margins_s: np.ndarray,
    difficulty_s: np.ndarray,
    margins_v: np.ndarray,
    difficulty_v: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the margins of S and V less what their difficulty leads one to expect.

    The expectation is a straight line, fitted to V by least squares. Strata are coarse where V has
    few examples as hard as those of S; within them, and beyond the hardest of V, the line tells
    what a model that never saw S would make of it.

    Args:
      margins_s: of S, float[n_S].
      difficulty_s: see `strata`, float[n_S].
      margins_v: of V, float[n_V].
      difficulty_v: by the same measure, float[n_V].

    Returns:
      The residuals of S, float64[n_S], and of V, float64[n_V].

    Raises:
      InvalidInputError: no examples on a side, sizes that differ, or numbers that are not finite.

    Examples:
      >>> hard = np.array([0.0, 1.0, 2.0])
      >>> of_s, of_v = residuals(np.array([1.0]), np.array([3.0]), 4.0 - 2.0 * hard, hard)
      >>> of_s.round(6).tolist(), of_v.round(6).tolist()
      ([3.0], [0.0, 0.0, 0.0])
    """
    ours, theirs = check_scores("margins_s", margins_s), check_scores("margins_v", margins_v)
    hard_s = check_scores("difficulty_s", difficulty_s, size=len(ours))
    hard_v = check_scores("difficulty_v", difficulty_v, size=len(theirs))

    # The line through the means; level where all of V is as hard.
    center, level = hard_v.mean(), theirs.mean()
    spread = np.sum((hard_v - center) ** 2)
    slope = np.sum((hard_v - center) * (theirs - level)) / spread if spread > 0 else 0.0
    return (
        ours - level - slope * (hard_s - center),
        theirs - level - slope * (hard_v - center),
    )


def _edges(ours: np.ndarray, theirs: np.ndarray, bins: int) -> np.ndarray:
    """Returns the inner edges of bins: quantiles of both sides, each of half the weight in all."""
    values = np.concatenate([ours, theirs])
    weights = np.concatenate([np.full(len(side), 1 / max(len(side), 1)) for side in (ours, theirs)])
    order = np.argsort(values, kind="stable")
    shares = np.cumsum(weights[order]) / weights.sum()

    # An edge is the least value above it; only order matters, and roundings move no example over.
    last = np.searchsorted(shares, np.arange(1, bins) / bins - 1e-12)
    following = np.searchsorted(values[order], values[order][last], side="right")
    return np.unique(values[order][following[following < len(values)]])


def _merged(binned_s: np.ndarray, binned_v: np.ndarray, bins: int, least: int) -> np.ndarray:
    """Returns the merged bin of each bin, int[bins], numbered from 0 in their order."""
    cells = [[one] for one in range(bins)]
    ours = np.bincount(binned_s, minlength=bins).tolist()
    theirs = np.bincount(binned_v, minlength=bins).tolist()
    while len(cells) > 1:
        lacking = [k for k in range(len(cells)) if ours[k] and theirs[k] < least]
        if not lacking:
            break
        # The poorest, with the poorer of its neighbours.
        poorest = min(lacking, key=lambda k: theirs[k])
        neighbours = [k for k in (poorest - 1, poorest + 1) if 0 <= k < len(cells)]
        other = min(neighbours, key=lambda k: theirs[k])
        kept, gone = min(poorest, other), max(poorest, other)
        for counts in (ours, theirs):
            counts[kept] += counts.pop(gone)
        cells[kept] += cells.pop(gone)
    merged = np.zeros(bins, np.int64)
    for number, cell in enumerate(cells):
        merged[cell] = number
    return merged
