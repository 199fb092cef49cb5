"""The score of the NeurIPS 2023 unlearning challenge: forgetting quality times utility."""

import numpy as np

from rumjax.audits.kl_margins import check_sides
from rumjax.errors import InvalidInputError, check_count, check_floats, check_scalar

DELTA, CAP, WIDTH = 1e-5, 50.0, 0.5
"""The challenge's δ, its cap of ε, and the width of its bins of ε."""


def epsilons(
    unlearned: np.ndarray, oracles: np.ndarray, *, delta: float = DELTA, cap: float = CAP
) -> np.ndarray:
    """Returns ε of each example's (ε, δ)-unlearning, by the best of many attacks on φ.

    An attack tells unlearned models from oracles by a threshold, in either direction, or by two,
    "unlearned" being all margins between them or all outside; every attack that the sample can tell
    from others is tried. Of its rates of errors, ε = max(log(1−δ−FPR) − log FNR,
    log(1−δ−FNR) − log FPR).
    Attacks of which exactly one rate is 0 are discarded, as a sign of too few models; where both
    are, the sides are separated and ε is `cap`. (Triantafillou et al., arXiv 2406.09073, section
    4.2 and appendix; the released scorer tries a grid of thresholds instead, looks between two of
    them for the narrower side alone, and gives `cap` to examples of which one side's range is below
    a hundredth of the other's.)

    Args:
      unlearned: φ of N models that have forgotten the same set, float[N, n].
      oracles: φ of N' models that were retrained without it, float[N', n].
      delta: δ.
      cap: of ε.

    Returns:
      float64[n], in 0…`cap`; 0 where no attack is left.

    Raises:
      InvalidInputError: δ or the cap is out of range, or the two sides do not match; see
        `rumjax.audits.kl_margins.check_sides`.

    Examples:
      >>> ours, theirs = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[5.0, 0.0], [6.0, 0.0]])
      >>> epsilons(ours, theirs)
      array([50.,  0.])
    """
    unlearned, oracles = check_sides(unlearned, oracles)
    if not check_scalar("delta", delta) < 1 or not check_scalar("cap", cap) > 0:
        raise InvalidInputError(
            f"epsilons: delta is {delta} and cap {cap}; wanted 0 ≤ delta < 1 and a cap above 0"
        )
    return np.array(
        [
            _epsilon(ours, theirs, delta, cap)
            for ours, theirs in zip(unlearned.T, oracles.T, strict=True)
        ]
    )


def _epsilon(ours: np.ndarray, theirs: np.ndarray, delta: float, cap: float) -> float:
    """Returns ε of one example, from φ of it by the models of both sides."""
    # How many models of both sides lie below every place where a threshold can be put.
    values = np.unique(np.concatenate([ours, theirs]))
    below = [
        np.r_[0, np.searchsorted(np.sort(side), values, side="right")] for side in (ours, theirs)
    ]

    # How many lie between two thresholds, of which one may be at the end.
    between = [counts[None, :] - counts[:, None] for counts in below]
    later = np.triu_indices(len(values) + 1, k=1)
    hits, alarms = (counts[later] for counts in between)

    # "Unlearned" are the models between two thresholds, or all others.
    best = 0.0
    for false_positive, false_negative in (
        (alarms / len(theirs), 1 - hits / len(ours)),
        (1 - alarms / len(theirs), hits / len(ours)),
    ):
        if np.any((false_positive == 0) & (false_negative == 0)):
            return cap
        # Attacks of which exactly one rate is 0 are discarded.
        kept = (false_positive > 0) & (false_negative > 0)
        for one, other in (
            (false_positive[kept], false_negative[kept]),
            (false_negative[kept], false_positive[kept]),
        ):
            left = 1 - delta - one
            usable = left > 0
            if usable.any():
                best = max(best, float(np.max(np.log(left[usable]) - np.log(other[usable]))))
    return min(best, cap)


def forgetting_quality(epsilons: np.ndarray, *, models: int, width: float = WIDTH) -> float:
    """Returns the mean over examples of 2/2^k, k the number of the bin of ε from 1; 1 is best.

    (Triantafillou et al., arXiv 2406.09073, section 4.2.) Bins are `width` wide and reach to
    ⌈log(N−1)⌉, the most that N models can show; an ε beyond counts as 0. So the score of few models
    is low: with 64 models a side of the same distribution the mean is about .07.

    Args:
      epsilons: float[n], not negative.
      models: N, of a side.
      width: of a bin.

    Raises:
      InvalidInputError: no examples, or an ε that is negative or not finite.

    Examples:
      >>> forgetting_quality(np.array([0.0, 0.6]), models=64)
      0.75
    """
    epsilons = check_floats("epsilons", epsilons, "n").astype(np.float64)
    models = check_count("models", models)
    if not check_scalar("width", width) > 0:
        raise InvalidInputError(f"width: wanted a number above 0, got {width}")
    if epsilons.size == 0 or epsilons.min() < 0:
        raise InvalidInputError("epsilons: wanted at least one, finite and not negative")
    # Bins that so many models can show at all.
    last = np.ceil(np.log(max(models - 1, 1)))
    number = np.floor(epsilons / width)
    return float(np.mean(np.where((number + 1) * width <= last, 2.0**-number, 0.0)))


def challenge_score(quality: float, retain_ratio: float, test_ratio: float) -> float:
    """Returns forgetting quality, times the accuracies on R and on T over the oracles'.

    (Triantafillou et al., arXiv 2406.09073, section 4.3.)

    Raises:
      InvalidInputError: a ratio that is negative or not finite.

    Examples:
      >>> challenge_score(0.5, retain_ratio=1.0, test_ratio=0.5)
      0.25
    """
    # The end of an interval may lie below 0.
    quality = check_scalar("quality", quality, least=-np.inf)
    return (
        quality
        * check_scalar("retain_ratio", retain_ratio)
        * check_scalar("test_ratio", test_ratio)
    )
