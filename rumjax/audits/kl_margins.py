"""KLOM: the divergence of margins of unlearned models from those of oracles, example by example."""

import numpy as np

from rumjax.audits.population import check_margins
from rumjax.errors import InvalidInputError, as_array, check_count, check_scalar

BINS, CLIP, FLOOR = 20, 100.0, 1e-5
"""Bins of a histogram, the largest |φ| in nats, and the least probability of a bin."""
CHUNK = 2**22
"""Margins that are sorted into bins at a time, which bounds memory."""


def klom(
    unlearned: np.ndarray,
    oracles: np.ndarray,
    *,
    bins: int = BINS,
    clip: float = CLIP,
    floor: float = FLOOR,
) -> np.ndarray:
    """Returns KL(unlearned ‖ oracles) in nats of histograms of φ, for each example.

    (Georgiev et al., arXiv 2410.23232, section 3.) Margins are clipped to ±`clip` and sorted into
    bins of equal width over the joint range of both sides; probabilities below `floor` are raised
    to it and not normalized again (the authors' code raises the oracles' alone, where an unlearned
    model is, and normalizes: the two differ by about .001). Where all margins are the same it is 0.

    Few models bias it upward: two samples of the same Gaussian score about .35 with 100 models a
    side. See `corrected_klom`, and hold oracles against other oracles.

    Args:
      unlearned: φ of N models that have forgotten the same set, float[N, n].
      oracles: φ of N' models that were retrained without it, float[N', n].
      bins: of the histograms.
      clip: in nats.
      floor: of a bin's probability.

    Returns:
      float64[n].

    Raises:
      InvalidInputError: margins that are not finite, fewer than two models of a side, no examples
        or different ones; fewer than 2 bins; `clip` or `floor` not above 0.

    Examples:
      >>> random = np.random.default_rng(0)
      >>> oracles = random.normal(0, 1, (100, 2))
      >>> alike, apart = klom(random.normal([0, 9], 1, (100, 2)), oracles)
      >>> bool(alike < 1 < apart)
      True
    """
    unlearned, oracles = check_sides(unlearned, oracles)
    bins = _checked_bins(bins, clip, floor)
    # Both sides share the bins of an example.
    binned = _binned(np.concatenate([unlearned, oracles]), bins, clip)
    return _divergence(binned[: len(unlearned)], binned[len(unlearned) :], bins, floor)


def corrected_klom(
    unlearned: np.ndarray,
    oracles: np.ndarray,
    *,
    bins: int = BINS,
    clip: float = CLIP,
    floor: float = FLOOR,
) -> np.ndarray:
    """Returns KLOM less its mean by chance; about 0 where both sides are the same.

    The mean by chance is that over all deals of the same models, in one pot, into two sides of the
    same sizes. Given how many of the pot are in a bin, how many of them one side is dealt is
    hypergeometric, so that the mean is a sum of few terms and needs no draws.

    It is exact in expectation where both sides are alike, AND NO ESTIMATE OF THE DIVERGENCE WHERE
    THEY ARE NOT: with `floor` far below 1/N, a bin that one side happens to miss costs some 10
    nats times its share, of which the deals know nothing. Means over 500 examples of Gaussians that
    are k standard deviations apart, beside the divergence that endless models would have in the
    same bins: with 64 models a side .26 for .12 (k = ½), .94 for .50 (1), 3.5 for 2.0 (2), 6.4 for
    4.3 (3), 9.0 for 9.4 (6); with 200, .18, .70, 2.9, 5.9 and 9.4.

    Args:
      unlearned: see `klom`.
      oracles: see `klom`.
      bins: see `klom`.
      clip: see `klom`.
      floor: see `klom`.

    Returns:
      float64[n]; single examples may be below 0.

    Raises:
      InvalidInputError: see `klom`.

    Examples:
      >>> unlearned, oracles = np.random.default_rng(0).normal(0, 1, (2, 100, 50))
      >>> corrected = corrected_klom(unlearned, oracles).mean()
      >>> bool(abs(corrected) < 0.1 < klom(unlearned, oracles).mean())
      True
    """
    unlearned, oracles = check_sides(unlearned, oracles)
    bins = _checked_bins(bins, clip, floor)
    binned = _binned(np.concatenate([unlearned, oracles]), bins, clip)
    ours, theirs = binned[: len(unlearned)], binned[len(unlearned) :]
    # The mean over all deals of these models into the two sides.
    by_chance = _by_chance(_counts(binned, bins), len(ours), len(theirs), floor).sum(axis=1)
    return np.asarray(_divergence(ours, theirs, bins, floor) - by_chance)


def check_sides(unlearned: np.ndarray, oracles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the margins of two groups of models on the same examples.

    Raises:
      InvalidInputError: not float[models, examples] of two models and one example or more, of
        different examples, or not finite.
    """
    unlearned, oracles = as_array("unlearned", unlearned), as_array("oracles", oracles)
    for name, side in {"unlearned": unlearned, "oracles": oracles}.items():
        if side.ndim != 2 or len(side) < 2 or side.shape[1] == 0:
            raise InvalidInputError(
                f"{name}: margins are {side.shape}; wanted [models, examples], of two models and "
                "one example at least"
            )
        check_margins(name, side)
    if unlearned.shape[1] != oracles.shape[1]:
        raise InvalidInputError(
            f"margins of {unlearned.shape[1]} examples by unlearned models, but of "
            f"{oracles.shape[1]} by oracles; both must be of the same"
        )
    return unlearned, oracles


def _checked_bins(bins: int, clip: float, floor: float) -> int:
    """Returns the number of bins, if it and the other numbers of a histogram are in order."""
    for name, value in {"clip": clip, "floor": floor}.items():
        if not check_scalar(name, value) > 0:
            raise InvalidInputError(f"{name} is {value}; wanted a number above 0")
    return check_count("bins", bins, least=2)


def _binned(margins: np.ndarray, bins: int, clip: float) -> np.ndarray:
    """Returns the bin of every margin, int[M, n]."""
    # Some examples at a time, all models of each.
    positions = np.empty(margins.shape, np.intp)
    step = max(1, CHUNK // len(margins))
    for first in range(0, margins.shape[1], step):
        these = np.clip(margins[:, first : first + step].astype(np.float64), -clip, clip)
        least, most = these.min(axis=0), these.max(axis=0)
        width = np.where(most > least, most - least, 1.0)
        # As in a histogram, the last bin holds its upper end.
        position = np.minimum((these - least) / width * bins, bins - 1)
        positions[:, first : first + step] = position
    return positions


def _divergence(unlearned: np.ndarray, oracles: np.ndarray, bins: int, floor: float) -> np.ndarray:
    """Returns KL(unlearned ‖ oracles) of margins in bins, float64[n]."""
    ours, theirs = (_counts(side, bins) / len(side) for side in (unlearned, oracles))
    return np.asarray(_terms(ours, theirs, floor).sum(axis=1))


def _terms(unlearned: np.ndarray, oracles: np.ndarray, floor: float) -> np.ndarray:
    """Returns the terms that bins of these probabilities add to KL(unlearned ‖ oracles)."""
    from scipy.special import rel_entr

    return np.asarray(rel_entr(np.maximum(unlearned, floor), np.maximum(oracles, floor)))


def _by_chance(inside: np.ndarray, ours: int, theirs: int, floor: float) -> np.ndarray:
    """Returns the mean terms of bins whose models are dealt to the sides at random.

    Args:
      inside: how many models of both sides are in each bin, int[n, bins].
      ours: M, of one side.
      theirs: M', of the other.
      floor: see `klom`.

    Returns:
      float64[n, bins].
    """
    from scipy.special import gammaln

    # log k! for all k that occur.
    factorials = gammaln(np.arange(ours + theirs + 1) + 1.0)

    def choices(whole: int, part: np.ndarray) -> np.ndarray:
        return np.asarray(factorials[whole] - factorials[part] - factorials[whole - part])

    # The mean depends on a bin's number of models alone, of which there are few.
    distinct, position = np.unique(inside, return_inverse=True)
    means = []
    for count in distinct:
        # The hypergeometric probabilities of how many of them are dealt to our side.
        dealt = np.arange(max(0, count - theirs), min(ours, count) + 1)
        chance = choices(ours, dealt) + choices(theirs, count - dealt)
        chance = np.exp(chance - choices(ours + theirs, count))
        means.append(chance @ _terms(dealt / ours, (count - dealt) / theirs, floor))
    return np.array(means)[position].reshape(inside.shape)


def _counts(binned: np.ndarray, bins: int) -> np.ndarray:
    """Counts the models of every example and bin, int64[n, bins]."""
    # One count over all examples, whose bins are numbered apart.
    examples = binned.shape[1]
    flat = binned + bins * np.arange(examples)
    return np.bincount(flat.ravel(), minlength=examples * bins).reshape(examples, bins)
