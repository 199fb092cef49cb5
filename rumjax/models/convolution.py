"""A convolution that keeps its speed inside loops, and the one place where its form is chosen.

On CPU, XLA's own convolution is many times slower inside `scan`, `map` and `while`, and grouped
under `vmap` over kernels; slices and matrix products are neither. Accelerators prefer XLA's own.
"""

import os
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jax import lax

from rumjax.errors import check_choice
from rumjax.types import Array

METHODS = ("auto", "dot", "lax")
OVERRIDE = "RUMJAX_CONVOLUTION"
LAYOUTS = {"NHWC": (1, 2), "HWNC": (0, 1)}
"""Where the spatial axes are."""

Padding = str | Sequence[tuple[int, int]]

# He et al. (2015, eq. 14), fan out: as torchvision initializes ResNet and VGG.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def method_for_backend() -> str:
    """Products on CPU, else XLA's own; the environment variable RUMJAX_CONVOLUTION overrides.

    It is read when a function is traced: set it before the first computation.
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
    layout: str = "NHWC",
) -> Array:
    """Two-dimensional convolution, [B, H, W, C] by [h, w, C, F] to [B, H', W', F].

    Args:
      images: float32 or bfloat16; the result has its dtype, products are summed in float32.
      kernel: of the same dtype.
      strides: along H and W.
      padding: "SAME", "VALID", or pairs for H and W.
      method: "lax", XLA's convolution; "dot", slices and matrix products; or "auto", see
        `method_for_backend`.
      layout: of images and result. "HWNC", where a slice copies whole rows of images, is the
        faster one on CPU if the layers around have it too.

    Raises:
      InvalidInputError: an unknown method or layout.
    """
    check_choice("convolution layout", layout, LAYOUTS)
    if check_choice("convolution method", method, METHODS) == "auto":
        method = method_for_backend()
    if method == "lax":
        numbers = (layout, "HWIO", layout)
        return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=numbers)
    return _by_products(images, kernel, strides, padding, LAYOUTS[layout])


def _by_products(
    images: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: Padding,
    axes: tuple[int, int],
) -> Array:
    """The window's columns side by side in the channels, then its rows: beside or summed.

    Derivatives are left to JAX: a `custom_vjp` would shut out forward mode and gain little.
    """
    height, width, channels, features = kernel.shape
    spatial = [images.shape[axis] for axis in axes]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(spatial, (height, width), strides, padding)
    if any(low or high for low, high in padding):
        pads = [(0, 0)] * images.ndim
        pads[axes[0]], pads[axes[1]] = padding
        images = jnp.pad(images, pads)

    def shifted(array: Array, which: int) -> list[Array]:
        """Where each tap along a spatial axis looks."""
        axis, stride, taps = axes[which], strides[which], kernel.shape[which]
        extent = (array.shape[axis] - taps) // stride * stride + 1
        return [lax.slice_in_dim(array, i, i + extent, stride, axis) for i in range(taps)]

    columns = shifted(images, 1)
    # Whole windows mean one product instead of several, for copies `height` times as large: worth
    # it where strides or few channels keep these small.
    if strides[0] * strides[1] > 1 or height * width * channels <= 32:
        rows = list(zip(*(shifted(column, 0) for column in columns), strict=True))
        patches = _beside([each for row in rows for each in row])
        return _product(patches, kernel.reshape(-1, features)).astype(images.dtype)
    taps = kernel.reshape(height, width * channels, features)
    products = [_product(row, tap) for row, tap in zip(shifted(_beside(columns), 0), taps, strict=True)]
    return sum(products[1:], products[0]).astype(images.dtype)


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
    dtype: jnp.dtype = jnp.float32
    layout: str = "NHWC"
    kernel_init: Initializer = he_fan_out

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[B, H, W, C] to [B, H', W', features], or in another layout; computed in `dtype`."""
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        images = images.astype(self.dtype)
        found = convolution(images, kernel, self.strides, self.padding, layout=self.layout)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            found = found + bias.astype(self.dtype)
        return found
