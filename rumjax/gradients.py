"""Gradients over whole subsets in bounded memory: means, per-example ones, and the damped Fisher.

All are taken with the running batch-norm statistics (`train=False`), so that one example's gradient
does not depend on its neighbors. Everything here is pure and may be compiled, vmapped or mapped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from rumjax.models import Model
from rumjax.types import AnyArray, Array, Dataset, PyTree, Subset, Variables


def example_losses(
    model: Model, params: PyTree, variables: Variables, images: AnyArray, labels: AnyArray
) -> Array:
    """Cross-entropy of each example under `params`, float32[B]."""
    outputs, _ = model.apply(variables._replace(params=params), images, train=False)
    return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)


def per_example_gradients(
    model: Model, variables: Variables, images: AnyArray, labels: AnyArray
) -> PyTree:
    """∇_θ CE of every example: like the parameters, with a leading axis B.

    Costs B times the memory of the parameters: keep B small and go on in micro-batches.
    """

    def loss(params: PyTree, image: Array, label: Array) -> Array:
        return example_losses(model, params, variables, image[None], label[None])[0]

    return jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(
        variables.params, jnp.asarray(images), jnp.asarray(labels)
    )


def weighted_gradient(
    model: Model,
    variables: Variables,
    data: Dataset,
    chosen: Subset,
    coefficients: Array,
    *,
    batch_size: int,
) -> PyTree:
    """Σ a_n ∇_θ CE_n over a subset for float32[capacity] coefficients a; like the parameters."""

    def batch_sum(images: Array, labels: Array, weights: Array) -> PyTree:
        def loss(params: PyTree) -> Array:
            return weights @ example_losses(model, params, variables, images, labels)

        return jax.grad(loss)(variables.params)

    return sum_over(batch_sum, variables.params, data, chosen, coefficients, batch_size)


def mean_gradient(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, batch_size: int
) -> PyTree:
    """∇_θ of the mean CE over a subset, a batch at a time; like the parameters."""
    return weighted_gradient(
        model, variables, data, chosen, mean_weights(chosen), batch_size=batch_size
    )


def mean_gradient_magnitude(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, batch_size: int
) -> PyTree:
    """Mean over a subset of each example's |∇_θ CE|, a batch at a time; like the parameters."""

    def batch_sum(images: Array, labels: Array, weights: Array) -> PyTree:
        gradients = per_example_gradients(model, variables, images, labels)
        return jax.tree.map(lambda g: jnp.tensordot(weights, jnp.abs(g), axes=1), gradients)

    weights = mean_weights(chosen)
    return sum_over(batch_sum, variables.params, data, chosen, weights, batch_size)


def members(chosen: Subset) -> Array:
    """1 where the subset has an example, 0 where it has padding; float32[capacity]."""
    return (jnp.arange(chosen.indices.shape[0]) < chosen.size).astype(jnp.float32)


def mean_weights(chosen: Subset) -> Array:
    """Weights that make a sum over the subset its mean; float32[capacity]."""
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
      batch_sum: linear in its coefficients, which are 0 for what fills the last batch.
      like: the result's structure and shapes.
      data: all examples.
      chosen: the subset; of size 0, the sum is 0.
      coefficients: float32[capacity].
      batch_size: examples at a time.
    """
    capacity = chosen.indices.shape[0]

    def body(step: Array, total: PyTree) -> PyTree:
        position = step * batch_size + jnp.arange(batch_size)
        inside = jnp.minimum(position, capacity - 1)
        picked = chosen.indices[inside]
        weights = jnp.where(position < chosen.size, coefficients[inside], 0.0)
        part = batch_sum(data.images[picked], data.labels[picked], weights)
        return jax.tree.map(jnp.add, total, part)

    steps = -(-chosen.size // batch_size)
    return jax.lax.fori_loop(0, steps, body, jax.tree.map(jnp.zeros_like, like))


def gram_matrix(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, micro_batch: int
) -> Array:
    """GGᵀ of a subset's per-example gradients G; float32[capacity, capacity], 0 at the padding.

    Holds 2·micro_batch per-example gradients at a time: a block of rows is kept while the blocks
    of columns pass by, and only the upper triangle is computed. Gradients are evaluated about
    N²/(2·micro_batch) times.
    """
    capacity = chosen.indices.shape[0]
    blocks = -(-capacity // micro_batch)
    padded = blocks * micro_batch
    indices = jnp.pad(chosen.indices, (0, padded - capacity))
    weights = (jnp.arange(padded) < chosen.size).astype(jnp.float32)

    def rows(block: Array) -> Array:
        picked = jax.lax.dynamic_slice_in_dim(indices, block * micro_batch, micro_batch)
        kept = jax.lax.dynamic_slice_in_dim(weights, block * micro_batch, micro_batch)
        gradients = per_example_gradients(
            model, variables, data.images[picked], data.labels[picked]
        )
        return jax.vmap(lambda g: ravel_pytree(g)[0])(gradients) * kept[:, None]

    def fill_row(row: Array, gram: Array) -> Array:
        here = rows(row)

        def fill_block(column: Array, gram: Array) -> Array:
            product = jnp.dot(here, rows(column).T, precision="highest")
            corner = (row * micro_batch, column * micro_batch)
            gram = jax.lax.dynamic_update_slice(gram, product, corner)
            return jax.lax.dynamic_update_slice(gram, product.T, corner[::-1])

        return jax.lax.fori_loop(row, filled, fill_block, gram)

    filled = -(-chosen.size // micro_batch)
    gram = jax.lax.fori_loop(0, filled, fill_row, jnp.zeros((padded, padded), jnp.float32))
    return gram[:capacity, :capacity]


def fisher_solve(
    model: Model,
    variables: Variables,
    data: Dataset,
    chosen: Subset,
    vector: PyTree,
    *,
    damping: ArrayLike,
    micro_batch: int,
) -> PyTree:
    """(F + λI)⁻¹ v exactly, with F = GᵀG/N the empirical Fisher of the N examples of a subset.

    By Woodbury's identity, (λI + GᵀG/N)⁻¹ v = λ⁻¹ (v − Gᵀ(λN·I + GGᵀ)⁻¹ G v), so the d×d matrix is
    never formed. Gv is a forward-mode product and Gᵀa a reverse-mode one, a micro-batch at a time:
    only the Gram matrix needs gradients example by example.

    Memory: 2·micro_batch·d + 2·N² floats and a few copies of the parameters, for d parameters.

    Args:
      model: whose loss is meant.
      variables: where gradients are taken.
      data: all examples.
      chosen: the examples of F.
      vector: v, like the parameters.
      damping: λ > 0.
      micro_batch: examples at a time.
    """
    capacity = chosen.indices.shape[0]
    weights = members(chosen)

    def losses(params: PyTree) -> Array:
        def loss(index: Array) -> Array:
            image, label = data.images[index], data.labels[index]
            return example_losses(model, params, variables, image[None], label[None])[0]

        return weights * jax.lax.map(loss, chosen.indices, batch_size=min(micro_batch, capacity))

    _, product = jax.jvp(losses, (variables.params,), (vector,))
    gram = gram_matrix(model, variables, data, chosen, micro_batch=micro_batch)
    system = gram + damping * chosen.size * jnp.eye(capacity)
    solution = jax.scipy.linalg.solve(system, product, assume_a="pos")
    correction = weighted_gradient(
        model, variables, data, chosen, solution * weights, batch_size=micro_batch
    )
    return jax.tree.map(lambda v, c: (v - c) / damping, vector, correction)
