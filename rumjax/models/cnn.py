"""A small convolutional network that trains in seconds on a CPU."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rumjax.models.conv import Conv, Dense
from rumjax.types import Array, Outputs


class Cnn(nn.Module):
    """Three 3×3 convolutions of stride 2, a hidden layer, no batch norm.

    Kernels start He-normal by fan in, since strides and one-channel images would make fan out fade
    the signal; the last layer starts as Linen's default (LeCun-normal), biases at 0.

    Examples:
      >>> Cnn(num_classes=10, widths=(4, 8), hidden=16).hidden
      16
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C] to logits and the hidden layer; `train` changes nothing."""
        del train
        he_fan_in = nn.initializers.he_normal()
        # Convolutions, then the hidden layer, whose activations are the embeddings.
        hidden = images
        for width in self.widths:
            convolve = Conv(
                width, strides=(2, 2), use_bias=True, dtype=self.dtype, kernel_init=he_fan_in
            )
            hidden = nn.relu(convolve(hidden))
        hidden = hidden.reshape(hidden.shape[0], -1)
        hidden = nn.relu(Dense(self.hidden, dtype=self.dtype, kernel_init=he_fan_in)(hidden))
        hidden = hidden.astype(jnp.float32)
        return Outputs(Dense(self.num_classes)(hidden), hidden)
