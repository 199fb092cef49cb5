"""Linen's own convolution inside anyone's network, by products on backends that prefer them.

Linen's `Dense` stays as it is: by `product`, a perceptron with wide layers trains more slowly.
"""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax

from rumjax.models.conv import convolution, method_for_backend
from rumjax.types import Array

FIELD = "conv_general_dilated"
"""The field of Linen's `Conv` that holds the function that convolves."""


@contextlib.contextmanager
def quick_convolutions() -> Iterator[None]:
    """Computes every Linen `Conv` that is called inside by `convolution`, where that is quicker.

    Only the function that convolves is exchanged: parameters, padding and dtypes are Linen's. What
    `convolution` cannot express is left to Linen, as are layers with a function of their own, and
    everything on backends that prefer XLA's own convolution.

    Examples:
      >>> import jax
      >>> with quick_convolutions():
      ...     variables = nn.Conv(2, (3, 3)).init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
      >>> variables["params"]["kernel"].shape
      (3, 3, 3, 2)
    """
    by_products = method_for_backend() == "dot"
    with nn.intercept_methods(_exchange) if by_products else contextlib.nullcontext():
        yield


def _exchange(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Calls a method of a layer as Linen does, with another function if it is a convolution's."""
    layer = context.module
    if not (isinstance(layer, nn.Conv) and context.method_name == "__call__"):
        return method(*args, **kwargs)

    # The method of `Conv` itself, by way of `super()` too, but none that a subclass wrote instead.
    own = inspect.unwrap(context.orig_method.func) is inspect.unwrap(nn.Conv.__call__)
    if not own or layer.conv_general_dilated or layer.conv_general_dilated_cls:
        return method(*args, **kwargs)

    # Fields of a module are frozen, so it must not keep what it is given.
    object.__setattr__(layer, FIELD, convolve)
    try:
        return method(*args, **kwargs)
    finally:
        object.__setattr__(layer, FIELD, None)


def convolve(
    images: Array,
    kernel: Array,
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """Convolves like `lax.conv_general_dilated`, by `convolution` where that can express it."""
    simple = images.ndim == 4 and 0 not in images.shape
    simple = simple and images.dtype == kernel.dtype
    simple = simple and images.dtype in (jnp.float32, jnp.bfloat16)
    # No dilation, one group, no precision.
    plain = [value for name, value in options.items() if name != "dimension_numbers"]
    if not (simple and all(value is None or np.all(np.array(value) == 1) for value in plain)):
        return lax.conv_general_dilated(images, kernel, strides, padding, **options)

    # Padding that takes nothing away, and leaves images that the kernel fits into.
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    sizes = np.add(images.shape[1:3], np.sum(padding, axis=1))
    if np.min(padding) < 0 or np.any(sizes < kernel.shape[:2]):
        return lax.conv_general_dilated(images, kernel, strides, padding, **options)
    return convolution(images, kernel, strides, padding)
