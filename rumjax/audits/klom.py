"""KLOM: the divergence of margins of unlearned models from those of oracles, example by example."""

import numpy as np
from scipy.special import rel_entr

from rumjax.audits.population import check_margins
from rumjax.errors import InvalidInputError, check_count

BINS, CLIP, FLOOR = 20, 100.0, 1e-5
DRAWS = 16
CHUNK = 2**22
"""margins that are sorted into bins at a time, which bounds memory"""


def klom(
    unlearned: np.ndarray,
    oracles: np.ndarray,
    *,
    bins: int = BINS,
    clip: float = CLIP,
    floor: float = FLOOR,
) -> np.ndarray:
    """KL(oracles ‖ unlearned) in nats of histograms of φ, for each example.

    (Georgiev et al., arXiv 2410.23232, section 3.) Margins are clipped to ±`clip` and sorted into
    bins of equal width over the joint range of both sides; probabilities below `floor` are raised
    to it and not normalized again. Where all margins are the same it is 0.

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
        or different ones.
    """
    check_sides(unlearned, oracles)
    check_count("bins", bins, least=2)
    binned = _binned(np.concatenate([unlearned, oracles]), bins, clip)
    return _divergence(binned[: len(unlearned)], binned[len(unlearned) :], bins, floor)


def corrected_klom(
    unlearned: np.ndarray,
    oracles: np.ndarray,
    *,
    bins: int = BINS,
    clip: float = CLIP,
    floor: float = FLOOR,
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """KLOM less what chance alone makes of so few models; about 0 where both sides are the same.

    What chance makes is the mean over random deals of the same models, all in one pot, into two
    sides of the same sizes. It is exact in expectation where both sides are alike, and small beside
    KLOM where they are far apart.

    Arguments and errors are those of `klom`, and besides

    Args:
      unlearned: see `klom`.
      oracles: see `klom`.
      bins: see `klom`.
      clip: see `klom`.
      floor: see `klom`.
      draws: of deals; their noise averages out over examples.
      seed: of the deals.

    Returns:
      float64[n]; single examples may be below 0.
    """
    check_sides(unlearned, oracles)
    check_count("bins", bins, least=2)
    binned = _binned(np.concatenate([unlearned, oracles]), bins, clip)
    count, random = len(unlearned), np.random.default_rng(seed)
    plain = _divergence(binned[:count], binned[count:], bins, floor)
    by_chance = np.zeros_like(plain)
    for _ in range(check_count("draws", draws)):
        dealt = binned[random.permutation(len(binned))]
        by_chance += _divergence(dealt[:count], dealt[count:], bins, floor)
    return plain - by_chance / draws


def check_sides(unlearned: np.ndarray, oracles: np.ndarray) -> None:
    """Checks the margins of two groups of models on the same examples.

    Raises:
      InvalidInputError: not float[models, examples] of two models and one example or more, of
        different examples, or not finite.
    """
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


def _binned(margins: np.ndarray, bins: int, clip: float) -> np.ndarray:
    """The bin of each margin, int16[M, n]."""
    found = np.empty(margins.shape, np.int16)
    step = max(1, CHUNK // len(margins))
    for first in range(0, margins.shape[1], step):
        these = np.clip(margins[:, first : first + step].astype(np.float64), -clip, clip)
        least, most = these.min(axis=0), these.max(axis=0)
        width = np.where(most > least, most - least, 1.0)
        # As in a histogram, the last bin holds its upper end.
        position = np.minimum((these - least) / width * bins, bins - 1)
        found[:, first : first + step] = position
    return found


def _divergence(unlearned: np.ndarray, oracles: np.ndarray, bins: int, floor: float) -> np.ndarray:
    """KL(oracles ‖ unlearned) of margins in bins, float64[n]."""
    ours, theirs = (
        np.maximum(_counts(side, bins) / len(side), floor) for side in (unlearned, oracles)
    )
    terms = rel_entr(theirs, ours)
    return np.asarray(terms.sum(axis=1))


def _counts(binned: np.ndarray, bins: int) -> np.ndarray:
    """How many models each example has in each bin, int64[n, bins]."""
    examples = binned.shape[1]
    flat = binned + bins * np.arange(examples)
    return np.bincount(flat.ravel(), minlength=examples * bins).reshape(examples, bins)
