"""A small convolutional network that trains in seconds on a CPU."""

import flax.linen as nn
import jax.numpy as jnp

from rumjax.models.convolution import Conv
from rumjax.types import Array, Outputs


class Cnn(nn.Module):
    """Three 3×3 convolutions of stride 2, a hidden layer, no batch norm."""

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Outputs:
        """float[B, H, W, C] to logits and the hidden layer's activations."""
        found = images
        for width in self.widths:
            found = nn.relu(Conv(width, strides=(2, 2), use_bias=True, dtype=self.dtype)(found))
        found = found.reshape(found.shape[0], -1)
        found = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(found)).astype(jnp.float32)
        return Outputs(nn.Dense(self.num_classes)(found), found)
