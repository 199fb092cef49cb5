"""Vision transformers (Dosovitskiy et al., ICLR 2021), layer by layer as timm's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rumjax.errors import InvalidInputError
from rumjax.models.conv import Conv, Dense, uniform_fan_in
from rumjax.types import Array, Outputs

SIZES = {"vit_ti4": (192, 3), "vit_s4": (384, 6)}
"""Width and heads of the networks for small images, with patches of 4×4 pixels."""

small = nn.initializers.normal(0.02)


class Attention(nn.Module):
    """Self-attention of several heads, with one dense layer for queries, keys and values."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Maps [B, T, D] to [B, T, D]; weights are normalized in float32."""
        batch, count, dim = tokens.shape
        joint = Dense(3 * dim, dtype=self.dtype, kernel_init=small, name="qkv")(tokens)
        queries, keys, values = jnp.moveaxis(
            joint.reshape(batch, count, 3, self.heads, dim // self.heads), 2, 0
        )
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk", queries, keys, preferred_element_type=jnp.float32
        ) / jnp.sqrt(jnp.float32(dim // self.heads))
        shares = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, values).reshape(batch, count, dim)
        return Dense(dim, dtype=self.dtype, kernel_init=small, name="proj")(mixed)


class Block(nn.Module):
    """Attention and a perceptron of one hidden layer, each after its norm and around a shortcut."""

    heads: int
    hidden: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Maps [B, T, D] to [B, T, D]."""
        attended = Attention(self.heads, self.dtype, name="attn")
        tokens = tokens + attended(layer_norm("norm1", self.dtype)(tokens))
        hidden = layer_norm("norm2", self.dtype)(tokens)
        hidden = Dense(self.hidden, dtype=self.dtype, kernel_init=small, name="fc1")(hidden)
        hidden = nn.gelu(hidden, approximate=False)
        dim = tokens.shape[-1]
        return tokens + Dense(dim, dtype=self.dtype, kernel_init=small, name="fc2")(hidden)


class ViT(nn.Module):
    """Patches and a class token with learned positions, pre-norm blocks, one dense layer.

    The class token after the last norm is the embedding. Kernels start normal of 0.02, that of the
    patches uniform in ±1/√(fan in), biases at 0, as timm's but for the biases of the patches.
    There is no dropout.

    Examples:
      >>> ViT(num_classes=10, patch=4, dim=96, heads=3, depth=6).mlp_ratio
      4.0
    """

    num_classes: int
    patch: int = 4
    """height and width of a patch, which divides those of images"""
    dim: int = 192
    """width of a token"""
    heads: int = 3
    """which divide the width"""
    depth: int = 12
    """number of blocks"""
    mlp_ratio: float = 4.0
    """width of the hidden layers by that of a token"""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Outputs:
        """Maps float[B, H, W, C] to logits and the class token; `train` changes nothing."""
        del train
        batch, height, width, _ = images.shape
        if height % self.patch or width % self.patch or not height or not width:
            raise InvalidInputError(
                f"vit: images of {height}×{width} cannot be cut into patches of "
                f"{self.patch}×{self.patch}; set model.options.patch, or data.image_size"
            )
        if self.dim % self.heads:
            raise InvalidInputError(
                f"vit: a width of {self.dim} cannot be shared by {self.heads} heads"
            )

        # A token for each patch, after that of the class.
        size = (self.patch, self.patch)
        patches = Conv(
            self.dim,
            size,
            size,
            "VALID",
            use_bias=True,
            dtype=self.dtype,
            kernel_init=uniform_fan_in,
            name="patch_embed",
        )(images)
        patches = patches.reshape(batch, -1, self.dim)
        first = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, self.dim), jnp.float32)
        first = jnp.broadcast_to(first.astype(self.dtype), (batch, 1, self.dim))
        tokens = jnp.concatenate([first, patches], axis=1)
        places = self.param("pos_embed", small, (1, tokens.shape[1], self.dim), jnp.float32)
        tokens = tokens + places.astype(self.dtype)

        for number in range(self.depth):
            hidden = round(self.mlp_ratio * self.dim)
            tokens = Block(self.heads, hidden, self.dtype, name=f"blocks_{number}")(tokens)
        embedding = layer_norm("norm", jnp.float32)(tokens[:, 0])
        head = Dense(self.num_classes, kernel_init=small, name="head")
        return Outputs(head(embedding), embedding)


def layer_norm(name: str, dtype: Any) -> nn.LayerNorm:
    """Returns layer norm with timm's ε; sums are float32."""
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, use_fast_variance=False, name=name)
