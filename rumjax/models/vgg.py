"""VGG-16 with batch norm, in the form used for small images: one dense layer after pooling."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rumjax.errors import InvalidInputError
from rumjax.models.conv import Conv
from rumjax.models.resnet import PADS, batch_norm, classifier, larger
from rumjax.platforms import platform
from rumjax.types import Array, Outputs

CONVOLUTIONS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Features and number of the convolutions of each group."""


class Vgg16(nn.Module):
    """Thirteen 3×3 convolutions in five groups (Simonyan & Zisserman, ICLR 2015, D), batch norm.

    Kernels start He-normal by fan out, the last layer uniform in ±1/√(fan in), biases at 0.

    Examples:
      >>> Vgg16(num_classes=10, width=16).width
      16
    """

    num_classes: int
    width: int = 64
    """features of the first group; the others have 2, 4, 8 and 8 times as many"""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C], H and W of at least 32, to logits and pooled features."""
        if min(images.shape[1:3]) < 32:
            size = "×".join(map(str, images.shape[1:3]))
            raise InvalidInputError(f"vgg16: images of {size} are too small, it needs 32×32")

        # Groups of convolutions at the same resolution.
        hidden = images
        for features, count in CONVOLUTIONS:
            for _ in range(count):
                width = features * self.width // 64
                convolve = Conv(
                    width, padding=PADS, use_bias=True, fixed_bias=train, dtype=self.dtype
                )
                hidden = convolve(hidden)
                hidden = nn.relu(batch_norm(train, self.dtype)(hidden))
            hidden = max_pool(hidden)
        hidden = hidden.astype(jnp.float32).mean(axis=(1, 2))
        return Outputs(classifier(self.num_classes)(hidden), hidden)


def max_pool(images: Array) -> Array:
    """Returns maxima of 2×2 pixels, [B, H, W, C] to [B, ⌊H/2⌋, ⌊W/2⌋, C].

    For TPU it works by windows, else by reshaping, since the gradient of a windowed maximum is
    slow. The first of those that tie takes the gradient.
    """
    if platform() == "tpu":
        return nn.max_pool(images, (2, 2), (2, 2))
    batch, height, width, channels = images.shape
    images = images[:, : height // 2 * 2, : width // 2 * 2]
    pairs = images.reshape(batch, height // 2, 2, width // 2 * 2, channels)
    pairs = larger(pairs[:, :, 0], pairs[:, :, 1]).reshape(
        batch, height // 2, width // 2, 2, channels
    )
    return larger(pairs[:, :, :, 0], pairs[:, :, :, 1])
