"""ResNet with the CIFAR stem (He et al., CVPR 2016): 3×3 first convolution, no max-pool."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from rumjax.models.convolution import Conv
from rumjax.types import Array, Outputs

STAGES = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}


class Block(nn.Module):
    """A residual block: two 3×3 convolutions, or 1×1, 3×3, 1×1 with four times the features."""

    features: int
    stride: int
    bottleneck: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[B, H, W, C] to [B, H/stride, W/stride, features, or four times that]."""
        norm = partial(batch_norm, train, self.dtype)
        stride = (self.stride, self.stride)
        pads = ((1, 1), (1, 1))
        conv = partial(Conv, dtype=self.dtype)
        if self.bottleneck:
            width = 4 * self.features
            found = nn.relu(norm()(conv(self.features, (1, 1))(images)))
            found = nn.relu(norm()(conv(self.features, (3, 3), stride, pads)(found)))
            found = norm()(conv(width, (1, 1))(found))
        else:
            width = self.features
            found = nn.relu(norm()(conv(width, (3, 3), stride, pads)(images)))
            found = norm()(conv(width, (3, 3), (1, 1), pads)(found))
        if found.shape != images.shape:
            images = norm()(conv(width, (1, 1), stride, "VALID")(images))
        return nn.relu(found + images)


class ResNet(nn.Module):
    """Four stages of residual blocks, global average pooling, one dense layer."""

    num_classes: int
    depths: tuple[int, ...]
    bottleneck: bool
    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """float[B, H, W, C] to logits and pooled features."""
        found = Conv(self.width, padding=((1, 1), (1, 1)), dtype=self.dtype)(images)
        found = nn.relu(batch_norm(train, self.dtype)(found))
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                features = self.width * 2**stage
                found = Block(features, stride, self.bottleneck, self.dtype)(found, train)
        found = found.astype(jnp.float32).mean(axis=(1, 2))
        return Outputs(nn.Dense(self.num_classes)(found), found)


def batch_norm(train: bool, dtype: jnp.dtype) -> nn.BatchNorm:
    """Batch norm with PyTorch's constants; statistics in float32 whatever the dtype."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)
