"""The damped empirical Fisher of a subset: its Gram matrix, and linear systems solved with it."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.checks import check_point
from rumjax.errors import InvalidInputError, check_count, check_scalar
from rumjax.gradients.examples import example_losses, factored
from rumjax.gradients.subsets import members, weighted_gradient
from rumjax.models import Model
from rumjax.models.checks import check_variables
from rumjax.types import Array, Dataset, PyTree, Subset, Variables

HELD = 2**30
"""Bytes of per-example gradients that a Gram matrix may hold, a device and model."""


class Rows(NamedTuple):
    """Per-example gradients of n examples, those of dense kernels as factors of outer products.

    A dense layer's gradient is an outer product, of its input and the slope of its output, and
    ⟨a⊗b, c⊗d⟩ = ⟨a, c⟩⟨b, d⟩: a Gram matrix needs neither the product's memory nor its arithmetic.
    """

    plain: Array
    """of all other parameters, float32[n, d']"""
    factors: tuple[tuple[Array, Array], ...]
    """of each dense kernel, float32[n, inputs] and float32[n, outputs]"""

    def times(self, others: "Rows") -> Array:
        """Returns the inner products with the gradients of m others, float32[n, m]."""
        products = _inner(self.plain, others.plain)
        for (here, slopes), (there, others_slopes) in zip(
            self.factors, others.factors, strict=True
        ):
            products += _inner(here, there) * _inner(slopes, others_slopes)
        return products


def _inner(left: Array, right: Array) -> Array:
    """Returns the inner products of all rows with all rows, in full precision."""
    return jnp.dot(left, right.T, precision="highest")


def gradient_rows(
    model: Model, variables: Variables, data: Dataset, indices: Array, *, micro_batch: int
) -> Rows:
    """Returns ∇_θ CE of examples int32[n], a micro-batch at a time."""
    chex.assert_rank(indices, 1)

    def row(index: Array) -> Rows:
        plain, factors = factored(model, variables, data.images[index], data.labels[index])
        ravelled = [jnp.zeros(0, jnp.float32), *(leaf.ravel() for leaf in plain.values())]
        return Rows(jnp.concatenate(ravelled), tuple(factors.values()))

    return jax.lax.map(row, indices, batch_size=micro_batch)


def gram_matrix(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, micro_batch: int
) -> Array:
    """Returns GGᵀ of a subset's per-example gradients G; float32[capacity, capacity].

    It is 0 at the padding. `HELD` bytes of gradients are held, as `Rows`, or two micro-batches if
    that is more. If all fit, they are one product. Else a block of rows is kept while the blocks of
    columns pass by, only the upper triangle is computed, and gradients are evaluated about
    N²/(2·block) times.
    """
    variables, data = check_point("Gram matrix", model, variables, data, chosen)
    micro_batch = check_count("micro_batch", micro_batch)

    # Whole blocks of examples, and 0 for those that fill the last one.
    capacity = chosen.indices.shape[0]
    block = _block_size(model, variables, data, capacity, micro_batch)
    blocks = -(-capacity // block)
    padded = blocks * block
    indices = jnp.pad(chosen.indices, (0, padded - capacity))
    weights = (jnp.arange(padded) < chosen.size).astype(jnp.float32)

    def rows(number: Array) -> Rows:
        picked = jax.lax.dynamic_slice_in_dim(indices, number * block, block)
        kept = jax.lax.dynamic_slice_in_dim(weights, number * block, block)[:, None]
        gradients = gradient_rows(model, variables, data, picked, micro_batch=micro_batch)
        return jax.tree.map(lambda leaf: leaf * kept, gradients)

    # A row of blocks: the square on the diagonal, then each block to its right with its mirror.
    def fill_row(row: Array, gram: Array) -> Array:
        here = rows(row)

        def fill_block(column: Array, gram: Array) -> Array:
            product = here.times(rows(column))
            corner = (row * block, column * block)
            gram = jax.lax.dynamic_update_slice(gram, product, corner)
            return jax.lax.dynamic_update_slice(gram, product.T, corner[::-1])

        square = here.times(here)
        square = (square + square.T) / 2  # rounding need not be symmetric
        gram = jax.lax.dynamic_update_slice(gram, square, (row * block, row * block))
        if blocks == 1:
            return gram  # without room for a second block
        return jax.lax.fori_loop(row + 1, filled, fill_block, gram)

    filled = -(-chosen.size // block)
    gram = jax.lax.fori_loop(0, filled, fill_row, jnp.zeros((padded, padded), jnp.float32))
    return gram[:capacity, :capacity]


def gram_evaluations(
    model: Model, variables: Variables, data: Dataset, count: int, *, micro_batch: int
) -> int:
    """Returns how many gradients `gram_matrix` takes of a subset of so many examples.

    Examples:
      >>> import jax
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((8, 4, 4, 1), jnp.uint8)
      >>> like = jax.eval_shape(model.init, jax.random.key(0), images)
      >>> data = Dataset(images, jnp.zeros(8, jnp.int32))
      >>> gram_evaluations(model, like, data, 6, micro_batch=4)
      6
    """
    # Every block is taken once as rows, and once for each block before it as columns.
    block = _block_size(model, variables, data, count, micro_batch)
    sizes = [min(block, count - start) for start in range(0, count, block)]
    return sum((1 + earlier) * size for earlier, size in enumerate(sizes))


def _block_size(
    model: Model, variables: Variables, data: Dataset, capacity: int, micro_batch: int
) -> int:
    """Returns the number of examples in a block: a multiple of the micro-batch."""
    one = jax.eval_shape(
        lambda variables, index: gradient_rows(model, variables, data, index, micro_batch=1),
        variables,  # of which the shapes may be all that is known
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )
    fitting = HELD // (4 * sum(leaf.size for leaf in jax.tree.leaves(one)))
    # Two blocks are held unless there is only one.
    steps = -(-capacity // micro_batch) if capacity <= fitting else fitting // 2 // micro_batch
    return max(1, steps) * micro_batch


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
    """Solves (F + λI) x = v exactly, F = GᵀG/N the empirical Fisher of the N examples of a subset.

    By Woodbury's identity, x = (λI + GᵀG/N)⁻¹ v = λ⁻¹ (v − Gᵀ(λN·I + GGᵀ)⁻¹ G v), so the d×d matrix
    is never formed. Gv is a forward-mode product and Gᵀa a reverse-mode one, a micro-batch at a
    time: only the Gram matrix needs gradients example by example.

    Memory: that of `gram_matrix`, micro_batch·d + 2·N² floats and a few copies of the parameters,
    for d parameters.

    Args:
      model: the architecture, whose loss is CE.
      variables: the point at which gradients are taken.
      data: all examples.
      chosen: the examples of F.
      vector: v, like the parameters.
      damping: λ > 0.
      micro_batch: examples at a time.

    Returns:
      x, like the parameters.
    """
    variables, data = check_point("Fisher", model, variables, data, chosen)
    micro_batch = check_count("micro_batch", micro_batch)
    if not isinstance(damping, jax.core.Tracer) and not check_scalar("damping", damping) > 0:
        raise InvalidInputError("damping: wanted a number above 0, got 0")
    vector = check_variables(
        "vector", model, Variables(vector, variables.batch_stats), data.images
    ).params
    capacity = chosen.indices.shape[0]
    weights = members(chosen)

    def losses(params: PyTree) -> Array:
        def loss(index: Array) -> Array:
            image, label = data.images[index], data.labels[index]
            return example_losses(model, params, variables, image[None], label[None])[0]

        return weights * jax.lax.map(loss, chosen.indices, batch_size=min(micro_batch, capacity))

    # G v and GGᵀ.
    _, product = jax.jvp(losses, (variables.params,), (vector,))
    gram = gram_matrix(model, variables, data, chosen, micro_batch=micro_batch)

    # The system of N equations, and its solution carried back to the parameters.
    system = gram + damping * chosen.size * jnp.eye(capacity, dtype=jnp.float32)
    solution = jax.scipy.linalg.solve(system, product, assume_a="pos")
    correction = weighted_gradient(
        model, variables, data, chosen, solution * weights, batch_size=micro_batch
    )
    return jax.tree.map(lambda v, c: (v - c) / damping, vector, correction)
