"""Sums and means of gradients over a subset, a batch at a time."""

from collections.abc import Callable
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp

from rumjax.checks import check_point
from rumjax.errors import InvalidInputError, check_count, check_floats
from rumjax.gradients.examples import example_losses, per_example_gradients
from rumjax.mesh import across_devices, shared_over
from rumjax.models import Model
from rumjax.models.checks import is_traced
from rumjax.types import Array, Dataset, PyTree, Subset, Variables

Results = TypeVar("Results")
HELD = 2**30
"""Bytes of per-example gradients that a mean of their magnitudes may hold, a device and model."""


def weighted_gradient(
    model: Model,
    variables: Variables,
    data: Dataset,
    chosen: Subset,
    coefficients: Array,
    *,
    batch_size: int,
) -> PyTree:
    """Returns Σ a_n ∇_θ CE_n over a subset for float32[capacity] coefficients a.

    The result is like the parameters.
    """
    variables, data = check_point("weighted gradient", model, variables, data, chosen)
    if jnp.shape(coefficients) != chosen.indices.shape:
        raise InvalidInputError(
            f"weighted gradient: coefficients {list(jnp.shape(coefficients))} for a subset of "
            f"{list(chosen.indices.shape)}; wanted as many"
        )
    if not is_traced(coefficients):
        check_floats("weighted gradient, coefficients", coefficients, "capacity")
    coefficients = jnp.asarray(coefficients)

    def batch_sum(images: Array, labels: Array, weights: Array) -> PyTree:
        def loss(params: PyTree) -> Array:
            return weights @ example_losses(model, params, variables, images, labels)

        return jax.grad(loss)(variables.params)

    return sum_over(batch_sum, variables.params, data, chosen, coefficients, batch_size)


def mean_gradient(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, batch_size: int
) -> PyTree:
    """Returns ∇_θ of the mean CE over a subset, a batch at a time; like the parameters.

    Raises:
      InvalidInputError: model, variables, data and subset do not go together.
    """
    variables, data = check_point("mean gradient", model, variables, data, chosen)
    return weighted_gradient(
        model, variables, data, chosen, mean_weights(chosen), batch_size=batch_size
    )


def mean_gradient_magnitude(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, batch_size: int
) -> PyTree:
    """Returns the mean over a subset of every example's |∇_θ CE|; like the parameters.

    Each example has a gradient of its own, so fewer examples than `batch_size` are taken at a time
    where `HELD` bytes would not do for all of theirs.
    """
    variables, data = check_point("gradient magnitude", model, variables, data, chosen)
    batch_size = fitting(variables.params, check_count("batch_size", batch_size))

    # Magnitudes are taken before the sum, so gradients are needed example by example.
    def batch_sum(images: Array, labels: Array, weights: Array) -> PyTree:
        gradients = per_example_gradients(model, variables, images, labels)
        return jax.tree.map(lambda g: jnp.tensordot(weights, jnp.abs(g), axes=1), gradients)

    weights = mean_weights(chosen)
    return sum_over(batch_sum, variables.params, data, chosen, weights, batch_size)


def fitting(params: PyTree, batch_size: int) -> int:
    """Returns the largest divisor of a batch size of which per-example gradients fit into `HELD`.

    Examples:
      >>> fitting({"kernel": jnp.zeros((1000, 1000))}, 512)
      256
    """
    devices = max(1, shared_over())
    if batch_size % devices:
        return batch_size  # which `across_devices` refuses
    share = batch_size // devices
    most = HELD // (4 * max(1, sum(leaf.size for leaf in jax.tree.leaves(params))))
    sizes = range(max(1, min(share, most)), 0, -1)
    return devices * next(size for size in sizes if share % size == 0)


def members(chosen: Subset) -> Array:
    """Returns 1 where the subset has an example, 0 where it has padding; float32[capacity]."""
    return (jnp.arange(chosen.indices.shape[0]) < chosen.size).astype(jnp.float32)


def mean_weights(chosen: Subset) -> Array:
    """Returns weights that make a sum over the subset its mean; float32[capacity]."""
    return members(chosen) / jnp.maximum(chosen.size, 1)


def sum_over(
    batch_sum: Callable[[Array, Array, Array], PyTree],
    like: PyTree,
    data: Dataset,
    chosen: Subset,
    coefficients: Array,
    batch_size: int,
) -> PyTree:
    """Sums `batch_sum(images, labels, coefficients)` over a subset, a batch at a time.

    Args:
      batch_sum: leaves out whatever has coefficient 0, as the filling of the last batch has.
      like: the structure and shapes of the result.
      data: all examples.
      chosen: the subset; of size 0, the sum is 0.
      coefficients: float32[capacity].
      batch_size: examples at a time.
    """
    chex.assert_equal_shape([chosen.indices, coefficients])
    batch_size = check_count("batch_size", batch_size)
    capacity = chosen.indices.shape[0]

    def body(step: Array, total: PyTree) -> PyTree:
        # A batch in the order of the subset; examples beyond its size weigh nothing.
        position = step * batch_size + jnp.arange(batch_size)
        inside = jnp.minimum(position, capacity - 1)
        picked = chosen.indices[inside]
        weights = jnp.where(position < chosen.size, coefficients[inside], 0.0)
        batch = across_devices((data.images[picked], data.labels[picked], weights))
        part = batch_sum(*batch)
        return jax.tree.map(jnp.add, total, part)

    steps = -(-chosen.size // batch_size)
    return jax.lax.fori_loop(0, steps, body, jax.tree.map(jnp.zeros_like, like))


def for_each(
    function: Callable[[Array, Array, Array], Results],
    none: Results,
    data: Dataset,
    chosen: Subset,
    batch_size: int,
) -> Results:
    """Computes something for each example of a subset, a batch at a time.

    Args:
      function: of [B, H, W, C] images, int32[B] labels, and bool[B], False for what only fills the
        last batch; its results begin with an axis of B.
      none: what stands where the subset has padding; its arrays begin with an axis of the capacity.
      data: all examples.
      chosen: the subset.
      batch_size: B.

    Returns:
      The results in the order of the subset, like `none`.

    Examples:
      >>> data = Dataset(jnp.zeros((4, 2, 2, 1), jnp.uint8), jnp.array([5, 6, 7, 8]))
      >>> chosen = Subset(jnp.array([3, 1, 0]), jnp.int32(2))
      >>> none = jnp.zeros(3, int)
      >>> for_each(lambda images, labels, inside: labels, none, data, chosen, 2).tolist()
      [8, 6, 0]
    """
    capacity = chosen.indices.shape[0]
    batch_size = check_count("batch_size", batch_size)

    def body(step: Array, made: Results) -> Results:
        # A batch in the order of the subset; examples beyond its size fill it.
        position = step * batch_size + jnp.arange(batch_size)
        picked = chosen.indices[jnp.minimum(position, capacity - 1)]
        labels = jnp.asarray(data.labels)[picked]
        batch = across_devices((data.images[picked], labels, position < chosen.size))

        # What fills it is pointed outside the array, where `mode="drop"` ignores it.
        place = jnp.where(position < chosen.size, position, capacity)
        return jax.tree.map(
            lambda before, new: before.at[place].set(new, mode="drop"), made, function(*batch)
        )

    return jax.lax.fori_loop(0, -(-chosen.size // batch_size), body, none)
