"""Convolutions and products that keep their speed inside loops, and where their form is chosen.

On CPU, XLA's own convolution is many times slower inside `scan`, `map` and `while`, and grouped
under `vmap` over kernels; slices and matrix products are neither. Accelerators prefer XLA's own.
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rumjax.errors import check_choice
from rumjax.mesh import shared_out
from rumjax.types import Array

METHODS = ("auto", "dot", "lax")
OVERRIDE = "RUMJAX_CONVOLUTION"
GROUP = 2 * 2**20
"""Bytes of windows that a core's cache holds, roughly; twice as many are not worth a loop."""

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
    """Every window laid out as a row, and one product: of all images, or of a few at a time.

    The rows of a group fit into a core's cache. They are not kept for the gradient but made again,
    which is quicker than memory. Derivatives are JAX's own: `custom_vjp` would rule out forward
    mode.
    """
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    multiply = partial(_windows_times, strides=strides, padding=tuple(padding))
    group = _group_size(images, kernel, strides)
    if group == len(images):
        return multiply(images, kernel)
    groups = images.reshape(-1, group, *images.shape[1:])
    forgetful = jax.checkpoint(multiply, prevent_cse=False)  # a loop keeps both from being merged
    found = lax.map(lambda each: forgetful(each, kernel), groups)
    return found.reshape(-1, *found.shape[2:])


def _group_size(images: Array, kernel: Array, strides: tuple[int, int]) -> int:
    """How many images at a time: a divisor of their number, or all of them."""
    count, height, width, channels = images.shape
    taps = kernel.shape[0] * kernel.shape[1]
    windows = 4 * taps * channels * height * width // (strides[0] * strides[1])
    # Of images on several devices, a loop over groups would gather them all.
    if taps == 1 or windows * count <= 2 * GROUP or shared_out():
        return count
    fitting = min(count, max(1, GROUP // windows))
    return next(each for each in range(fitting, 0, -1) if count % each == 0)


def _windows_times(
    images: Array,
    kernel: Array,
    *,
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], ...],
) -> Array:
    height, width, _, features = kernel.shape
    if any(low or high for low, high in padding):
        images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    # Slicing one axis after the other, not both at once, makes for the faster gradient.
    columns = [
        _shifted(each, height, strides[0], 1) for each in _shifted(images, width, strides[1], 2)
    ]
    taps = [column[row] for row in range(height) for column in columns]
    windows = jnp.concatenate(taps, axis=-1) if len(taps) > 1 else taps[0]
    return product(windows, kernel.reshape(-1, features))


def _shifted(array: Array, taps: int, stride: int, axis: int) -> list[Array]:
    """What each tap of a window along an axis sees, for all positions of the window."""
    extent = (array.shape[axis] - taps) // stride * stride + 1
    return [lax.slice_in_dim(array, tap, tap + extent, stride, axis) for tap in range(taps)]


def product(left: Array, right: Array) -> Array:
    """[..., K] by [K, F] to [..., F] of the same dtype, summed in float32; quick to derive on CPU.

    The gradient of `right` is a small transposed product of two large arrays. XLA would rather
    transpose one of them than the result, which takes as long again; the barrier forbids it.
    """
    turned = lax.optimization_barrier(right.T)
    rows = left.reshape(-1, left.shape[-1])
    found = lax.dot_general(
        rows, turned, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    return found.astype(left.dtype).reshape(*left.shape[:-1], right.shape[1])


def _dot_general(inputs: Array, kernel: Array, dimensions: Any, precision: Any = None) -> Array:
    if method_for_backend() == "lax":
        return lax.dot_general(inputs, kernel, dimensions, precision=precision)
    return product(inputs, kernel)


Dense = partial(nn.Dense, dot_general=_dot_general)
"""Linen's `Dense`, by `product` where convolutions are matrix products."""


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
