"""Gradients over whole subsets in bounded memory: means, per-example ones, and the damped Fisher.

All are taken with the running batch-norm statistics (`train=False`), so that one example's gradient
does not depend on its neighbors. Everything here is pure and may be compiled, vmapped or mapped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from rumjax.mesh import across_devices
from rumjax.models import Model
from rumjax.models.dense import Name, by_name, dense_layers
from rumjax.types import AnyArray, Array, Dataset, PyTree, Subset, Variables

HELD = 2**30
"""Bytes of per-example gradients that a Gram matrix may hold, a device and model."""


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
    plain, factors = jax.vmap(lambda image, label: _factored(model, variables, image, label))(
        jnp.asarray(images), jnp.asarray(labels)
    )
    # Written at once, they are quicker than as products of one column and one row.
    dense = {kernel: a[:, :, None] * slope[:, None] for kernel, (a, slope) in factors.items()}
    leaves = [(plain | dense)[name] for name in by_name(variables.params)]
    return jax.tree.unflatten(jax.tree.structure(variables.params), leaves)


def _factored(
    model: Model, variables: Variables, image: Array, label: Array
) -> tuple[dict[Name, Array], dict[Name, tuple[Array, Array]]]:
    """∇_θ CE of one example by parameter, dense kernels' as the factors of an outer product.

    These are what `rumjax.models.dense.dense_layers` hears of layers that are applied once.
    """

    def loss(params: PyTree, noise: dict[Name, Array]) -> Any:
        with dense_layers(params, noise) as seen:
            found = example_losses(model, params, variables, image[None], label[None])[0]
        return found, seen

    _, seen = jax.eval_shape(loss, variables.params, {})
    once = {kernel: calls[0][1] for kernel, calls in seen.items() if len(calls) == 1}
    noise = {kernel: jnp.zeros(like.shape, like.dtype) for kernel, like in once.items()}
    slope = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (gradient, slopes), seen = slope(variables.params, noise)
    plain = {name: leaf for name, leaf in by_name(gradient).items() if name not in once}
    float32 = jnp.float32  # as parameters are, whatever a layer computes in
    factors = {
        kernel: (seen[kernel][0][0][0].astype(float32), slopes[kernel][0].astype(float32))
        for kernel in once
    }
    return plain, factors


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


def loss_curvature(
    model: Model,
    variables: Variables,
    images: AnyArray,
    labels: AnyArray,
    *,
    step: float = 0.01,
    batch_size: int = 256,
) -> Array:
    """‖∇_x CE(x + h·z) − ∇_x CE(x)‖ of every example, z the sign of ∇_x CE(x) scaled to norm 1.

    How fast the loss bends around an image, by a finite difference in the direction in which it
    grows; averaged over the epochs of training it is a proxy of memorization (Garg et al., ICML
    2024). An example without a gradient has 0.

    Args:
      model: the architecture.
      variables: of the model.
      images: uint8[N, H, W, C], or floats on the scale of 0…1.
      labels: int32[N].
      step: h, on the scale of 0…1.
      batch_size: examples at a time.

    Returns:
      float32[N].
    """

    def batch(images: Array, labels: Array) -> Array:
        def total(inputs: Array) -> Array:
            return example_losses(model, variables.params, variables, inputs, labels).sum()

        slope = jax.grad(total)
        inputs = images / 255 if images.dtype == jnp.uint8 else images
        before = slope(inputs)
        sign = jnp.sign(before)
        norm = jnp.sqrt(jnp.sum(sign**2, axis=(1, 2, 3), keepdims=True))
        after = slope(inputs + step * sign / jnp.maximum(norm, 1))
        return jnp.sqrt(jnp.sum((after - before) ** 2, axis=(1, 2, 3)))

    return _in_batches(batch, images, labels, batch_size)


def self_influence(
    model: Model,
    variables: Variables,
    images: AnyArray,
    labels: AnyArray,
    *,
    batch_size: int = 32,
) -> Array:
    """‖∇_θ CE‖² of every example: how much a step on it lowers its own loss.

    TracIn's self-influence (Pruthi et al., NeurIPS 2020, section 3) for one checkpoint, without the
    learning rate.

    Args:
      model: the architecture.
      variables: of the model.
      images: uint8[N, H, W, C], or floats on the scale of 0…1.
      labels: int32[N].
      batch_size: examples whose gradients are held at a time; dense kernels' never are.

    Returns:
      float32[N].
    """

    def norm(image: Array, label: Array) -> Array:
        plain, factors = _factored(model, variables, image, label)
        # The squared norm of an outer product is the product of its factors'.
        dense = (jnp.sum(a**2) * jnp.sum(slope**2) for a, slope in factors.values())
        return sum((jnp.sum(leaf**2) for leaf in plain.values()), start=sum(dense, jnp.float32(0)))

    return _in_batches(jax.vmap(norm), images, labels, batch_size)


def _in_batches(
    function: Callable[[Array, Array], Array],
    images: AnyArray,
    labels: AnyArray,
    batch_size: int,
) -> Array:
    """A function of images and labels, float32[B], on N of them, which may be 0; a batch at a time.

    What fills the last batch is black and of class 0.
    """
    count = len(labels)
    batch_size = max(1, min(batch_size, count))
    batches = -(-count // batch_size)

    def cut(array: AnyArray) -> Array:
        fill = ((0, batches * batch_size - count), *[(0, 0)] * (array.ndim - 1))
        return jnp.pad(array, fill).reshape(batches, batch_size, *array.shape[1:])

    found = jax.lax.map(lambda batch: function(*batch), (cut(images), cut(labels)))
    return found.reshape(-1)[:count]


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
        batch = across_devices((data.images[picked], data.labels[picked], weights))
        part = batch_sum(*batch)
        return jax.tree.map(jnp.add, total, part)

    steps = -(-chosen.size // batch_size)
    return jax.lax.fori_loop(0, steps, body, jax.tree.map(jnp.zeros_like, like))


class Rows(NamedTuple):
    """Per-example gradients of n examples, those of dense kernels as the factors they are made of.

    A dense layer's gradient is an outer product, of its input and the slope of its output, and
    ⟨a⊗b, c⊗d⟩ = ⟨a, c⟩⟨b, d⟩: a Gram matrix needs neither the product's memory nor its arithmetic.
    """

    plain: Array
    """of all other parameters, float32[n, d']"""
    factors: tuple[tuple[Array, Array], ...]
    """of each dense kernel, float32[n, inputs] and float32[n, outputs]"""

    def times(self, others: "Rows") -> Array:
        """The inner products with the gradients of m others, float32[n, m]."""
        found = _inner(self.plain, others.plain)
        for (here, slopes), (there, others_slopes) in zip(
            self.factors, others.factors, strict=True
        ):
            found += _inner(here, there) * _inner(slopes, others_slopes)
        return found


def _inner(left: Array, right: Array) -> Array:
    return jnp.dot(left, right.T, precision="highest")


def gradient_rows(
    model: Model, variables: Variables, data: Dataset, indices: Array, *, micro_batch: int
) -> Rows:
    """∇_θ CE of examples int32[n], a micro-batch at a time."""

    def row(index: Array) -> Rows:
        plain, factors = _factored(model, variables, data.images[index], data.labels[index])
        ravelled = [jnp.zeros(0), *(leaf.ravel() for leaf in plain.values())]
        return Rows(jnp.concatenate(ravelled), tuple(factors.values()))

    return jax.lax.map(row, indices, batch_size=micro_batch)


def gram_matrix(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, micro_batch: int
) -> Array:
    """GGᵀ of a subset's per-example gradients G; float32[capacity, capacity], 0 at the padding.

    Holds `HELD` bytes of gradients, as `Rows`, or two micro-batches if that is more. What fits is
    one product. Else a block of rows is kept while the blocks of columns pass by, only the upper
    triangle is computed, and gradients are evaluated about N²/(2·block) times.
    """
    capacity = chosen.indices.shape[0]
    block = _block_size(model, variables, data, capacity, micro_batch)
    blocks = -(-capacity // block)
    padded = blocks * block
    indices = jnp.pad(chosen.indices, (0, padded - capacity))
    weights = (jnp.arange(padded) < chosen.size).astype(jnp.float32)

    def rows(number: Array) -> Rows:
        picked = jax.lax.dynamic_slice_in_dim(indices, number * block, block)
        kept = jax.lax.dynamic_slice_in_dim(weights, number * block, block)[:, None]
        found = gradient_rows(model, variables, data, picked, micro_batch=micro_batch)
        return jax.tree.map(lambda leaf: leaf * kept, found)

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


def _block_size(
    model: Model, variables: Variables, data: Dataset, capacity: int, micro_batch: int
) -> int:
    """How many examples' gradients make a block: a multiple of the micro-batch."""
    one = jax.eval_shape(
        lambda index: gradient_rows(model, variables, data, index, micro_batch=1),
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
    """(F + λI)⁻¹ v exactly, with F = GᵀG/N the empirical Fisher of the N examples of a subset.

    By Woodbury's identity, (λI + GᵀG/N)⁻¹ v = λ⁻¹ (v − Gᵀ(λN·I + GGᵀ)⁻¹ G v), so the d×d matrix is
    never formed. Gv is a forward-mode product and Gᵀa a reverse-mode one, a micro-batch at a time:
    only the Gram matrix needs gradients example by example.

    Memory: what `gram_matrix` holds, micro_batch·d + 2·N² floats and a few copies of the
    parameters, for d parameters.

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
