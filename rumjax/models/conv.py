"""Convolutions and products that keep their speed inside loops, in the form that suits a backend.

On CPU, XLA's own convolution is many times slower inside `scan`, `map` and `while`, and grouped
under `vmap` over kernels; slices and matrix products are neither. Accelerators prefer XLA's own.
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rumjax.errors import check_choice
from rumjax.mesh import shared_out
from rumjax.platforms import platform
from rumjax.types import Array

METHODS = ("auto", "dot", "lax")
OVERRIDE = "RUMJAX_CONVOLUTION"
"""The environment variable that overrides the choice of a method."""
SMALL = 3e8
"""Operations of a convolution, of one model, below which a GPU prefers products.

Measured on an H200, see BENCHMARKS.md. The default network, of at most 0.075e9 operations, gains by
products, alone and side by side. A network of 0.93e9 and 1.2e9 loses by them alone (0.57 ms a step
against 0.28), and gains with four side by side (0.25 ms a step and model against 0.45). Left to
XLA, one such model loses nothing, and a bank of them, one after another, takes a tenth longer.
"""
GROUP = 2 * 2**20
"""Bytes of windows that a core's cache holds, roughly; twice as many are not worth a loop."""

Padding = str | Sequence[tuple[int, int]]

# He et al. (2015), fan out: as torchvision initializes ResNet and VGG.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Uniform in ±1/√(fan in): as PyTorch initializes layers that are told nothing else.
uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def method_for_backend(operations: float = math.inf) -> str:
    """Returns "dot" for CPU, and for small convolutions for GPU, else "lax".

    The environment variable RUMJAX_CONVOLUTION overrides it. Both the variable and
    `rumjax.platforms.platform` are read when a function is traced.

    Args:
      operations: of the convolution, of one model.
    """
    chosen = check_choice(OVERRIDE, os.environ.get(OVERRIDE, "auto"), METHODS)
    if chosen != "auto":
        return chosen
    small = platform() == "gpu" and operations < SMALL
    return "dot" if platform() == "cpu" or small else "lax"


def convolution(
    images: Array,
    kernel: Array,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    *,
    method: str = "auto",
) -> Array:
    """Convolves in two dimensions, [B, H, W, C] by [h, w, C, F] to [B, H', W', F].

    Args:
      images: float32 or bfloat16; the result has its dtype, sums are accumulated in float32.
      kernel: of the same dtype.
      strides: along H and W.
      padding: "SAME", "VALID", or pairs for H and W.
      method: "lax", XLA's convolution; "dot", slices and matrix products; or "auto", see
        `method_for_backend`.

    Raises:
      InvalidInputError: an unknown method.

    Examples:
      >>> convolution(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 2)), padding="VALID").tolist()
      [[[[9.0, 9.0]]]]
    """
    chex.assert_rank([images, kernel], 4)
    if check_choice("convolution method", method, METHODS) == "auto":
        positions = images.size // images.shape[-1] // math.prod(strides)
        method = method_for_backend(2.0 * positions * kernel.size)
    if method == "lax":
        unpadded = isinstance(padding, str) or not np.any(padding)
        if kernel.shape[:2] == (1, 1) and unpadded and platform() == "tpu":
            # Else the gradient would be a convolution over mostly zeros.
            images, strides = images[:, :: strides[0], :: strides[1]], (1, 1)
        return lax.conv_general_dilated(
            images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return _by_products(images, kernel, strides, padding)


def _by_products(images: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """Lays every window out as a row, and takes one product of all images, or of a few at a time.

    The rows of a group fit into a core's cache. They are not kept for the gradient but computed
    again, which is quicker than memory. Derivatives are JAX's own: `custom_vjp` would rule out
    forward mode.
    """
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    multiply = partial(_windows_times, strides=strides, padding=tuple(padding))

    # All images at once, if their windows are few.
    group = _group_size(images, kernel, strides)
    if group == len(images):
        return multiply(images, kernel)

    # Else one group of images after another.
    groups = images.reshape(-1, group, *images.shape[1:])
    forgetful = jax.checkpoint(multiply, prevent_cse=False)  # a loop keeps both from being merged
    convolved = lax.map(lambda some: forgetful(some, kernel), groups)
    return convolved.reshape(-1, *convolved.shape[2:])


def _group_size(images: Array, kernel: Array, strides: tuple[int, int]) -> int:
    """Returns the number of images at a time: a divisor of their number, or all of them."""
    count, height, width, channels = images.shape
    taps = kernel.shape[0] * kernel.shape[1]
    windows = 4 * taps * channels * height * width // (strides[0] * strides[1])
    # Of images on several devices, a loop over groups would gather them all.
    if taps == 1 or windows * count <= 2 * GROUP or shared_out():
        return count
    fitting = min(count, max(1, GROUP // windows))
    return next(size for size in range(fitting, 0, -1) if count % size == 0)


def _windows_times(
    images: Array,
    kernel: Array,
    *,
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], ...],
) -> Array:
    """Multiplies every window of images, laid out as a row, by the kernel."""
    height, width, _, features = kernel.shape
    if any(low or high for low, high in padding):
        images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    # Slicing one axis after the other, not both at once, makes for the faster gradient.
    columns = [
        shifts(column, height, strides[0], 1) for column in shifts(images, width, strides[1], 2)
    ]
    taps = [column[row] for row in range(height) for column in columns]
    windows = jnp.concatenate(taps, axis=-1) if len(taps) > 1 else taps[0]
    return product(windows, kernel.reshape(-1, features))


def shifts(array: Array, taps: int, stride: int, axis: int) -> list[Array]:
    """Returns the slice of every tap of a window along an axis, for all positions of the window."""
    extent = (array.shape[axis] - taps) // stride * stride + 1
    return [lax.slice_in_dim(array, tap, tap + extent, stride, axis) for tap in range(taps)]


def product(left: Array, right: Array) -> Array:
    """Multiplies [..., K] by [K, F], summed in float32; its gradient is quick on CPU.

    The gradient of `right` is a small transposed product of two large arrays. XLA would rather
    transpose one of them than the result, which takes as long again; the barrier forbids it.

    Returns:
      [..., F] of the dtype of `left`.
    """
    chex.assert_rank(right, 2)
    turned = lax.optimization_barrier(right.T)
    rows = left.reshape(-1, left.shape[-1])
    sums = lax.dot_general(
        rows, turned, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    return sums.astype(left.dtype).reshape(*left.shape[:-1], right.shape[1])


def _dot_general(inputs: Array, kernel: Array, dimensions: Any, precision: Any = None) -> Array:
    """Multiplies a dense layer's inputs by its kernel, as `lax.dot_general` or by `product`."""
    if method_for_backend() == "lax":
        return lax.dot_general(inputs, kernel, dimensions, precision=precision)
    return product(inputs, kernel)


Dense = partial(nn.Dense, dot_general=_dot_general)
"""Linen's `Dense`, by `product` where convolutions are matrix products."""


class Conv(nn.Module):
    """`convolution` with a kernel, and a bias if wanted (at first 0), as parameters.

    Examples:
      >>> variables = Conv(features=2).init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
      >>> variables["params"]["kernel"].shape
      (3, 3, 3, 2)
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = False
    fixed_bias: bool = False
    """takes no gradient of the bias: batch norm of the batch's own statistics cancels it"""
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = he_fan_out

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps [B, H, W, C] to [B, H', W', features], computed in `dtype`."""
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        convolved = convolution(images.astype(self.dtype), kernel, self.strides, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            bias = lax.stop_gradient(bias) if self.fixed_bias else bias
            convolved = convolved + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return convolved
