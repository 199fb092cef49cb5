"""SGD as PyTorch documents it, spelled out in NumPy, for one pass over given batches."""

import jax
import numpy as np


def sgd(params, gradients, *, learning_rate, momentum, weight_decay):
    """Parameters after steps along `gradients(params)`, a list of functions, one per step."""
    velocity = jax.tree.map(np.zeros_like, params)
    for gradient in gradients:
        decayed = jax.tree.map(lambda g, p: g + weight_decay * p, gradient(params), params)
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, decayed)
        params = jax.tree.map(lambda p, v: p - learning_rate * v, params, velocity)
    return params
