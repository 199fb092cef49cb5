"""Order statistics of all numbers of a tree together, found bit by bit instead of by a sort."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.types import Array

TINY = np.float32(np.finfo(np.float32).tiny).view(np.int32)
"""the rank of the smallest normal number"""


def rank(values: Array) -> Array:
    """Returns whole numbers in the order of magnitudes, NaN below 0; int32, at least 0.

    Examples:
      >>> order = rank(jnp.array([-2.0, 0.0, jnp.nan, 1.0]))
      >>> bool(order[0] > order[3] > order[1] > order[2])
      True
    """
    # Bits of floats above 0 are in their order; what is smaller than a normal number counts as 0.
    bits = jax.lax.bitcast_convert_type(jnp.abs(values).astype(jnp.float32), jnp.int32)
    return jnp.where(jnp.isnan(values), 0, jnp.where(bits < TINY, 1, bits))


def magnitude(order: Array) -> Array:
    """Returns the magnitude of a rank, float32.

    Examples:
      >>> magnitude(rank(jnp.array([-2.0, 0.0, jnp.nan]))).tolist()
      [2.0, 0.0, 0.0]
    """
    value = jax.lax.bitcast_convert_type(order, jnp.float32)
    return jnp.where(order < TINY, jnp.float32(0), value)


def count(ranks: Sequence[Array], kept: Callable[[Array], Array]) -> Array:
    """Counts the ranks that are kept; int32[]."""
    return sum((jnp.sum(kept(part), dtype=jnp.int32) for part in ranks), jnp.int32(0))


def largest_rank(ranks: Sequence[Array], place: Array) -> Array:
    """Returns the largest rank but `place` − 1 of several arrays', int32[].

    It costs 31 sums, whatever the size.

    Args:
      ranks: arrays of `rank`.
      place: from 1; 0 is returned beyond the number of ranks.

    Examples:
      >>> ranks = [rank(jnp.array([3.0, -1.0])), rank(jnp.array([2.0]))]
      >>> float(magnitude(largest_rank(ranks, jnp.int32(2))))
      2.0
    """

    def set_bit(turn: Array, least: Array) -> Array:
        higher = least | (jnp.int32(1) << (30 - turn))
        return jnp.where(count(ranks, lambda part: part >= higher) >= place, higher, least)

    return jax.lax.fori_loop(0, 31, set_bit, jnp.int32(0))
