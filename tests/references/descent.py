"""SGD, Adam and AdamW as PyTorch documents them, spelled out in NumPy."""

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


def adam(params, gradients, *, learning_rate, weight_decay, decoupled, betas=(0.9, 0.999)):
    """Parameters after steps of Adam, or of AdamW if the weight decay is decoupled."""
    first = jax.tree.map(np.zeros_like, params)
    second = jax.tree.map(np.zeros_like, params)
    for step, gradient in enumerate(gradients, 1):
        slope = gradient(params)
        if decoupled:
            params = jax.tree.map(lambda p: p * (1 - learning_rate * weight_decay), params)
        else:
            slope = jax.tree.map(lambda g, p: g + weight_decay * p, slope, params)
        first = jax.tree.map(lambda m, g: betas[0] * m + (1 - betas[0]) * g, first, slope)
        second = jax.tree.map(lambda v, g: betas[1] * v + (1 - betas[1]) * g**2, second, slope)
        unbiased = 1 - betas[0] ** step, 1 - betas[1] ** step
        params = jax.tree.map(
            lambda p, m, v: (
                p - learning_rate * (m / unbiased[0]) / (np.sqrt(v / unbiased[1]) + 1e-8)  # noqa: B023
            ),
            params,
            first,
            second,
        )
    return params
