"""SGD as PyTorch documents it, spelled out in NumPy."""

import jax
import numpy as np


def sgd(params, gradients, *, learning_rate, momentum, weight_decay, mask=None):
    """Parameters after steps along `gradients(params)`, a list of functions, one per step.

    The learning rate is one for all steps or one for each; where the mask is False, nothing moves.
    """
    velocity = jax.tree.map(np.zeros_like, params)
    if mask is None:
        mask = jax.tree.map(lambda p: np.ones(p.shape, bool), params)
    rates = np.broadcast_to(learning_rate, len(gradients))
    for gradient, rate in zip(gradients, rates, strict=True):
        decayed = jax.tree.map(lambda g, p: g + weight_decay * p, gradient(params), params)
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, decayed)
        params = jax.tree.map(
            lambda p, v, m: np.where(m, p - rate * v, p),  # noqa: B023
            params,
            velocity,
            mask,
        )
    return params
