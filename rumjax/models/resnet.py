"""ResNet (He et al., CVPR 2016) with the CIFAR stem, a 3×3 convolution, or that for ImageNet.

Layer by layer as torchvision's, but for the CIFAR stem: explicit padding, a bottleneck's stride in
its 3×3 convolution, He-normal kernels by fan out, the last layer uniform in ±1/√(fan in). Only its
bias, there uniform too, starts at 0.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rumjax.errors import check_choice
from rumjax.models.conv import Conv, Dense, shifts, uniform_fan_in
from rumjax.models.norm import BatchNorm
from rumjax.platforms import platform
from rumjax.types import Array, Outputs

STAGES = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}
"""Blocks of every stage, and whether they are bottlenecks."""
STEMS = ("cifar", "imagenet")
"""What comes before the blocks: a 3×3 convolution; or 7×7 of stride 2, and a max-pool."""
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
    stem: str = "cifar"
    """one of `STEMS`; that for ImageNet leaves a quarter of height and width"""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C] to logits and pooled features."""
        large = check_choice("stem of a ResNet", self.stem, STEMS) == "imagenet"
        if large:
            first = Conv(self.width, (7, 7), (2, 2), ((3, 3), (3, 3)), dtype=self.dtype)
        else:
            first = Conv(self.width, padding=PADS, dtype=self.dtype)
        hidden = nn.relu(batch_norm(train, self.dtype)(first(images)))
        if large:
            hidden = max_pool(hidden)

        # Every stage but the first begins by halving the resolution.
        block = Bottleneck if self.bottleneck else BasicBlock
        for stage, depth in enumerate(self.depths):
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                hidden = block(self.width * 2**stage, stride, self.dtype)(hidden, train)
        hidden = hidden.astype(jnp.float32).mean(axis=(1, 2))
        return Outputs(classifier(self.num_classes)(hidden), hidden)


def max_pool(images: Array) -> Array:
    """Returns maxima of 3×3 pixels, two apart and padded by 1, [B, H, W, C] to [B, ⌈H/2⌉, …].

    For CPU and GPU it compares slices, since the gradient of a windowed maximum is slow there.
    """
    if platform() == "tpu":
        return nn.max_pool(images, (3, 3), (2, 2), PADS)
    padded = jnp.pad(images, ((0, 0), *PADS, (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        shifted = shifts(padded, 3, 2, axis)
        padded = larger(larger(shifted[0], shifted[1]), shifted[2])
    return padded


def larger(first: Array, second: Array) -> Array:
    """Returns the larger of two arrays, element by element; of a tie the first takes the gradient.

    The gradients of `jnp.maximum` and `max` look for what equals the maximum. After a batch norm
    XLA computes either of them on its own, and where they are rounded otherwise, nothing is equal,
    and the gradient is 0 or not a number.
    """
    return jnp.where((second > first) | jnp.isnan(second), second, first)


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
    return Dense(num_classes, kernel_init=uniform_fan_in)
