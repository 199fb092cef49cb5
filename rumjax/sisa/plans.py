"""Which example is in which shard and slice, and what it costs to forget some of them."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, check_count, check_indices, check_labels


class Plan(NamedTuple):
    """Which example is in which shard and slice; it stays for ever, whatever is forgotten.

    Examples:
      >>> dealt = Plan(np.array([0, 1, 0]), np.array([0, 0, 1]), shards=2, slices=2)
      >>> dealt.union(0, 1), dealt.touched([1, 2])
      (array([0, 2], dtype=int32), {0: 1, 1: 0})
    """

    shard_of: np.ndarray
    """int32[N], from 0"""
    slice_of: np.ndarray
    """int32[N], from 0, within the shard"""
    shards: int
    slices: int

    @property
    def size(self) -> int:
        """N, the number of examples, forgotten or not."""
        return len(self.shard_of)

    def union(self, shard: int, last: int, forgotten: Any = ()) -> np.ndarray:
        """Returns what a shard's model is trained on up to slice `last`; int32, ascending."""
        chosen = (self.shard_of == shard) & (self.slice_of <= last)
        chosen[np.asarray(forgotten, np.int32)] = False
        return np.flatnonzero(chosen).astype(np.int32)

    def touched(self, forget: Any) -> dict[int, int]:
        """Returns the shards that hold examples, each with the earliest slice that does."""
        forget = np.asarray(forget, np.int32)
        shards, slices = self.shard_of[forget], self.slice_of[forget]
        return {int(shard): int(slices[shards == shard].min()) for shard in np.unique(shards)}


def plan(size: int, *, shards: int = 5, slices: int = 3, seed: int = 0) -> Plan:
    """Deals examples into shards, and each shard into slices, at random and as evenly as possible.

    Args:
      size: N, the number of examples of D.
      shards: the number of models.
      slices: that each model is trained in; a shard of fewer examples has empty ones.
      seed: of the deal.

    Raises:
      InvalidInputError: a count below 1, or more shards than examples.

    Examples:
      >>> dealt = plan(6, shards=2, slices=3)
      >>> np.bincount(dealt.shard_of).tolist(), np.bincount(dealt.slice_of).tolist()
      ([3, 3], [2, 2, 2])
    """
    size, shards = check_count("sisa, size", size), check_count("sisa, shards", shards)
    slices, seed = check_count("sisa, slices", slices), check_count("sisa, seed", seed, least=0)
    if shards > size:
        raise InvalidInputError(
            f"sisa: {shards} shards of {size} examples; take at most as many shards as examples"
        )

    # In turn to every shard, and within each in turn to every slice.
    order, turn = np.random.default_rng(seed).permutation(size), np.arange(size)
    shard_of, slice_of = np.zeros((2, size), np.int32)
    shard_of[order], slice_of[order] = turn % shards, turn // shards % slices
    return Plan(shard_of, slice_of, shards, slices)


def check_plan(plan: Any) -> Plan:
    """Returns a plan, if it is one.

    Raises:
      InvalidInputError: it is something else, or has places that there are not.
    """
    if not isinstance(plan, Plan):
        raise InvalidInputError(f"sisa: wanted sisa.plan(size), got {type(plan).__name__}")
    shards = check_labels("sisa, shard_of", plan.shard_of, num_classes=plan.shards)
    check_labels("sisa, slice_of", plan.slice_of, size=len(shards), num_classes=plan.slices)
    return plan


def epochs_by_slice(epochs: int, slices: int) -> tuple[int, ...]:
    """Returns the epochs on each union of slices, which cost as much as `epochs` on the whole.

    Each has ē = 2·epochs/(slices+1), so that all gradients add up to those of the recipe; fractions
    are carried over to the next slice.

    Raises:
      InvalidInputError: there is less than one epoch for each slice, and examples of the last
        would never be seen.

    Examples:
      >>> epochs_by_slice(5, 3)
      (2, 3, 2)
    """
    epochs, slices = check_count("epochs", epochs), check_count("sisa, slices", slices)
    if 2 * epochs < slices + 1:
        raise InvalidInputError(
            f"sisa: {epochs} epochs are too few for {slices} slices; take at least "
            f"{-(-(slices + 1) // 2)}, or fewer slices"
        )
    # In whole numbers: of fractions, int() would sometimes lose an epoch.
    done = [2 * epochs * position // (slices + 1) for position in range(slices + 1)]
    return tuple(after - before for before, after in itertools.pairwise(done))


def expected_shards(shards: int, count: int) -> float:
    """Returns how many shards are touched by `count` deletions at random, in the mean.

    It is shards·(1 − (1 − 1/shards)^count), for shards that are large in comparison.

    Raises:
      InvalidInputError: no shards, or a negative count.

    Examples:
      >>> round(expected_shards(10, 10), 1), round(expected_shards(10, 30), 1)
      (6.5, 9.6)
    """
    shards, count = check_count("sisa, shards", shards), check_count("count", count, least=0)
    return float(shards * (1 - (1 - 1 / shards) ** count))


class Cost(NamedTuple):
    """The price of a request, counted in gradients of single examples.

    Examples:
      >>> Cost({3: 0}, gradients=20, retraining=100).share
      0.2
    """

    retrained: Mapping[int, int]
    """the shards that are trained again, each with the slice at which it begins"""
    gradients: int
    """taken to train them"""
    retraining: int
    """taken to train one model from scratch by the recipe, on all that is kept"""

    @property
    def share(self) -> float:
        """The cost as a share of that of retraining."""
        return self.gradients / self.retraining


def cost(plan: Plan, epochs: int, forget: Any, already_forgotten: Any = ()) -> Cost:
    """Returns what forgetting would cost; nothing is trained.

    Args:
      plan: of the ensemble.
      epochs: of its recipe.
      forget: distinct integers below N, none of them already forgotten.
      already_forgotten: examples that were forgotten before.

    Raises:
      InvalidInputError: nothing to forget, examples that are out of range, named twice or
        forgotten already, all that is left, or too few epochs for the slices.

    Examples:
      >>> price = cost(plan(600, shards=5, slices=3), 10, [3, 5])
      >>> price.retrained, price.gradients, round(price.share, 2)
      ({3: 2, 4: 1}, 1585, 0.27)
    """
    after = all_forgotten(check_plan(plan).size, forget, already_forgotten)
    touched = plan.touched(check_indices("forget set", forget, plan.size))
    epochs_of = epochs_by_slice(epochs, plan.slices)
    gradients = sum(
        epochs_of[position] * len(plan.union(shard, position, after))
        for shard, first in touched.items()
        for position in range(first, plan.slices)
    )
    return Cost(touched, gradients, epochs * (plan.size - len(after)))


def all_forgotten(size: int, forget: Any, before: Any) -> np.ndarray:
    """Returns all that is forgotten after a request; int32, ascending.

    Args:
      size: N.
      forget: what is to be forgotten now.
      before: what was forgotten before.

    Raises:
      InvalidInputError: the request cannot be granted, see `cost`.
    """
    forget = check_indices("forget set", forget, size)
    before = check_indices("already forgotten", before, size, allow_empty=True)
    again = np.intersect1d(forget, before)
    if again.size:
        raise InvalidInputError(
            f"forget set: {again.size} examples are already forgotten, the first is {again[0]}; "
            "name the new ones only"
        )
    return check_left(size, np.union1d(forget, before))


def check_left(size: int, forgotten: np.ndarray) -> np.ndarray:
    """Returns what is forgotten as int32, if something else is left.

    Raises:
      InvalidInputError: all examples are forgotten.
    """
    if len(forgotten) == size:
        raise InvalidInputError(
            f"forget set: with it, all {size} examples are forgotten and no model is left; an "
            "ensemble needs at least one example"
        )
    return forgotten.astype(np.int32)
