"""ResNet with the CIFAR stem (He et al., CVPR 2016): 3×3 first convolution, no max-pool.

Layer by layer as torchvision's, but for the stem: explicit padding of 1, a bottleneck's stride in
its 3×3 convolution, He-normal kernels by fan out, the last layer uniform in ±1/√(fan in). Only its
bias, there uniform too, starts at 0.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rumjax.models.conv import Conv, Dense
from rumjax.models.norm import BatchNorm
from rumjax.types import Array, Outputs

STAGES = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}
"""Blocks of every stage, and whether they are bottlenecks."""
PADS = ((1, 1), (1, 1))
"""Padding of a 3×3 convolution."""


class BasicBlock(nn.Module):
    """A residual block of two 3×3 convolutions."""

    features: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H/stride, W/stride, features]."""
        conv = partial(Conv, self.features, (3, 3), padding=PADS, dtype=self.dtype)
        strides = (self.stride, self.stride)
        hidden = nn.relu(batch_norm(train, self.dtype)(conv(strides=strides)(images)))
        hidden = batch_norm(train, self.dtype)(conv()(hidden))
        return nn.relu(hidden + shortcut(images, hidden, self.stride, train, self.dtype))


class Bottleneck(nn.Module):
    """A residual block of 1×1, 3×3 and 1×1 convolutions, the last four times as wide."""

    features: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H/stride, W/stride, 4·features]."""
        conv = partial(Conv, dtype=self.dtype)
        strides = (self.stride, self.stride)
        hidden = nn.relu(batch_norm(train, self.dtype)(conv(self.features, (1, 1))(images)))
        hidden = conv(self.features, (3, 3), strides, PADS)(hidden)
        hidden = nn.relu(batch_norm(train, self.dtype)(hidden))
        hidden = batch_norm(train, self.dtype)(conv(4 * self.features, (1, 1))(hidden))
        return nn.relu(hidden + shortcut(images, hidden, self.stride, train, self.dtype))


class ResNet(nn.Module):
    """Four stages of residual blocks, global average pooling, one dense layer.

    Examples:
      >>> ResNet(num_classes=10, depths=(2, 2, 2, 2), bottleneck=False, width=16).width
      16
    """

    num_classes: int
    depths: tuple[int, ...]
    bottleneck: bool
    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C] to logits and pooled features."""
        hidden = Conv(self.width, padding=PADS, dtype=self.dtype)(images)
        hidden = nn.relu(batch_norm(train, self.dtype)(hidden))

        # Every stage but the first begins by halving the resolution.
        block = Bottleneck if self.bottleneck else BasicBlock
        for stage, depth in enumerate(self.depths):
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                hidden = block(self.width * 2**stage, stride, self.dtype)(hidden, train)
        hidden = hidden.astype(jnp.float32).mean(axis=(1, 2))
        return Outputs(classifier(self.num_classes)(hidden), hidden)


def shortcut(images: Array, hidden: Array, stride: int, train: bool, dtype: Any) -> Array:
    """Returns a block's input, by a 1×1 convolution where its shape differs from the output's."""
    if hidden.shape == images.shape:
        return images
    project = Conv(hidden.shape[-1], (1, 1), (stride, stride), "VALID", dtype=dtype)
    return batch_norm(train, dtype)(project(images))


def batch_norm(train: bool, dtype: Any) -> nn.BatchNorm:
    """Returns batch norm with PyTorch's constants; its parameters and statistics are float32.

    Running variances are of the batch as it is; PyTorch's are n/(n-1) times that.
    """
    return BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)


def classifier(num_classes: int) -> nn.Dense:
    """Returns the last layer, in float32 whatever comes before."""
    initial = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    return Dense(num_classes, kernel_init=initial)
