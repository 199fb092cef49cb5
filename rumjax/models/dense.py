"""What dense layers are given and say, heard from outside: for gradients as outer products."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax

from rumjax.types import Array, PyTree

Name: TypeAlias = tuple[Any, ...]


def by_name(params: PyTree) -> dict[Name, Array]:
    """Parameters by their paths, in the tree's order."""
    leaves = jax.tree.leaves_with_path(params)
    return {tuple(getattr(key, "key", key) for key in path): leaf for path, leaf in leaves}


@contextlib.contextmanager
def dense_layers(
    params: PyTree, noise: Mapping[Name, Array]
) -> Iterator[dict[Name, list[tuple[Array, Array]]]]:
    """Hears every Linen `Dense` that is applied inside, to a batch of vectors, with these params.

    The gradient of its kernel is the outer product of its input and the slope of its output, if it
    is applied once. Whether a module also uses a kernel elsewhere, by its name, is not looked for.

    Args:
      params: the very objects that are given to the model.
      noise: by the kernel's path, what is added to a layer's output; its gradient is the slope.

    Yields:
      A dictionary that fills: by the kernel's path, inputs and outputs of each call.
    """
    kernels = by_name(params)
    seen: dict[Name, list[tuple[Array, Array]]] = {}

    def listen(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        found, layer = method(*args, **kwargs), context.module
        dense = type(layer) is nn.Dense and not layer.dot_general_cls
        # `setup` is listened to as well, and has no arguments.
        if not (dense and context.method_name == "__call__" and args and args[0].ndim == 2):
            return found
        # Under `nn.remat`, `nn.scan` or `nn.WeightNorm` it is not the parameter itself.
        kernel = (*layer.path, "kernel")
        if layer.get_variable("params", "kernel") is not kernels.get(kernel):
            return found
        seen.setdefault(kernel, []).append((args[0], found))
        return found + noise.get(kernel, 0)

    with nn.intercept_methods(listen):
        yield seen
