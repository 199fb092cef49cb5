"""Memorization and influence from a bank of models trained on random subsets of D.

The estimator of Feldman & Zhang (NeurIPS 2020, section 2.2), for the definition of Feldman (STOC
2020). NumPy on the host; the models are those of `rumjax.lab.bank`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, check_count, check_masks, check_share
from rumjax.types import Scores


def random_subset(seed: int, model: int, size: int, fraction: float) -> np.ndarray:
    """Returns the examples that model number `model` of a bank sees, int32[round(fraction · size)].

    It depends on the seed and the model's own number alone, so that a bank can grow.

    Raises:
      InvalidInputError: a fraction that leaves no example in, or none out.

    Examples:
      >>> random_subset(0, 7, 10, 0.5).shape, random_subset(0, 7, 10, 0.5).dtype
      ((5,), dtype('int32'))
    """
    seed, model = check_count("seed", seed, least=0), check_count("model", model, least=0)
    seen = round(check_share("fraction", fraction) * check_count("size", size))
    if not 0 < seen < size:
        raise InvalidInputError(
            f"fraction: {fraction} of {size} examples is {seen}; some must be in and some out"
        )
    # The first examples of a permutation of the model's own.
    order = np.random.default_rng((seed, model)).permutation(size)
    return np.sort(order[:seen]).astype(np.int32)


class Tally(NamedTuple):
    """Counts of the models that saw every example and classify it correctly; scores need no more.

    Examples:
      >>> member = np.array([[True, False], [False, True]])
      >>> tally(zip(member, member), 2).right_inside
      array([1, 1])
    """

    inside: np.ndarray
    """models that saw the example, int64[N]"""
    outside: np.ndarray
    """models that did not see it, int64[N]"""
    right_inside: np.ndarray
    """models that saw it and classify it correctly, int64[N]"""
    right_outside: np.ndarray
    """models that did not see it and classify it correctly, int64[N]"""


def tally(rows: Iterable[tuple[np.ndarray, np.ndarray]], size: int) -> Tally:
    """Counts over models, one at a time: takes memory for N counts, however many models there are.

    Args:
      rows: of each model, the examples it saw and those it classifies correctly, bool[N] both.
      size: N.

    Raises:
      InvalidInputError: no masks, or of another number of examples.

    Examples:
      >>> member, correct = np.array([[True, False], [True, True]]), np.array([[True, True]] * 2)
      >>> counts = tally(zip(member, correct), 2)
      >>> counts.inside, counts.right_outside
      (array([2, 1]), array([0, 1]))
    """
    # The counts are added to in place.
    counts = Tally(*(np.zeros(size, np.int64) for _ in Tally._fields))
    for row in rows:
        member, correct = (
            check_masks(f"tally, {name}", mask, "N")
            for name, mask in zip(("member", "correct"), row, strict=True)
        )
        if not len(member) == len(correct) == size:
            raise InvalidInputError(
                f"tally: masks of {len(member)} and {len(correct)} examples; wanted {size} of both"
            )
        for count, these in zip(
            counts, (member, ~member, member & correct, ~member & correct), strict=True
        ):
            count += these
    return counts


def memorization(member: np.ndarray, correct: np.ndarray) -> Scores:
    """Returns memorization scores with standard errors.

    mem_i is the accuracy on example i of the models that saw it, less that of those that did not;
    its standard error is sqrt(p_in(1−p_in)/n_in + p_out(1−p_out)/n_out).

    Args:
      member: bool[M, N], True where model m saw example n.
      correct: bool[M, N], True where it classifies the example correctly.

    Raises:
      InvalidInputError: shapes differ, or an example is in all models or in none.

    Examples:
      >>> member = np.array([[True, True], [True, False], [False, True], [False, False]])
      >>> correct = np.array([[True, True], [True, True], [False, True], [False, True]])
      >>> memorization(member, correct).values
      array([1., 0.], dtype=float32)
    """
    member = check_masks("member", member, "models", "N")
    correct = check_masks("correct", correct, "models", "N")
    if member.shape != correct.shape:
        raise InvalidInputError(f"member is {member.shape}, but correct is {correct.shape}")
    return memorization_of(tally(zip(member, correct, strict=True), member.shape[1]))


def memorization_of(counts: Tally) -> Scores:
    """Returns memorization scores with standard errors, from counts; see `memorization`.

    Raises:
      InvalidInputError: an example is in all models or in none.

    Examples:
      >>> four, two = np.array([4]), np.array([2])
      >>> memorization_of(Tally(four, four, four, two))
      Scores(values=array([0.5], dtype=float32), standard_error=array([0.25], dtype=float32))
    """
    # Both sides need a model of every example.
    inside, outside, right_inside, right_outside = counts
    if lacking := int(np.sum((inside == 0) | (outside == 0))):
        models = int((inside + outside).max(initial=0))
        raise InvalidInputError(
            f"{lacking} examples were seen by all {models} models or by none; "
            "memorization needs both: train more models, or use a fraction nearer .5"
        )

    # The difference of two accuracies, and its standard error.
    p_in, p_out = right_inside / inside, right_outside / outside
    variance = p_in * (1 - p_in) / inside + p_out * (1 - p_out) / outside
    return Scores((p_in - p_out).astype(np.float32), np.sqrt(variance).astype(np.float32))


def influence(member: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Returns the influence of each training example on each other example, float32[N, T].

    infl_ij is the accuracy on example j of the models that saw i, less that of those that did not.

    Args:
      member: bool[M, N], True where model m saw training example n.
      correct: bool[M, T], True where it classifies example t, of T for instance, correctly.

    Raises:
      InvalidInputError: the numbers of models differ, or an example is in all models or in none.

    Examples:
      >>> member = np.array([[True, True], [True, False], [False, True], [False, False]])
      >>> influence(member, correct=member[:, :1])
      array([[1.],
             [0.]], dtype=float32)
    """
    member = check_masks("member", member, "models", "N")
    correct = check_masks("correct", correct, "models", "T")
    if len(member) != len(correct):
        raise InvalidInputError(f"{len(member)} models in member, but {len(correct)} in correct")
    inside = member.sum(axis=0, dtype=np.float32)
    outside = len(member) - inside
    if np.any((inside == 0) | (outside == 0)):
        raise InvalidInputError("some example was seen by all models or by none: train more models")
    # Sums over models are matrix products.
    seen, right = member.astype(np.float32), correct.astype(np.float32)
    return (seen.T @ right) / inside[:, None] - ((1 - seen).T @ right) / outside[:, None]
