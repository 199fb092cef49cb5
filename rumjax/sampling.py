"""Drawing from subsets inside compiled code: their order, samples, unions."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.types import Array, Key, Subset


def shuffled(key: Key, subset: Subset) -> Array:
    """Returns the subset's indices in random order, int32[capacity], the padding last."""
    chex.assert_rank(subset.indices, 1)
    position = jnp.arange(subset.indices.shape[0])
    noise = jax.random.uniform(key, position.shape, jnp.float32)
    return subset.indices[jnp.argsort(jnp.where(position < subset.size, noise, jnp.inf))]


def steps_per_pass(subset: Subset, batch_size: int) -> Array:
    """Returns the number of batches in a pass over the subset, the last maybe partial; int32[]."""
    return -(-subset.size // batch_size)


def sample(key: Key, subset: Subset, size: ArrayLike) -> Subset:
    """Draws examples of a subset without replacement, all of them if there are not so many.

    Args:
      key: of the draw.
      subset: drawn from.
      size: how many, int32[].

    Returns:
      A subset of the same capacity.

    Examples:
      >>> whole = Subset(jnp.arange(10), jnp.int32(8))
      >>> int(sample(jax.random.key(0), whole, 3).size)
      3
    """
    return Subset(shuffled(key, subset), jnp.minimum(jnp.int32(size), subset.size))


def share(key: Key, subset: Subset, fraction: ArrayLike) -> Subset:
    """Draws a share of a subset without replacement, rounded up; see `sample`."""
    return sample(key, subset, share_size(fraction, subset.size))


def share_size(fraction: ArrayLike, size: ArrayLike) -> Array:
    """Returns how many examples a share of so many has, rounded up; int32[].

    Examples:
      >>> [int(share_size(0.3, size)) for size in (0, 1, 10, 45_000)]
      [0, 1, 3, 13500]
    """
    # A little less, since .3 of 10 is more than 3 in float32.
    exact = jnp.float32(fraction) * jnp.float32(size)
    return jnp.ceil(exact * (1 - 2.5e-7)).astype(jnp.int32)


def union(first: Subset, second: Subset) -> Subset:
    """Returns the union of two disjoint subsets, with room for both."""
    # The second subset begins where the first one's examples end.
    capacity = first.indices.shape[0] + second.indices.shape[0]
    joined = jnp.zeros(capacity, jnp.int32)
    joined = jax.lax.dynamic_update_slice(joined, first.indices, (0,))
    joined = jax.lax.dynamic_update_slice(joined, second.indices, (first.size,))
    return Subset(joined, first.size + second.size)


def membership(subset: Subset, size: int) -> Array:
    """Returns which of examples 0…size-1 a subset has, bool[size].

    Examples:
      >>> membership(Subset(jnp.array([2, 0]), jnp.int32(1)), 4).tolist()
      [False, False, True, False]
    """
    # Padding is pointed outside the array, where `mode="drop"` ignores it.
    inside = jnp.arange(subset.indices.shape[0]) < subset.size
    positions = jnp.where(inside, subset.indices, size)
    return jnp.zeros(size, bool).at[positions].set(True, mode="drop")
