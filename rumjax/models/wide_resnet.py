"""Wide residual networks (Zagoruyko & Komodakis, BMVC 2016), layer by layer as the authors'."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rumjax.errors import InvalidInputError
from rumjax.models.conv import Conv
from rumjax.models.resnet import PADS, batch_norm, classifier
from rumjax.types import Array, Outputs

WIDENINGS = {"wrn28_2": 2, "wrn28_10": 10}
"""Networks of 28 layers by name, and how many times as wide they are as the narrowest."""


class PreActivationBlock(nn.Module):
    """A residual block of two 3×3 convolutions, each after its batch norm and ReLU.

    Where the shape changes, the shortcut is a 1×1 convolution of what the first ReLU returns.
    """

    features: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H/stride, W/stride, features]."""
        conv = partial(Conv, self.features, dtype=self.dtype)
        strides = (self.stride, self.stride)
        active = nn.relu(batch_norm(train, self.dtype)(images))
        hidden = conv((3, 3), strides, PADS)(active)
        hidden = nn.relu(batch_norm(train, self.dtype)(hidden))
        hidden = conv((3, 3), padding=PADS)(hidden)
        if images.shape == hidden.shape:
            return hidden + images
        return hidden + conv((1, 1), strides, "VALID")(active)


class WideResNet(nn.Module):
    """Three stages of pre-activation blocks, batch norm, global average pooling, one dense layer.

    Kernels start He-normal by fan out, the last layer uniform in ±1/√(fan in), its bias at 0. There
    is no dropout.

    Examples:
      >>> WideResNet(num_classes=10, depth=16, widen=4).widen
      4
    """

    num_classes: int
    depth: int = 28
    """number of layers with weights along the longest path, 6·n + 4 for stages of n blocks"""
    widen: int = 2
    """the stages have 16, 32 and 64 features, times this"""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C] to logits and pooled features."""
        blocks, rest = divmod(self.depth - 4, 6)
        if blocks < 1 or rest:
            raise InvalidInputError(
                f"wide resnet: a depth of {self.depth} is not 6·n + 4; set model.options.depth to "
                "10, 16, 22, 28 or 40, for instance"
            )
        hidden = Conv(16, padding=PADS, dtype=self.dtype)(images)

        # Every stage but the first begins by halving the resolution.
        for stage in range(3):
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                block = PreActivationBlock(16 * self.widen * 2**stage, stride, self.dtype)
                hidden = block(hidden, train)
        hidden = nn.relu(batch_norm(train, self.dtype)(hidden))
        hidden = hidden.astype(jnp.float32).mean(axis=(1, 2))
        return Outputs(classifier(self.num_classes)(hidden), hidden)
