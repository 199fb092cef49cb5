"""The platform that programs are compiled for: the machine at hand, or one that is not there yet.

The best form of a convolution, a pooling or a loop differs between CPU, GPU and TPU. Which one is
wanted is asked when a function is traced, so a program for devices of another platform than JAX's
default is traced inside `compiling_for`; `rumjax.ensemble` does so by itself.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

from rumjax.errors import check_choice

PLATFORMS = ("cpu", "gpu", "tpu")

_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def platform() -> str:
    """Returns the platform to compile for, one of `PLATFORMS`; "gpu" is any maker's.

    It is that of `compiling_for`, else that of `jax.default_device` where it is set, else that of
    JAX's first device.

    Examples:
      >>> platform() in PLATFORMS
      True
    """
    default = jax.config.jax_default_device
    named = _target.get() or getattr(default, "platform", default) or jax.default_backend()
    return "gpu" if named in ("cuda", "rocm") else str(named)


@contextlib.contextmanager
def compiling_for(target: str) -> Iterator[None]:
    """Makes `platform` return another platform for whatever is traced inside.

    Functions that JAX has traced before keep their form: trace new ones.

    Args:
      target: one of `PLATFORMS`, or as JAX names devices, "cuda" for instance.

    Raises:
      InvalidInputError: an unknown platform.

    Examples:
      >>> with compiling_for("tpu"):
      ...     platform()
      'tpu'
    """
    check_choice("platform", target, (*PLATFORMS, "cuda", "rocm"))
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)
