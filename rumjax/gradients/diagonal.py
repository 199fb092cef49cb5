"""Diagonals of the Fisher, and other means of what each example's gradient is, entry by entry.

Several published methods call the square of a batch's mean gradient the Fisher. That one depends on
the batch size and on the order of the examples; `batch_squared_gradient` is it, the others are not.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from rumjax.checks import check_point
from rumjax.errors import check_count
from rumjax.gradients.examples import example_losses, factored_vjp
from rumjax.gradients.subsets import fitting, mean_weights, members, sum_over
from rumjax.models import Model
from rumjax.models.dense import Name, by_name
from rumjax.types import Array, Dataset, PyTree, Subset, Variables

Slopes: TypeAlias = Callable[[Array, Array], Array]
"""What is differentiated: of logits float32[K] and a label, n gradients by these, float32[n, K]."""


def mean_squared_gradient(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, micro_batch: int = 32
) -> PyTree:
    """Returns the mean over a subset of every example's (∇_θ CE)², the empirical Fisher's diagonal.

    It uses the labels of the data, see `true_fisher_diagonal`, and running batch-norm statistics.

    Args:
      model: the architecture.
      variables: of the model.
      data: all examples.
      chosen: the subset; 0 is returned of one whose traced size is 0.
      micro_batch: examples whose gradients are held at a time; dense kernels' never are.

    Returns:
      Like the parameters, float32.

    Raises:
      InvalidInputError: model, variables, data and subset do not go together.

    Examples:
      >>> from rumjax.models import Cnn
      >>> from rumjax.types import subset
      >>> model = Model(Cnn(2, widths=(), hidden=4))
      >>> data = Dataset(jnp.ones((3, 2, 2, 1)), jnp.array([0, 1, 0]))
      >>> variables = model.init(jax.random.key(0), data.images)
      >>> fisher = mean_squared_gradient(model, variables, data, subset([0, 2]))
      >>> fisher["Dense_1"]["kernel"].shape
      (4, 2)
    """

    def slopes(logits: Array, label: Array) -> Array:
        return (jax.nn.softmax(logits) - _one_hot(logits)[label])[None]

    what = "squared gradient"
    return _mean_over(what, jnp.square, slopes, model, variables, data, chosen, micro_batch)


def true_fisher_diagonal(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, micro_batch: int = 32
) -> PyTree:
    """Returns the mean over a subset of Σ_y p(y|x)·(∇_θ CE(x, y))², the Fisher's diagonal.

    The labels are the model's own, those of the data do not matter. It takes K backward passes.

    Args:
      model: the architecture.
      variables: of the model.
      data: all examples.
      chosen: the subset; 0 is returned of one whose traced size is 0.
      micro_batch: examples of which two gradients are held at a time; dense kernels' never are.

    Returns:
      Like the parameters, float32.

    Raises:
      InvalidInputError: model, variables, data and subset do not go together.
    """

    # Squares and probabilities are multiplied by taking the roots of the latter first.
    def slopes(logits: Array, label: Array) -> Array:
        del label
        probabilities = jax.nn.softmax(logits)
        return jnp.sqrt(probabilities)[:, None] * (probabilities[None] - _one_hot(logits))

    what = "Fisher"
    return _mean_over(what, jnp.square, slopes, model, variables, data, chosen, micro_batch)


def mean_output_sensitivity(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, micro_batch: int = 32
) -> PyTree:
    """Returns the mean over a subset of |∇_θ ‖z(x)‖²|, z the logits; labels do not matter.

    It measures how much the outputs depend on a parameter (Aljundi et al., ECCV 2018).

    Args:
      model: the architecture.
      variables: of the model.
      data: all examples.
      chosen: the subset; 0 is returned of one whose traced size is 0.
      micro_batch: examples whose gradients are held at a time; dense kernels' never are.

    Returns:
      Like the parameters, float32.

    Raises:
      InvalidInputError: model, variables, data and subset do not go together.
    """

    def slopes(logits: Array, label: Array) -> Array:
        del label
        return 2 * logits[None]

    what = "output sensitivity"
    return _mean_over(what, jnp.abs, slopes, model, variables, data, chosen, micro_batch)


def batch_squared_gradient(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, batch_size: int
) -> PyTree:
    """Returns the mean over minibatches of (∇_θ of the batch's mean CE)², in the subset's order.

    Its expectation is ḡ² + σ²/B, of mean and variance of the gradients, so it depends on the batch
    size B. It is what released code of several methods calls the Fisher.

    Args:
      model: the architecture.
      variables: of the model.
      data: all examples.
      chosen: the subset; 0 is returned of one whose traced size is 0.
      batch_size: B; a last batch of fewer examples counts as much as any other.

    Returns:
      Like the parameters, float32.

    Raises:
      InvalidInputError: model, variables, data and subset do not go together.
    """
    what = "squared gradient of batches"
    variables, data = check_point(what, model, variables, data, chosen)

    def batch_square(images: Array, labels: Array, inside: Array) -> PyTree:
        def loss(params: PyTree) -> Array:
            losses = example_losses(model, params, variables, images, labels)
            return inside @ losses / jnp.maximum(inside.sum(), 1)

        return jax.tree.map(jnp.square, jax.grad(loss)(variables.params))

    total = sum_over(batch_square, variables.params, data, chosen, members(chosen), batch_size)
    batches = jnp.maximum(-(-chosen.size // batch_size), 1)
    return jax.tree.map(lambda leaf: leaf / batches, total)


def _one_hot(logits: Array) -> Array:
    """Returns the rows e_y of all K classes, float32[K, K]."""
    return jnp.eye(len(logits), dtype=logits.dtype)


def _mean_over(
    what: str,
    function: Callable[[Array], Array],
    slopes: Slopes,
    model: Model,
    variables: Variables,
    data: Dataset,
    chosen: Subset,
    micro_batch: int,
) -> PyTree:
    """Returns the mean over a subset of Σ_i f(Jᵀs_i), J the Jacobian of an example's logits.

    Args:
      what: the name used in messages.
      function: f, with f(ab) = f(a)·f(b), so that an outer product's is that of its factors.
      slopes: of logits and a label, all s_i.
      model: the architecture.
      variables: of the model.
      data: all examples.
      chosen: the subset.
      micro_batch: examples at a time.

    Returns:
      Like the parameters.
    """
    variables, data = check_point(what, model, variables, data, chosen)
    micro_batch = check_count("micro_batch", micro_batch)

    def example(image: Array, label: Array) -> tuple[dict[Name, Array], dict[Name, Array], PyTree]:
        def logits(params: PyTree) -> Array:
            outputs, _ = model.apply(variables._replace(params=params), image[None], train=False)
            return outputs.logits[0]

        value, inputs, pull = factored_vjp(logits, variables.params)

        def term(slope: Array) -> PyTree:
            return jax.tree.map(function, pull(slope))

        def add(total: PyTree, slope: Array) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, term(slope)), None

        # Of several slopes, one after another; the inputs of dense layers are the same for all.
        wanted = slopes(value, label)
        if len(wanted) == 1:
            total = term(wanted[0])
        else:
            nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(term, wanted[0]))
            total, _ = jax.lax.scan(add, nothing, wanted)
        plain, steep = total
        return plain, jax.tree.map(function, inputs), steep

    def batch_sum(images: Array, labels: Array, weights: Array) -> PyTree:
        plain, inputs, steep = jax.vmap(example)(images, labels)
        # Not as a product: it would first write out every example's squares.
        sums = {
            name: (weights.reshape(-1, *[1] * (leaf.ndim - 1)) * leaf).sum(0)
            for name, leaf in plain.items()
        }
        for kernel, left in inputs.items():
            weighted = (weights[:, None] * left).T
            sums[kernel] = jnp.dot(weighted, steep[kernel], precision="highest")
        leaves = [sums[name] for name in by_name(variables.params)]
        return jax.tree.unflatten(jax.tree.structure(variables.params), leaves)

    # Fewer at a time where what is held of each would not fit; only large networks need a look.
    if fitting(variables.params, micro_batch) < micro_batch:
        one = jax.tree.map(lambda leaf: leaf[0], (data.images[:1], data.labels[:1]))
        held, _, _ = jax.eval_shape(example, *one)
        micro_batch = fitting(held, micro_batch)

    weights = mean_weights(chosen)
    return sum_over(batch_sum, variables.params, data, chosen, weights, micro_batch)
