"""Gradients of single examples: with respect to parameters, and of the loss around an image."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rumjax.checks import check_point
from rumjax.errors import check_count, check_scalar
from rumjax.models import Model
from rumjax.models.checks import check_labels_of
from rumjax.models.dense import Name, by_name, dense_layers
from rumjax.types import AnyArray, Array, PyTree, Variables


def example_losses(
    model: Model, params: PyTree, variables: Variables, images: AnyArray, labels: AnyArray
) -> Array:
    """Returns the cross-entropy of every example under `params`, float32[B].

    Raises:
      InvalidInputError: images that the model does not take, or labels of no class of it.
    """
    outputs, _ = model.apply(variables._replace(params=params), images, train=False)
    labels = check_labels_of("labels", labels, len(images), outputs.logits.shape[-1])
    return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)


def per_example_gradients(
    model: Model, variables: Variables, images: AnyArray, labels: AnyArray
) -> PyTree:
    """Returns ∇_θ CE of every example: like the parameters, with a leading axis B.

    It takes B times the memory of the parameters: keep B small and go on in micro-batches.

    Raises:
      InvalidInputError: images, labels and variables do not go with the model.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.ones((3, 2, 2, 1))
      >>> variables = model.init(jax.random.key(0), images)
      >>> gradients = per_example_gradients(model, variables, images, jnp.array([0, 1, 0]))
      >>> gradients["Dense_1"]["kernel"].shape
      (3, 4, 2)
    """
    variables, data = check_point(
        "per-example gradients", model, variables, (images, labels), allow_empty=True
    )
    plain, factors = jax.vmap(lambda image, label: factored(model, variables, image, label))(*data)
    # Written at once, they are quicker than as products of one column and one row.
    dense = {kernel: a[:, :, None] * slope[:, None] for kernel, (a, slope) in factors.items()}
    leaves = [(plain | dense)[name] for name in by_name(variables.params)]
    return jax.tree.unflatten(jax.tree.structure(variables.params), leaves)


def factored(
    model: Model, variables: Variables, image: Array, label: Array
) -> tuple[dict[Name, Array], dict[Name, tuple[Array, Array]]]:
    """Returns ∇_θ CE of one example by parameter, dense kernels' as factors of an outer product.

    `rumjax.models.dense.dense_layers` records the factors of layers that are applied once.
    """

    def loss(params: PyTree) -> Array:
        return example_losses(model, params, variables, image[None], label[None])[0]

    value, inputs, pull = factored_vjp(loss, variables.params)
    plain, slopes = pull(jnp.ones_like(value))
    return plain, {kernel: (inputs[kernel], slope) for kernel, slope in slopes.items()}


def factored_vjp(
    function: Callable[[PyTree], Array], params: PyTree
) -> tuple[
    Array, dict[Name, Array], Callable[[Array], tuple[dict[Name, Array], dict[Name, Array]]]
]:
    """Returns a function's value for one example, and pulls gradients of it back to parameters.

    Args:
      function: of the parameters; it applies a model to one image.
      params: of the model.

    Returns:
      The value; the inputs of dense layers that are applied once, by the path of their kernel; and
      a function of a gradient like the value, which returns that of all other parameters by path,
      and the slopes of the outputs of those dense layers. A kernel's gradient is the outer product
      of its layer's input and slope.
    """

    def recorded(params: PyTree, noise: dict[Name, Array]) -> Any:
        with dense_layers(params, noise) as seen:
            value = function(params)
        return value, seen

    # The dense kernels that are used once, and zeros to add to their layers' outputs.
    _, seen = jax.eval_shape(recorded, params, {})
    once = {kernel: calls[0][1] for kernel, calls in seen.items() if len(calls) == 1}
    noise = {kernel: jnp.zeros(like.shape, like.dtype) for kernel, like in once.items()}
    float32 = jnp.float32  # as parameters are, whatever a layer computes in

    # The gradients of those zeros are the slopes of the outputs.
    value, vjp, seen = jax.vjp(recorded, params, noise, has_aux=True)
    inputs = {kernel: seen[kernel][0][0][0].astype(float32) for kernel in once}

    def pull(gradient: Array) -> tuple[dict[Name, Array], dict[Name, Array]]:
        leaves, slopes = vjp(gradient)
        plain = {name: leaf for name, leaf in by_name(leaves).items() if name not in once}
        return plain, {kernel: slopes[kernel][0].astype(float32) for kernel in once}

    return value, inputs, pull


def loss_curvature(
    model: Model,
    variables: Variables,
    images: AnyArray,
    labels: AnyArray,
    *,
    step: float = 0.01,
    batch_size: int = 256,
) -> Array:
    """Returns ‖∇_x CE(x + h·z) − ∇_x CE(x)‖ of every example, z the sign of ∇_x CE(x) at norm 1.

    It measures the curvature of the loss around an image, by a finite difference in the direction
    in which the loss grows; averaged over the epochs of training it is a proxy of memorization
    (Garg et al., ICML 2024). An example without a gradient has 0.

    Args:
      model: the architecture.
      variables: of the model.
      images: uint8[N, H, W, C], or floats on the scale of 0…1.
      labels: int32[N].
      step: h, on the scale of 0…1.
      batch_size: examples at a time.

    Returns:
      float32[N].

    Raises:
      InvalidInputError: images, labels and variables do not go with the model.
    """
    variables, data = check_point(
        "loss curvature", model, variables, (images, labels), allow_empty=True
    )
    step = check_scalar("step", step, least=float(np.finfo(np.float32).tiny))

    # The sum of the losses has every example's gradient, since examples do not interact.
    def batch(images: Array, labels: Array) -> Array:
        def total(inputs: Array) -> Array:
            return example_losses(model, variables.params, variables, inputs, labels).sum()

        slope = jax.grad(total)
        inputs = images / 255 if images.dtype == jnp.uint8 else images

        # The gradient before and after a step in the direction of its sign.
        before = slope(inputs)
        sign = jnp.sign(before)
        norm = jnp.sqrt(jnp.sum(sign**2, axis=(1, 2, 3), keepdims=True))
        after = slope(inputs + step * sign / jnp.maximum(norm, 1))
        return jnp.sqrt(jnp.sum((after - before) ** 2, axis=(1, 2, 3)))

    return _in_batches(batch, *data, batch_size)


def self_influence(
    model: Model,
    variables: Variables,
    images: AnyArray,
    labels: AnyArray,
    *,
    batch_size: int = 32,
) -> Array:
    """Returns ‖∇_θ CE‖² of every example, by which a small step on it lowers its own loss.

    It is TracIn's self-influence (Pruthi et al., NeurIPS 2020, section 3) for one checkpoint,
    without the learning rate.

    Args:
      model: the architecture.
      variables: of the model.
      images: uint8[N, H, W, C], or floats on the scale of 0…1.
      labels: int32[N].
      batch_size: examples whose gradients are held at a time; dense kernels' never are.

    Returns:
      float32[N].

    Raises:
      InvalidInputError: images, labels and variables do not go with the model.
    """
    variables, data = check_point(
        "self-influence", model, variables, (images, labels), allow_empty=True
    )

    def norm(image: Array, label: Array) -> Array:
        plain, factors = factored(model, variables, image, label)
        # The squared norm of an outer product is the product of its factors'.
        dense = (jnp.sum(a**2) * jnp.sum(slope**2) for a, slope in factors.values())
        return sum((jnp.sum(leaf**2) for leaf in plain.values()), start=sum(dense, jnp.float32(0)))

    return _in_batches(jax.vmap(norm), *data, batch_size)


def _in_batches(
    function: Callable[[Array, Array], Array],
    images: AnyArray,
    labels: AnyArray,
    batch_size: int,
) -> Array:
    """Maps a function of images and labels over N examples, which may be 0, a batch at a time.

    The last batch is filled up with the last example.

    Args:
      function: of B images and labels; returns float32[B].
      images: of all N examples.
      labels: int32[N].
      batch_size: B, at most.

    Returns:
      float32[N].
    """
    count = len(labels)
    if count == 0:
        return jnp.zeros(0)
    batch_size = min(check_count("batch_size", batch_size), count)
    batches = -(-count // batch_size)

    positions = jnp.minimum(jnp.arange(batches * batch_size), count - 1)

    def batch(chosen: Array) -> Array:
        return function(images[chosen], labels[chosen])

    values = jax.lax.map(batch, positions.reshape(batches, batch_size))
    return values.reshape(-1)[:count]
