"""What a model says of images: outputs, margins, embeddings."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rumjax.errors import InvalidInputError, check_count
from rumjax.models.checks import check_images, check_labels_of, check_logits, check_variables
from rumjax.models.model import Model
from rumjax.types import AnyArray, Array, Outputs, Variables


def predict(
    model: Model, variables: Variables, images: AnyArray, *, batch_size: int = 512
) -> Outputs:
    """Returns outputs on [N, H, W, C] images, a batch at a time, with running statistics.

    Args:
      model: the architecture.
      variables: of the model.
      images: uint8 or floats; N may be 0.
      batch_size: images at a time.

    Raises:
      InvalidInputError: images of another form, or variables of another network.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(3, widths=(4,), hidden=8)), jnp.zeros((5, 4, 4, 1), jnp.uint8)
      >>> outputs = predict(model, model.init(jax.random.key(0), images), images, batch_size=2)
      >>> outputs.logits.shape, outputs.embeddings.shape
      ((5, 3), (5, 8))
    """
    images = check_images("images", images)
    variables = check_variables("variables", model, variables, images)
    batch_size = check_count("batch_size", batch_size)

    # Of no images the network need not be asked.
    count = len(images)
    if count == 0:
        _, classes, width = model.signature(images)
        return Outputs(jnp.zeros((0, classes)), jnp.zeros((0, width)))
    batch_size = min(batch_size, count)
    on_device: Any = jax.tree.map(jnp.asarray, images)  # arrays, or rows
    return _outputs(model, batch_size, variables, on_device)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _outputs(model: Model, batch_size: int, variables: Variables, images: Any) -> Outputs:
    """Returns outputs on one image or more, by a program for a model and the form of images."""
    count = len(images)
    batches = -(-count // batch_size)
    positions = jnp.minimum(jnp.arange(batches * batch_size), count - 1)

    def outputs(chosen: Array) -> Outputs:
        return model.apply(variables, images[chosen], train=False)[0]

    # One batch after another, the last one filled up with the last image, and the filling cut off.
    stacked = jax.lax.map(outputs, positions.reshape(batches, batch_size))
    return jax.tree.map(
        lambda leaf: leaf.reshape(batches * batch_size, leaf.shape[-1])[:count], stacked
    )


def margins(logits: Array, labels: AnyArray) -> Array:
    """Returns the margin φ = z_y − logsumexp(z_{k≠y}) of every example, z the logits, y its label.

    It is the logit of the true label's probability: p_y = 1 / (1 + exp(−φ)). For logits on the
    host, `rumjax.audits.margins` does the same in NumPy.

    Args:
      logits: float32[B, K], of two classes or more.
      labels: int32[B].

    Returns:
      float32[B].

    Raises:
      InvalidInputError: labels of no class, or not one for each row of logits.

    Examples:
      >>> margins(jnp.array([[2.0, 0.0], [1.0, 3.0]]), jnp.array([0, 0])).tolist()
      [2.0, -2.0]
    """
    logits = check_logits(logits)
    labels = check_labels_of("labels", labels, len(logits), logits.shape[1])
    position = jnp.arange(len(labels))
    true = logits[position, labels]
    others = logits.at[position, labels].set(-jnp.inf)
    return true - jax.nn.logsumexp(others, axis=-1)


def require_embeddings(outputs: Outputs) -> Array:
    """Returns the embeddings, float32[B, E] with E of at least 1.

    Raises:
      InvalidInputError: the model has none.

    Examples:
      >>> require_embeddings(Outputs(jnp.zeros((2, 3)), jnp.zeros((2, 8)))).shape
      (2, 8)
    """
    if outputs.embeddings.shape[-1] == 0:
        raise InvalidInputError(
            "the model returns logits alone, but its embeddings are needed: let its module return "
            "(logits, embeddings)"
        )
    return outputs.embeddings
