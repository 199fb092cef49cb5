"""ResNet-9, the small network of many studies of data attribution and of KLOM's retrained models.

Layer by layer as in ffcv's example for CIFAR-10 and in EasyDUB's code (Rinberg et al.), whose
models are public.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rumjax.errors import InvalidInputError
from rumjax.models.conv import Conv, Dense, uniform_fan_in
from rumjax.models.resnet import batch_norm
from rumjax.models.vgg import max_pool
from rumjax.types import Array, Outputs

LEAST = 11
"""Height and width that an image needs, so that the last convolution has 3×3 pixels."""
SCALE = 0.2
"""What the last layer's outputs are multiplied by."""


class Convolved(nn.Module):
    """A convolution, batch norm and ReLU."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padded: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, ⌈H/stride⌉, ⌈W/stride⌉, features], or to less if not padded."""
        around = self.kernel_size // 2 if self.padded else 0
        hidden = Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            (self.stride, self.stride),
            ((around, around), (around, around)),
            dtype=self.dtype,
            kernel_init=uniform_fan_in,
        )(images)
        return nn.relu(batch_norm(train, self.dtype)(hidden))


class ResNet9(nn.Module):
    """Eight convolutions, two pairs of them around a shortcut, global max-pooling, one dense layer.

    The layer has no bias, and its outputs are multiplied by `SCALE`. Kernels start uniform in
    ±1/√(fan in).

    Examples:
      >>> ResNet9(num_classes=10, width=16).width
      16
    """

    num_classes: int
    width: int = 64
    """features of the first convolution; the others have 2 or 4 times as many"""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C], H and W of at least 11, to logits and the maxima."""
        if min(images.shape[1:3]) < LEAST:
            size = "×".join(map(str, images.shape[1:3]))
            raise InvalidInputError(
                f"resnet9: images of {size} are too small, it needs {LEAST}×{LEAST}"
            )
        layer = partial(Convolved, dtype=self.dtype)
        middle, large = 2 * self.width, 4 * self.width

        def pair(features: int, images: Array) -> Array:
            between: Array = layer(features)(images, train)
            after: Array = layer(features)(between, train)
            return after

        # Half of the resolution, then a quarter of it, each with a pair around a shortcut.
        hidden = layer(self.width)(images, train)
        hidden = layer(middle, kernel_size=5, stride=2)(hidden, train)
        hidden = hidden + pair(middle, hidden)
        hidden = max_pool(layer(large)(hidden, train))
        hidden = hidden + pair(large, hidden)

        hidden = layer(middle, padded=False)(hidden, train)
        hidden = global_max(hidden.astype(jnp.float32))
        last = Dense(self.num_classes, use_bias=False, kernel_init=uniform_fan_in)
        return Outputs(SCALE * last(hidden), hidden)


def global_max(images: Array) -> Array:
    """Returns the maximum over all pixels, [B, H, W, C] to [B, C].

    The first of those that tie takes the gradient. It is found by its place, since the gradient of
    `max` looks for pixels that equal the maximum: after a batch norm XLA computes either of them on
    its own, and where they are rounded otherwise, there is no such pixel and no gradient.
    """
    pixels = images.reshape(len(images), -1, images.shape[-1])
    place = jnp.argmax(pixels, axis=1)
    chosen = jax.nn.one_hot(place, pixels.shape[1], axis=1, dtype=pixels.dtype)
    return jnp.sum(pixels * chosen, axis=1)
