"""A convolution that keeps its speed inside loops, and the one place where its form is chosen.

On CPU, XLA's own convolution is many times slower inside `scan`, `map` and `while`, and grouped
under `vmap` over kernels; slices and matrix products are neither. Accelerators prefer XLA's own.
"""

import os
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rumjax.errors import check_choice
from rumjax.types import Array

METHODS = ("auto", "dot", "lax")
OVERRIDE = "RUMJAX_CONVOLUTION"

Padding = str | Sequence[tuple[int, int]]

# He et al. (2015), fan out: as torchvision initializes ResNet and VGG.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def method_for_backend() -> str:
    """Products on CPU, else XLA's own; the environment variable RUMJAX_CONVOLUTION overrides.

    It is read when a function is traced, so set it before anything is compiled.
    """
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

    Raises:
      InvalidInputError: an unknown method.
    """
    if check_choice("convolution method", method, METHODS) == "auto":
        method = method_for_backend()
    if method == "lax":
        return lax.conv_general_dilated(
            images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return _by_products(images, kernel, strides, padding)


def _by_products(images: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """The window side by side in the channels, whole or a row at a time; then its products.

    Derivatives are JAX's own: `custom_vjp` would rule out forward mode, which influence needs.
    """
    height, width, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    if any(low or high for low, high in padding):
        images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    columns = _shifted(images, width, strides[1], axis=2)
    # A whole window is one product instead of several, at the price of `height` times the copies:
    # a good bargain where a stride or few channels keep these small. Slicing one axis after the
    # other, not both at once, makes for the faster gradient.
    if strides[0] > 1 or height * width * channels <= 32:
        by_column = [_shifted(column, height, strides[0], axis=1) for column in columns]
        patches = _beside([column[i] for i in range(height) for column in by_column])
        return _product(patches, kernel.reshape(-1, features)).astype(images.dtype)
    rows = _shifted(_beside(columns), height, strides[0], axis=1)
    taps = kernel.reshape(height, width * channels, features)
    products = [_product(row, tap) for row, tap in zip(rows, taps, strict=True)]
    return sum(products[1:], products[0]).astype(images.dtype)


def _shifted(array: Array, taps: int, stride: int, *, axis: int) -> list[Array]:
    """What each tap of a window along an axis sees, for all positions of the window."""
    extent = (array.shape[axis] - taps) // stride * stride + 1
    return [lax.slice_in_dim(array, tap, tap + extent, stride, axis) for tap in range(taps)]


def _beside(arrays: list[Array]) -> Array:
    return jnp.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0]


def _product(left: Array, right: Array) -> Array:
    return jnp.dot(left, right, preferred_element_type=jnp.float32)


class Conv(nn.Module):
    """`convolution` with a kernel, and a bias (at first 0) where asked, as parameters."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = he_fan_out

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[B, H, W, C] to [B, H', W', features], computed in `dtype`."""
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        found = convolution(images.astype(self.dtype), kernel, self.strides, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            found = found + bias.astype(self.dtype)
        return found
