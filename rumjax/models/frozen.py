"""Batch norm of some layers kept at its running statistics while the others train."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import flax.linen as nn

FIELD = "use_running_average"
"""The flag of Linen's `BatchNorm`, an argument of its call or else a field."""


@contextlib.contextmanager
def frozen_norms(paths: Collection[tuple[str, ...]]) -> Iterator[None]:
    """Makes every Linen `BatchNorm` at one of these paths use running statistics, and keep them.

    Norm layers of NNX modules and of pairs of functions are out of its reach.

    Args:
      paths: of modules, such as ("BatchNorm_0",).

    Examples:
      >>> import jax, numpy as np
      >>> norm, images = nn.BatchNorm(use_running_average=False), np.ones((2, 3), np.float32)
      >>> variables = norm.init(jax.random.key(0), images)
      >>> with frozen_norms([()]):
      ...     _, updated = norm.apply(variables, images, mutable=["batch_stats"])
      >>> updated["batch_stats"]["mean"].tolist()
      [0.0, 0.0, 0.0]
    """

    # Linen calls this in place of every method of every module.
    def freeze(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        norm = isinstance(layer, nn.BatchNorm) and context.method_name == "__call__"
        if not norm or layer.path not in paths:
            return method(*args, **kwargs)

        # The argument goes before the field, and one of the two alone may be given.
        if len(args) > 1 and args[1] is not None:
            return method(args[0], True, *args[2:], **kwargs)
        if kwargs.get(FIELD) is not None:
            return method(*args, **{**kwargs, FIELD: True})
        before = getattr(layer, FIELD)
        # Fields of a module are frozen, so it must not keep what it is given.
        object.__setattr__(layer, FIELD, True)
        try:
            return method(*args, **kwargs)
        finally:
            object.__setattr__(layer, FIELD, before)

    with nn.intercept_methods(freeze):
        yield
