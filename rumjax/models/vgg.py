"""VGG-16 with batch norm, in the form used for small images: one dense layer after pooling."""

import flax.linen as nn
import jax.numpy as jnp

from rumjax.models.convolution import Conv
from rumjax.models.resnet import batch_norm
from rumjax.types import Array, Outputs

CONVOLUTIONS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class Vgg16(nn.Module):
    """Thirteen 3×3 convolutions in five groups (Simonyan & Zisserman, ICLR 2015, D), batch norm."""

    num_classes: int
    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """float[B, H, W, C], H and W of at least 32, to logits and pooled features."""
        found = images
        for features, count in CONVOLUTIONS:
            for _ in range(count):
                found = Conv(features * self.width // 64, use_bias=True, dtype=self.dtype)(found)
                found = nn.relu(batch_norm(train, self.dtype)(found))
            found = nn.max_pool(found, (2, 2), (2, 2))
        found = found.astype(jnp.float32).mean(axis=(1, 2))
        return Outputs(nn.Dense(self.num_classes)(found), found)
