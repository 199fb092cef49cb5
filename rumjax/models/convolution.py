"""A convolution that keeps its speed inside loops, and the one place where its form is chosen.

On CPU, XLA's own convolution is many times slower inside `scan`, `map` and `while`, and grouped
under `vmap` over kernels; slices and matrix products are neither. Accelerators prefer XLA's own.
"""

import os
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rumjax.errors import check_choice
from rumjax.types import Array

METHODS = ("auto", "dot", "lax")
OVERRIDE = "RUMJAX_CONVOLUTION"

Padding = str | Sequence[tuple[int, int]]


def method_for_backend() -> str:
    """Products on CPU, else XLA's own; the environment variable RUMJAX_CONVOLUTION overrides."""
    chosen = check_choice(OVERRIDE, os.environ.get(OVERRIDE, "auto"), METHODS)
    if chosen != "auto":
        return chosen
    return "dot" if jax.default_backend() == "cpu" else "lax"


def convolution(
    images: Array,
    kernel: Array,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    *,
    method: str = "auto",
) -> Array:
    """Two-dimensional convolution, [B, H, W, C] by [h, w, C, F] to [B, H', W', F].

    Args:
      images: float32 or bfloat16; the result has its dtype, sums are accumulated in float32.
      kernel: of the same dtype.
      strides: along H and W.
      padding: "SAME", "VALID", or pairs for H and W.
      method: "lax", XLA's convolution; "dot", slices and matrix products; or "auto", see
        `method_for_backend`.
    """
    if check_choice("convolution method", method, METHODS) == "auto":
        method = method_for_backend()
    if method == "lax":
        return lax.conv_general_dilated(
            images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return _by_products(images, kernel, strides, padding)


def _by_products(images: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """Columns of the window side by side in the channels; then a product for each of its rows."""
    height, width, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    if any(low or high for low, high in padding):
        images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows = (images.shape[1] - height) // strides[0] + 1
    columns = (images.shape[2] - width) // strides[1] + 1

    def window(start: int, count: int, axis: int) -> slice:
        return slice(start, start + (count - 1) * strides[axis] + 1, strides[axis])

    beside = [images[:, :, window(j, columns, 1)] for j in range(width)]
    if channels * width * height <= 16:
        # So thin a window is best taken whole: one product of a few columns instead of several.
        beside = [each[:, window(i, rows, 0)] for i in range(height) for each in beside]
        patches = jnp.concatenate(beside, axis=-1)
        return _product(patches, kernel.reshape(-1, features)).astype(images.dtype)
    patches = jnp.concatenate(beside, axis=-1) if width > 1 else beside[0]
    taps = kernel.reshape(height, width * channels, features)
    products = [_product(patches[:, window(i, rows, 0)], taps[i]) for i in range(height)]
    return sum(products[1:], products[0]).astype(images.dtype)


def _product(left: Array, right: Array) -> Array:
    return jnp.dot(left, right, preferred_element_type=jnp.float32)


class Conv(nn.Module):
    """`convolution` with a kernel, and a bias where asked, as parameters."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[B, H, W, C] to [B, H', W', features], computed in `dtype`."""
        shape = (*self.kernel_size, images.shape[-1], self.features)
        # He et al. (2015), fan out: as torchvision initializes ResNet and VGG.
        initial = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", initial, shape, jnp.float32)
        images = images.astype(self.dtype)
        found = convolution(images, kernel.astype(self.dtype), self.strides, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            found = found + bias.astype(self.dtype)
        return found
