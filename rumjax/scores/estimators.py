"""Memorization and influence from a bank of models trained on random subsets of D.

The estimator of Feldman & Zhang (NeurIPS 2020, section 2.2), for the definition of Feldman (STOC
2020). NumPy on the host; the models are those of `rumjax.lab.bank`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.types import Scores


def random_subset(seed: int, model: int, size: int, fraction: float) -> np.ndarray:
    """The examples that model number `model` of a bank sees: int32[round(fraction · size)].

    It depends on the seed and the model's own number alone, so that a bank can grow.

    Raises:
      InvalidInputError: a fraction that leaves no example in, or none out.
    """
    seen = round(fraction * size)
    if not 0 < seen < size:
        raise InvalidInputError(
            f"fraction: {fraction} of {size} examples is {seen}; some must be in and some out"
        )
    order = np.random.default_rng((seed, model)).permutation(size)
    return np.sort(order[:seen]).astype(np.int32)


class Tally(NamedTuple):
    """How often each example was seen and classified correctly, which is all that scores need."""

    inside: np.ndarray
    """models that saw it, int64[N]"""
    outside: np.ndarray
    """models that did not"""
    right_inside: np.ndarray
    """of those that saw it, how many classify it correctly"""
    right_outside: np.ndarray
    """and of the others"""


def tally(rows: Iterable[tuple[np.ndarray, np.ndarray]], size: int) -> Tally:
    """Counts over models, one at a time: memory for N counts, however many models there are.

    Args:
      rows: of each model, what it saw and what it classifies correctly, bool[N] each.
      size: N.
    """
    counts = Tally(*(np.zeros(size, np.int64) for _ in Tally._fields))
    for member, correct in rows:
        for count, these in zip(
            counts, (member, ~member, member & correct, ~member & correct), strict=True
        ):
            count += these
    return counts


def memorization(member: np.ndarray, correct: np.ndarray) -> Scores:
    """Memorization scores with standard errors.

    mem_i is the accuracy on example i of the models that saw it, less that of those that did not;
    its standard error is sqrt(p_in(1−p_in)/n_in + p_out(1−p_out)/n_out).

    Args:
      member: bool[M, N], whether model m saw example n.
      correct: bool[M, N], whether it classifies it correctly.

    Raises:
      InvalidInputError: shapes differ, or an example is in all models or in none.
    """
    if member.shape != correct.shape:
        raise InvalidInputError(f"member is {member.shape}, but correct is {correct.shape}")
    return memorization_of(tally(zip(member, correct, strict=True), member.shape[1]))


def memorization_of(counts: Tally) -> Scores:
    """Memorization scores with standard errors, from counts; see `memorization`.

    Raises:
      InvalidInputError: an example is in all models or in none.
    """
    inside, outside, right_inside, right_outside = counts
    if lacking := int(np.sum((inside == 0) | (outside == 0))):
        models = int((inside + outside).max(initial=0))
        raise InvalidInputError(
            f"{lacking} examples were seen by all {models} models or by none; "
            "memorization needs both: train more models, or use a fraction nearer .5"
        )
    p_in, p_out = right_inside / inside, right_outside / outside
    variance = p_in * (1 - p_in) / inside + p_out * (1 - p_out) / outside
    return Scores((p_in - p_out).astype(np.float32), np.sqrt(variance).astype(np.float32))


def influence(member: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Influence of each training example on each other example, float32[N, T].

    infl_ij is the accuracy on example j of the models that saw i, less that of those that did not.

    Args:
      member: bool[M, N], whether model m saw training example n.
      correct: bool[M, T], whether it classifies example t, of the test set for instance, correctly.

    Raises:
      InvalidInputError: the numbers of models differ, or an example is in all models or in none.
    """
    if len(member) != len(correct):
        raise InvalidInputError(f"{len(member)} models in member, but {len(correct)} in correct")
    inside = member.sum(axis=0, dtype=np.float32)
    outside = len(member) - inside
    if np.any((inside == 0) | (outside == 0)):
        raise InvalidInputError("some example was seen by all models or by none: train more models")
    seen, right = member.astype(np.float32), correct.astype(np.float32)
    return (seen.T @ right) / inside[:, None] - ((1 - seen).T @ right) / outside[:, None]
