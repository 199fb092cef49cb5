"""Whether S is fitted better than examples that nobody saw, by ranks and with one model."""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from rumjax.errors import InvalidInputError, as_array, check_choice, check_count
from rumjax.evidence.findings import NAN, check_scores

ALTERNATIVES = ("greater", "less", "two-sided")
MOST_PAIRS = 20_000
"""Up to so many pairs, the distribution of ranks is computed exactly."""
LARGE = 20
"""From so many examples on either side, the normal approximation is taken for it."""
CELLS = 2**21
"""Numbers of a block of draws, at most, so that memory is bounded."""
LEVEL = 0.95

Stratum: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Margins of S and of V that are compared with each other, float64[n_s] and float64[n_v]."""


class RankTest(NamedTuple):
    """The probability that an example of S is fitted better than one of V of like kind.

    Examples:
      >>> RankTest(0.61, 0.55, 0.67, p_value=0.001, null=0.5, count=90, matched=90).value
      0.61
    """

    value: float
    """the area under the curve: mean over S of the share of V that is fitted less well, ties ½"""
    low: float
    high: float
    """the ends of a 95 % interval; NaN where S or V is a single example"""
    p_value: float
    """the probability of so great a value, if S and V were alike"""
    null: float
    """½"""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    """examples of S"""
    matched: int
    """those of S that were compared: their stratum has an example of V"""


def rank_p_values(scores_s: np.ndarray, scores_v: np.ndarray) -> np.ndarray:
    """Returns p_i = (1 + #{j∈V: s_j ≤ s_i}) / (n_V + 1) of each example of S.

    (The conformal p-value; Vovk, Gammerman and Shafer, 2005.) s is a nonconformity, 1 − p_y for
    instance: SMALLER IS FITTED BETTER, as a smaller p is. If S is a random sample, p is uniform
    (or larger) for a model that never saw S, exactly and without an oracle; it is wrong for an S
    that was chosen, by memorization for instance. All share V, and so are not independent.

    Args:
      scores_s: float[n_S].
      scores_v: of examples that the model never saw, float[n_V].

    Returns:
      float64[n_S].

    Raises:
      InvalidInputError: no examples on a side, or numbers that are not finite.

    Examples:
      >>> rank_p_values(np.array([0.0, 0.25]), np.array([0.1, 0.2, 0.3]))
      array([0.25, 0.75])
    """
    ours, theirs = check_scores("scores_s", scores_s), np.sort(check_scores("scores_v", scores_v))
    return (1 + np.searchsorted(theirs, ours, side="right")) / (1 + len(theirs))


def rank_test(
    forget_margins: np.ndarray,
    unseen_margins: np.ndarray,
    *,
    strata_s: np.ndarray | None = None,
    strata_v: np.ndarray | None = None,
    alternative: Literal["greater", "less", "two-sided"] = "greater",
    draws: int = 2000,
    seed: int = 0,
) -> RankTest:
    """Tests whether S is fitted better than V, examples that the model never saw.

    Without strata this is the test of Mann and Whitney (1947): exact where there are no ties and
    few pairs, by the normal approximation where both sides have 20 examples or more, else by
    permutation. It holds for an S that is a random sample. The p-value is
    uniform over samples and models; models that were all retrained without one S share its luck,
    and have p-values that lie together.

    With strata, each example of S is compared with V of its own stratum alone (as van Elteren,
    1960, does): the value is Σ_h (n_S,h/n_S)·AUC_h, so that V of a stratum weighs as much as S has
    there. The p-value is (1 + #{value* ≥ value}) / (draws + 1), where membership in S and V is
    permuted within strata. It holds for an S that is chosen by what the strata are made of, see
    `strata`, as far as these are narrow: where S is more difficult than V within a stratum too, the
    value is too low and hides a residue. Margins less what the difficulty predicts, the mean margin
    of shadows for instance, leave less of that.

    The interval is from resampling S, and V within strata. Where S lies wholly above V, or wholly
    below, all draws are alike; the interval then ends where so many disjoint pairs of both would
    all agree with probability .025.

    Args:
      forget_margins: of S, float[n_S]; any score of which a larger one is fitted better.
      unseen_margins: of V, float[n_V].
      strata_s: int[n_S]; examples of a stratum without V are left out, see `RankTest.matched`.
      strata_v: int[n_V].
      alternative: "greater" where S is fitted better, "less" where less well, or both.
      draws: permutations, and half as many resamplings.
      seed: of the draws.

    Returns:
      The test; value, interval and p-value are NaN where nothing of S is matched.

    Raises:
      InvalidInputError: no examples on a side, numbers that are not finite, strata of one side
        alone or that are not integers, or an unknown alternative.

    Examples:
      >>> test = rank_test(np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.5]))
      >>> round(test.value, 3), test.p_value
      (0.889, 0.1)
      >>> memorized = np.array([1, 1, 0])
      >>> test = rank_test(
      ...     np.array([0.0, 1.0, 9.0]), np.array([0.5, 8.0, 9.5]), strata_s=memorized,
      ...     strata_v=np.array([1, 0, 0]),
      ... )
      >>> test.value, test.matched
      (0.5, 3)
    """
    check_choice("alternative", alternative, ALTERNATIVES)
    draws = check_count("draws", draws)
    ours = check_scores("forget_margins", forget_margins)
    theirs = check_scores("unseen_margins", unseen_margins)
    groups = _groups(ours, theirs, strata_s, strata_v)
    matched = sum(len(group[0]) for group in groups)
    if not matched:
        return RankTest(NAN, NAN, NAN, NAN, 0.5, len(ours), 0)

    # An exact or a normal p-value where one is to be had, else one by permutation.
    value = _area(groups)
    method = None if strata_s is not None else _method(*groups[0])
    if method is not None:
        from scipy import stats

        test = stats.mannwhitneyu(*groups[0], alternative=alternative, method=method)
        p_value = float(test.pvalue)
    else:
        permuted = _permuted(groups, draws, np.random.default_rng(seed))
        p_value = _p_value(value, permuted, alternative)

    low, high = _interval(groups, value, max(draws // 2, 1), np.random.default_rng([seed, 1]))
    return RankTest(value, low, high, p_value, 0.5, len(ours), matched)


def _groups(
    ours: np.ndarray,
    theirs: np.ndarray,
    strata_s: np.ndarray | None,
    strata_v: np.ndarray | None,
) -> list[Stratum]:
    """Returns the margins of every stratum that S and V have in common.

    Raises:
      InvalidInputError: strata of one side alone, of another size, or that are not integers.
    """
    if strata_s is None and strata_v is None:
        return [(ours, theirs)]
    if strata_s is None or strata_v is None:
        raise InvalidInputError("strata_s, strata_v: give those of both sides, or of neither")
    labels = []
    for what, strata, margins in (("strata_s", strata_s, ours), ("strata_v", strata_v, theirs)):
        array = as_array(what, strata)
        if array.shape != margins.shape or array.dtype.kind not in "iu":
            raise InvalidInputError(
                f"{what}: wanted integers, one for each of {len(margins)} examples, got "
                f"{array.dtype}{list(array.shape)}"
            )
        labels.append(array)
    common = np.intersect1d(labels[0], labels[1])
    return [(ours[labels[0] == label], theirs[labels[1] == label]) for label in common]


def _method(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Returns SciPy's name of the way to a p-value; None where a permutation is better."""
    values = np.concatenate([ours, theirs])
    if len(np.unique(values)) == len(values) and len(ours) * len(theirs) <= MOST_PAIRS:
        return "exact"
    return "asymptotic" if min(len(ours), len(theirs)) >= LARGE else None


def _area(groups: list[Stratum]) -> float:
    """Returns the mean over S of the share of V in the same stratum that is below, ties ½."""
    shares = []
    for ours, theirs in groups:
        below, not_above = _positions(ours, np.sort(theirs))
        shares.append((below + not_above) / (2 * len(theirs)))
    return float(np.concatenate(shares).mean())


def _positions(ours: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts how many of V, ascending, are below each example of S, and how many not above it."""
    return np.searchsorted(ordered, ours), np.searchsorted(ordered, ours, side="right")


def _p_value(value: float, by_chance: np.ndarray, alternative: str) -> float:
    """Returns the share of values by chance that are as extreme, the value itself among them."""
    count = 1 + len(by_chance)
    above = float(1 + np.sum(by_chance >= value - 1e-9)) / count
    below = float(1 + np.sum(by_chance <= value + 1e-9)) / count
    sides = {"greater": above, "less": below}
    return sides.get(alternative, min(2 * min(above, below), 1.0))


def _blocks(draws: int, size: int) -> list[int]:
    """Returns numbers of draws that add up, so that each block holds few numbers."""
    most = max(CELLS // max(size, 1), 1)
    return [min(most, draws - start) for start in range(0, draws, most)]


def _permuted(groups: list[Stratum], draws: int, random: np.random.Generator) -> np.ndarray:
    """Returns the area when membership in S and V is dealt anew within strata, float64[draws]."""
    from scipy import stats

    total = np.zeros(draws)
    for ours, theirs in groups:
        # The area is a sum of S's ranks; any others of the stratum may stand in their place.
        size = len(ours)
        ranks = stats.rankdata(np.concatenate([ours, theirs]))
        sums = [
            random.permuted(np.tile(ranks, (block, 1)), axis=1)[:, :size].sum(axis=1)
            for block in _blocks(draws, len(ranks))
        ]
        total += (np.concatenate(sums) - size * (size + 1) / 2) / len(theirs)
    return total / sum(len(ours) for ours, _ in groups)


def _interval(
    groups: list[Stratum], value: float, draws: int, random: np.random.Generator
) -> tuple[float, float]:
    """Returns the ends of a percentile interval from resampling S, and V within strata."""
    sides = [sum(len(group[side]) for group in groups) for side in (0, 1)]
    if min(sides) < 2:
        return NAN, NAN

    # All of a side above the other: disjoint pairs are independent, and k of them all agree with
    # probability A^k at an area of A.
    outer = (1 - LEVEL) / 2
    end = outer ** (1 / sum(min(len(ours), len(theirs)) for ours, theirs in groups))
    if value in (0.0, 1.0):
        return (end, 1.0) if value else (0.0, 1 - end)

    # Each draw counts how often an example stands in it: S as a whole, V in its stratum.
    positions = [_positions(ours, np.sort(theirs)) for ours, theirs in groups]
    ends = np.cumsum([len(ours) for ours, _ in groups])
    areas = []
    for block in _blocks(draws, sum(sides)):
        of_s = np.split(_counts(sides[0], block, random), ends[:-1], axis=1)
        total = np.zeros(block)
        for (_, theirs), (below, not_above), ours in zip(groups, positions, of_s, strict=True):
            of_v = _counts(len(theirs), block, random)
            sums = np.pad(np.cumsum(of_v, axis=1), ((0, 0), (1, 0)))
            pairs = sums[:, below] + sums[:, not_above]
            total += np.sum(ours * pairs, axis=1) / (2 * len(theirs))
        areas.append(total / sides[0])
    low, high = np.quantile(np.concatenate(areas), [outer, 1 - outer])
    return min(float(low), value), max(float(high), value)


def _counts(size: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """Returns how often each of some examples stands in samples of as many, int[draws, size]."""
    chosen = random.integers(0, size, (draws, size)) + size * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * size).reshape(draws, size)
