"""Whether S still lies near R in the space of embeddings, as what was trained on does."""

import math

import numpy as np

from rumjax.errors import InvalidInputError, check_count, check_floats
from rumjax.evidence.findings import NAN, Finding

DIGITS = 6
"""Decimals of a cosine: what agrees in so many is a tie, however a product was rounded."""
CELLS = 2**23
"""Similarities of a block, at most: 32 MiB of them."""
NORMAL = 1.96
"""The normal quantile of a 95 % interval."""


def neighbour_rank(
    forget_embeddings: np.ndarray,
    retain_embeddings: np.ndarray,
    unseen_embeddings: np.ndarray | None = None,
    *,
    most: int = 5000,
    seed: int = 0,
) -> tuple[Finding, Finding | None]:
    """Returns how near S is to R, ranked among how near R is to itself, and the same of V.

    (M4 of RULER, Cosma and Finke, arXiv 2605.27569.) An example's nearness is its greatest cosine
    with an example of R; those of R are measured without the example itself. The value is the mean
    over S of the share of R whose nearness is at most that of the example. Above ½ S is nearer to R
    than R is to itself: a residue; below, S is pushed out.

    The null value, ½, is that of a random S. Examples that were chosen because they are hard to fit
    lie away from R under any model; what V of like difficulty has, or an oracle, is the honest null
    then. The interval, mean ± 1.96 standard errors within 0…1, takes examples as independent and R
    as given; its half width is about .57/√n.

    The work is (|S| + 2·`most`)·|R|·E products, in blocks of 32 MiB.

    Args:
      forget_embeddings: of S, float[n_S, E].
      retain_embeddings: of R, float[n_R, E], two examples or more. One whose numbers are all 0 has
        a cosine of 0 with any other.
      unseen_embeddings: of V, float[n_V, E]; None leaves it out.
      most: beyond so many, R's own nearness and V's are those of a random sample of this size; the
        nearest is always looked for among all of R.
      seed: of the samples.

    Returns:
      The findings for S and for V; None for V without V. Ends are NaN for a single example.

    Raises:
      InvalidInputError: no examples, fewer than two of R, different sizes of embeddings, or numbers
        that are not finite.

    Examples:
      >>> random = np.random.default_rng(0)
      >>> retain, unseen = random.normal(size=(80, 4)), random.normal(size=(30, 4))
      >>> seen, never_seen = neighbour_rank(retain[:20] + 0.01, retain, unseen)
      >>> seen.low > 0.9, never_seen.low < 0.5 < never_seen.high
      (True, True)
    """
    most = check_count("most", most, least=2)
    retain = _directions("retain_embeddings", retain_embeddings, least=2)
    sides = {"forget_embeddings": forget_embeddings, "unseen_embeddings": unseen_embeddings}
    directions = {
        what: _directions(what, given) for what, given in sides.items() if given is not None
    }
    for what, given in directions.items():
        if given.shape[1] != retain.shape[1]:
            raise InvalidInputError(
                f"{what}: of {given.shape[1]} numbers each, R's of {retain.shape[1]}; take both "
                "from the same model"
            )

    # R against itself, without the example that is looked at.
    random = np.random.default_rng(seed)
    own = _sampled(len(retain), most, random)
    reference = np.sort(_nearness(retain[own], retain, own))

    # S, and a sample of V.
    ours = _ranked(directions["forget_embeddings"], retain, reference)
    unseen = directions.get("unseen_embeddings")
    if unseen is None:
        return ours, None
    return ours, _ranked(unseen[_sampled(len(unseen), most, random)], retain, reference)


def nearest_similarities(embeddings: np.ndarray, retain_embeddings: np.ndarray) -> np.ndarray:
    """Returns the greatest cosine of each example with one of R, float32[n].

    Args:
      embeddings: float[n, E].
      retain_embeddings: of R, float[n_R, E], by the same model.

    Raises:
      InvalidInputError: no examples, different sizes, or numbers that are not finite.

    Examples:
      >>> nearest_similarities(np.array([[1.0, 1.0]]), np.array([[2.0, 2.0], [0.0, 1.0]]))
      array([1.], dtype=float32)
    """
    ours = _directions("embeddings", embeddings)
    retain = _directions("retain_embeddings", retain_embeddings)
    if ours.shape[1] != retain.shape[1]:
        raise InvalidInputError(
            f"embeddings: of {ours.shape[1]} numbers each, R's of {retain.shape[1]}; take both "
            "from the same model"
        )
    return _nearness(ours, retain)


def _directions(what: str, embeddings: np.ndarray, *, least: int = 1) -> np.ndarray:
    """Returns embeddings of length 1, or 0 where all numbers are 0, float32[n, E].

    Raises:
      InvalidInputError: fewer than `least` examples, other axes, or numbers that are not finite.
    """
    given = check_floats(what, embeddings, "n", "E")
    if len(given) < least or not given.shape[1]:
        raise InvalidInputError(f"{what}: wanted [n, E], n of at least {least}, got {given.shape}")
    # By the greatest number first, so that no square overflows or vanishes.
    greatest = np.abs(given).max(axis=1, keepdims=True).astype(np.float64)
    scaled = given / np.where(greatest > 0, greatest, 1.0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    directions: np.ndarray = (scaled / np.maximum(length, 1.0)).astype(np.float32)
    return directions


def _sampled(size: int, most: int, random: np.random.Generator) -> np.ndarray:
    """Returns all positions below `size`, or a random sample of `most`, ascending."""
    if size <= most:
        return np.arange(size)
    return np.sort(random.choice(size, most, replace=False))


def _nearness(
    directions: np.ndarray, retain: np.ndarray, own: np.ndarray | None = None
) -> np.ndarray:
    """Returns the greatest cosine of each example with one of R, float32[n].

    Args:
      directions: float32[n, E].
      retain: float32[n_R, E].
      own: the example's own position in R, which is left out, int[n]; None if it has none.
    """
    rows = max(CELLS // len(retain), 1)
    nearest = []
    for start in range(0, len(directions), rows):
        cosines = directions[start : start + rows] @ retain.T
        if own is not None:
            cosines[np.arange(len(cosines)), own[start : start + rows]] = -np.inf
        nearest.append(cosines.max(axis=1))
    return np.concatenate(nearest).round(DIGITS)


def _ranked(directions: np.ndarray, retain: np.ndarray, reference: np.ndarray) -> Finding:
    """Returns the mean share of the reference, ascending, that is at most as near to R."""
    nearness = _nearness(directions, retain)
    shares = np.searchsorted(reference, nearness, side="right") / len(reference)
    value, count = float(shares.mean()), len(shares)
    if count == 1:
        return Finding(value, NAN, NAN, 0.5, count)
    margin = NORMAL * float(shares.std(ddof=1)) / math.sqrt(count)
    return Finding(value, max(value - margin, 0.0), min(value + margin, 1.0), 0.5, count)
