"""Forget sets as named parts: by a score, by entanglement, by class, at random, from a file.

NumPy on the host. Every function returns parts, a dictionary from names to ascending int32 indices
into D; a forget set is the union of its parts, and the rest of D is retained.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    check_count,
    check_indices,
    check_labels,
    check_number,
)
from rumjax.forget_files import from_examples, from_file, label_of
from rumjax.refine import LEVELS, Parts, ascending
from rumjax.scores import distances
from rumjax.types import Scores

__all__ = [
    "ForgetSet",
    "at_random",
    "by_class",
    "by_entanglement",
    "by_score",
    "from_examples",
    "from_file",
    "label_of",
    "requests",
]


class ForgetSet(NamedTuple):
    """S with its parts, and R, the rest of D.

    Examples:
      >>> parts = {"low": np.array([4], np.int32), "high": np.array([1], np.int32)}
      >>> chosen = ForgetSet.of(parts, 5)
      >>> chosen.forget, chosen.retain
      (array([1, 4], dtype=int32), array([0, 2, 3], dtype=int32))
    """

    parts: Parts
    """disjoint subsets of S by name, int32 each, which make up S"""
    forget: np.ndarray
    """S, int32[S], ascending"""
    retain: np.ndarray
    """R, int32[N − S], ascending"""

    @classmethod
    def of(cls, parts: Parts, count: int) -> "ForgetSet":
        """Makes the forget set of disjoint parts of D.

        Args:
          parts: indices into D by name.
          count: N, the number of examples of D.

        Raises:
          InvalidInputError: parts that overlap, are empty, out of range, or cover all of D.
        """
        for name, part in parts.items():
            check_indices(f"forget set, part {name}", part, count)
        forget = check_indices("forget set", _joined(parts), count)
        if len(forget) == count:
            raise InvalidInputError(
                f"forget set: it covers all {count} examples, nothing is retained"
            )
        return cls(parts, forget, np.setdiff1d(np.arange(count), forget).astype(np.int32))

    @property
    def size(self) -> int:
        """N, the number of examples of D."""
        return len(self.forget) + len(self.retain)


def by_score(
    scores: Scores,
    size: int,
    *,
    levels: Sequence[str] = LEVELS,
    center: float | str = 0.5,
    seed: int = 0,
) -> Parts:
    """Chooses the `size` lowest scores, the highest, and the nearest to a center as "medium".

    (Zhao et al., NeurIPS 2024, section 4.) Low is taken first, then high, then medium from what is
    left, so the parts are disjoint whatever the ties.

    Args:
      scores: of all N examples; larger means more memorized.
      size: examples per level.
      levels: which of "low", "medium" and "high" to return.
      center: the score that medium is nearest to: .5 for memorization, "median" for proxies.
      seed: of the permutation that breaks ties.

    Raises:
      InvalidInputError: D is too small for disjoint levels, or an unknown level.

    Examples:
      >>> scores = Scores(np.array([0.9, 0.1, 0.5, 0.4]))
      >>> by_score(scores, 1)["high"], by_score(scores, 1)["medium"]
      (array([0], dtype=int32), array([2], dtype=int32))
    """
    # Three levels must leave something of D.
    values = np.asarray(scores.values, np.float64)
    size = check_count("size", size)
    _check_levels(levels)
    if 3 * size >= len(values):
        raise InvalidInputError(
            f"size: three levels of {size} leave nothing of {len(values)} examples to retain"
        )

    # Medium is the nearest to the center among those that are neither low nor high.
    order = ascending(values, seed=seed)
    low, between, high = order[:size], order[size:-size], order[-size:]
    middle = np.median(values) if center == "median" else float(center)
    nearest = ascending(np.abs(values[between] - middle), seed=seed)[:size]
    parts = {"low": low, "medium": between[nearest], "high": high}
    return {level: np.sort(parts[level]).astype(np.int32) for level in levels}


def by_entanglement(
    embeddings: np.ndarray,
    size: int,
    *,
    groups: int = 15,
    centers: tuple[int, int, int] = (14, 12, 3),
    levels: Sequence[str] = LEVELS,
    seed: int = 0,
) -> Parts:
    """Chooses low, medium and high entanglement, by distance from the mean embedding.

    D is ranked by ‖φ − μ‖ and cut into `groups` of equal size, counted from the center; far from
    the mean is LOW entanglement. (Zhao et al., NeurIPS 2024, section 4 and appendix.)

    Args:
      embeddings: φ, float32[N, E], of the original model without augmentation.
      size: examples per level; each level is the run of `size` examples around its group's middle.
      groups: number of equal groups that D is cut into.
      centers: the groups of low, medium and high; the paper's are 14, 12 and 3 of 15.
      levels: which of "low", "medium" and "high" to return.
      seed: of the permutation that breaks ties.

    Raises:
      InvalidInputError: a group outside the range, an unknown level, or levels that overlap at this
        size.

    Examples:
      >>> embeddings = np.arange(30.0)[:, None]
      >>> by_entanglement(embeddings, 2)["high"]  # near the mean, 14.5
      array([11, 18], dtype=int32)
    """
    _check_levels(levels)
    count = len(embeddings)
    order = ascending(distances(embeddings), seed=seed)
    size = check_count("size", size)

    parts: Parts = {}
    for level, group in zip(LEVELS, centers, strict=True):
        if not 0 <= group < groups:
            raise InvalidInputError(f"centers: group {group} is outside 0…{groups - 1}")
        # The run of examples around the middle of the group.
        middle = round((group + 0.5) * count / groups)
        first = int(np.clip(middle - size // 2, 0, max(count - size, 0)))
        parts[level] = np.sort(order[first : first + size]).astype(np.int32)

    # Levels may neither overlap nor run out of D.
    joined = np.concatenate(list(parts.values()))
    if len(np.unique(joined)) != 3 * size:
        raise InvalidInputError(
            f"size: levels of {size} examples around groups {centers} of {groups} overlap or run "
            f"out of {count} examples; use a smaller size or centers further apart"
        )
    return {level: parts[level] for level in levels}


def at_random(count: int, size: int, *, seed: int = 0) -> Parts:
    """Chooses `size` of `count` examples, uniformly without replacement, as the part "random".

    Raises:
      InvalidInputError: `size` leaves nothing to retain.

    Examples:
      >>> at_random(100, 10)["random"].shape
      (10,)
    """
    size = check_count("size", size)
    if size >= count:
        raise InvalidInputError(f"size: {size} of {count} examples leave nothing to retain")
    chosen = np.random.default_rng(seed).choice(count, size, replace=False)
    return {"random": np.sort(chosen).astype(np.int32)}


def by_class(
    labels: np.ndarray,
    classes: Sequence[int | str],
    *,
    fraction: float = 1.0,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> Parts:
    """Chooses whole classes, or a random fraction of each, as parts "class_0" and so on.

    Args:
      labels: int32[N].
      classes: the classes to forget, as labels or names.
      fraction: of each class's examples, rounded, at least one.
      seed: of the choice.
      class_names: of all K classes, in the order of their labels.

    Raises:
      InvalidInputError: a class without examples, one that is given twice, a number that is the
        label of one class and the name of another, or a fraction outside (0, 1].

    Examples:
      >>> by_class(np.array([0, 1, 1, 2]), [1])
      {'class_1': array([1, 2], dtype=int32)}
      >>> by_class(np.array([0, 1, 1, 2]), ["dog"], class_names=["ant", "dog", "cat"])
      {'class_1': array([1, 2], dtype=int32)}
    """
    number = check_number("fraction", fraction, most=1.0)
    if number.ndim or number == 0:
        raise InvalidInputError(f"fraction: wanted a number in (0, 1], got {fraction}")
    labels = check_labels("labels", labels)
    if isinstance(classes, str | int | np.integer):
        classes = [classes]
    if not isinstance(classes, Iterable):
        raise InvalidInputError(f"classes: wanted labels or names, got {classes!r}")
    random = np.random.default_rng(check_count("seed", seed, least=0))
    parts: Parts = {}
    for label in (label_of(given, class_names) for given in classes):
        examples = np.flatnonzero(labels == label)
        if examples.size == 0:
            raise InvalidInputError(f"classes: no example has label {label}")
        if f"class_{label}" in parts:
            raise InvalidInputError(f"classes: class {label} is given twice")
        chosen = random.permutation(examples)[: max(1, round(float(fraction) * examples.size))]
        parts[f"class_{label}"] = np.sort(chosen).astype(np.int32)
    if not parts:
        raise InvalidInputError("classes: there is none; name at least one")
    return parts


def requests(parts: Parts, count: int, *, until: int | None = None, seed: int = 0) -> Parts:
    """Deals a forget set out at random into requests that arrive one after another.

    All requests get an equal share of every part, so that none is easier than another; where a part
    does not divide, the first requests get one more.

    Args:
      parts: the forget set of all requests together.
      count: number of requests.
      until: number of requests to return, the first ones; by default all.
      seed: of the deal, which does not depend on `until`.

    Returns:
      Parts "request_1", "request_2" and so on.

    Raises:
      InvalidInputError: more requests than examples of a part, or `until` beyond `count`.

    Examples:
      >>> dealt = requests({"all": np.arange(5, dtype=np.int32)}, 2)
      >>> {name: len(request) for name, request in dealt.items()}
      {'request_1': 3, 'request_2': 2}
    """
    # Every request gets an example of every part.
    count = check_count("requests", count)
    until = count if until is None else check_count("until", until)
    smallest = min(map(len, parts.values()))
    if count > smallest or until > count:
        raise InvalidInputError(
            f"requests: {until} of {count} wanted, of parts of {smallest} examples or more; "
            "there must be an example for each, and no more than all can have come"
        )

    # Every part is shuffled and cut by itself.
    random = np.random.default_rng(seed)
    dealt = [np.array_split(random.permutation(part), count) for part in parts.values()]
    return {
        f"request_{number + 1}": np.sort(np.concatenate([shares[number] for shares in dealt]))
        for number in range(until)
    }


def _check_levels(levels: Sequence[str]) -> None:
    """Checks that levels are among "low", "medium" and "high"."""
    if unknown := set(levels) - set(LEVELS):
        raise InvalidInputError(f"levels: {sorted(unknown)} are not among {', '.join(LEVELS)}")


def _joined(parts: Parts) -> np.ndarray:
    """Concatenates parts, of which there may be none."""
    return np.concatenate([np.empty(0, np.int32), *parts.values()])
