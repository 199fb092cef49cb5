"""One measured number with its interval, and intervals of shares."""

import math
from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, as_array, check_floats, check_masks

NAN = float("nan")


class Finding(NamedTuple):
    """One measured number.

    Examples:
      >>> Finding(value=0.02, low=0.01, high=0.04, null=0.01, count=500).null
      0.01
    """

    value: float
    low: float
    high: float
    """the ends of a 95 % interval; NaN where there is none"""
    null: float
    """what a model that never saw S would give; NaN where that is not known"""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    """number of examples"""


def proportion(successes: int, trials: int, null: float) -> Finding:
    """Returns a share with its exact interval (Clopper and Pearson, Biometrika 1934).

    Args:
      successes: of the trials.
      trials: at least one.
      null: see `Finding`.

    Examples:
      >>> share = proportion(3, 3000, null=0.001)
      >>> round(share.low, 4), round(share.high, 4)
      (0.0002, 0.0029)
    """
    from scipy import stats

    ends = stats.binomtest(successes, trials).proportion_ci(method="exact")
    return Finding(successes / trials, float(ends.low), float(ends.high), null, trials)


def difference(ours: int, of_ours: int, theirs: int, of_theirs: int) -> Finding:
    """Returns the difference of two shares, whose null value is 0.

    The interval is Newcombe's at 95 % (Statistics in Medicine 1998, method 10), of two score
    intervals.

    Args:
      ours: examples of S that something is true of.
      of_ours: examples of S.
      theirs: examples of V that it is true of.
      of_theirs: examples of V.

    Raises:
      InvalidInputError: no examples, or more successes than there are.

    Examples:
      >>> finding = difference(9, 10, 50, 100)
      >>> round(finding.value, 2), finding.low > 0, finding.null
      (0.4, True, 0.0)
    """
    from scipy import stats

    ends = []
    for successes, trials in ((ours, of_ours), (theirs, of_theirs)):
        proportion(successes, trials, 0.0)  # which checks them
        score = stats.binomtest(int(successes), int(trials)).proportion_ci(method="wilson")
        ends.append((successes / trials, float(score.low), float(score.high)))

    # Each end is as far as the ends of both shares together.
    (at, low, high), (their_at, their_low, their_high) = ends
    value = at - their_at
    return Finding(
        value,
        value - math.hypot(at - low, their_high - their_at),
        value + math.hypot(high - at, their_at - their_low),
        0.0,
        int(of_ours),
    )


def check_scores(what: str, values: np.ndarray, *, size: int | None = None) -> np.ndarray:
    """Returns finite numbers of at least one example as float64[n].

    Args:
      what: the name used in messages.
      values: float[n].
      size: n; None allows any.

    Raises:
      InvalidInputError: other axes, no examples, another number than `size`, or numbers that are
        not finite.
    """
    scores = check_floats(what, values, "n").astype(np.float64)
    if size is not None and len(scores) != size:
        raise InvalidInputError(f"{what}: {len(scores)} numbers for {size} examples; give one each")
    if not scores.size:
        raise InvalidInputError(f"{what}: no examples; at least one is needed")
    return scores


def check_shadows(
    margins: np.ndarray, shadow_margins: np.ndarray, shadow_in: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a model's margins, its shadows' on the same examples, and which shadow saw which.

    Args:
      margins: φ of the model, float[n].
      shadow_margins: φ of other models, float[M, n].
      shadow_in: True where a shadow was trained on the example, bool[M, n]; None if nowhere.

    Returns:
      float64[n], float64[M, n] and bool[M, n].

    Raises:
      InvalidInputError: no examples, no shadows, shapes that differ, or margins that are not
        finite.
    """
    margins = check_scores("margins", margins)
    shadows = check_floats("shadow_margins", shadow_margins, "M", "n").astype(np.float64)
    if shadow_in is None:
        shadow_in = np.zeros(shadows.shape, bool)
    member = check_masks("shadow_in", shadow_in, "M", "n")
    if shadows.shape[1] != len(margins) or member.shape != shadows.shape or not len(shadows):
        raise InvalidInputError(
            f"shadow_margins are {shadows.shape} and shadow_in {member.shape}, of {len(margins)} "
            "examples; wanted [M, n] of both, of at least one shadow"
        )
    return margins, shadows, member


def check_chosen(what: str, chosen: np.ndarray, size: int) -> np.ndarray:
    """Returns a choice of examples, a mask or indices, as bool[size].

    Raises:
      InvalidInputError: neither a mask of all examples nor indices of some, or nothing chosen.
    """
    array = as_array(what, chosen)
    mask = np.zeros(size, bool)
    if array.shape == (size,) and array.dtype == bool:
        mask = array
    elif array.ndim == 1 and array.dtype.kind in "iu":
        if array.size and not (array.min() >= 0 and array.max() < size):
            raise InvalidInputError(f"{what}: some indices are outside 0…{size - 1}")
        mask[array] = True
    else:
        raise InvalidInputError(
            f"{what}: wanted a mask of {size} examples or indices, got {array.dtype}"
            f"{list(array.shape)}"
        )
    if not mask.any():
        raise InvalidInputError(f"{what}: no examples are chosen; at least one is needed")
    return mask
