"""Losses of a batch: cross-entropy, and divergences from what a teacher says."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from rumjax.types import Array, Batch


def cross_entropy(logits: Array, batch: Batch, *, smoothing: ArrayLike | None = None) -> Array:
    """Returns the mean cross-entropy of float32[B, K] logits over examples of weight 1; float32[].

    `smoothing`, in 0…1, is the share of a label that all K classes get alike, its own as well
    (Szegedy et al., CVPR 2016). At 0 the loss and its gradient are those without, to the bit.

    Examples:
      >>> images, weights = jnp.zeros((2, 4, 4, 1)), jnp.array([1.0, 0.0])
      >>> batch = Batch(images, jnp.array([0, 1]), weights, None, jnp.arange(2))
      >>> round(float(cross_entropy(jnp.zeros((2, 2)), batch)), 3)
      0.693
    """
    chex.assert_rank([logits, batch.labels], [2, 1])
    chex.assert_equal_shape_prefix([logits, batch.labels], 1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    if smoothing is not None:
        of_all_classes = -jax.nn.log_softmax(logits).mean(axis=-1)
        losses += smoothing * (of_all_classes - losses)
    return weighted_mean(losses, batch.weights)


def weighted_mean(values: Array, weights: Array) -> Array:
    """Returns the mean of float32[B] with weights 0 or 1; 0 if all weights are 0."""
    chex.assert_equal_shape([values, weights])
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


@jax.custom_jvp
def soft_cross_entropy(targets: Array, logits: Array) -> Array:
    """Returns −Σ_k q_k log softmax(z)_k of every example; targets q are constants.

    Its derivative by z is softmax(z) − q, computed as such: where a student equals its teacher it
    is 0, and not a rounding error, of which Adam would make a whole step.

    Args:
      targets: q, float32[B, K], whose rows sum to 1.
      logits: z, float32[B, K].

    Returns:
      float32[B].

    Examples:
      >>> round(float(soft_cross_entropy(jnp.array([[0.5, 0.5]]), jnp.zeros((1, 2)))[0]), 3)
      0.693
    """
    chex.assert_rank(logits, 2)
    chex.assert_equal_shape([targets, logits])
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


@soft_cross_entropy.defjvp
def _slope(primals: tuple[Array, Array], tangents: tuple[Any, Array]) -> tuple[Array, Array]:
    """Returns the cross-entropy, and its derivative along a change of the logits."""
    targets, logits = primals
    change = jnp.sum((jax.nn.softmax(logits) - targets) * tangents[1], axis=-1)
    return soft_cross_entropy(targets, logits), change


def relative_entropy(targets: Array, logits: Array, weights: Array) -> Array:
    """Returns KL(q‖softmax(z)), its mean over examples of weight 1; float32[].

    Args:
      targets: q, float32[B, K], constants whose rows sum to 1.
      logits: z, float32[B, K].
      weights: 0 or 1, float32[B].
    """
    entropy = jnp.sum(jax.scipy.special.entr(targets), axis=-1)
    return weighted_mean(soft_cross_entropy(targets, logits) - entropy, weights)


def distillation_loss(
    teacher_logits: Array, student_logits: Array, weights: Array, temperature: Array
) -> Array:
    """Returns T²·KL(softmax(teacher/T)‖softmax(student/T)), its mean over examples of weight 1.

    T² keeps gradients comparable across temperatures (Hinton et al., 2015).

    Args:
      teacher_logits: float32[B, K], constants.
      student_logits: float32[B, K].
      weights: 0 or 1, float32[B].
      temperature: T, float32[].

    Returns:
      float32[].
    """
    targets = jax.nn.softmax(teacher_logits / temperature)
    return temperature**2 * relative_entropy(targets, student_logits / temperature, weights)
