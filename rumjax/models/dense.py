"""Inputs and outputs of dense layers, recorded from outside, for gradients as outer products."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax

from rumjax.types import Array, PyTree

Name: TypeAlias = tuple[Any, ...]


def by_name(params: PyTree) -> dict[Name, Array]:
    """Returns parameters by their paths, in the tree's order."""
    leaves = jax.tree.leaves_with_path(params)
    return {tuple(getattr(key, "key", key) for key in path): leaf for path, leaf in leaves}


def map_named(function: Callable[..., Any], tree: PyTree, *others: PyTree) -> PyTree:
    """Maps `function(number, name, leaf, *leaves of the others)` over parameters.

    Examples:
      >>> map_named(lambda number, name, leaf: (number, *name, leaf), {"a": 5.0, "b": 7.0})
      {'a': (0, 'a', 5.0), 'b': (1, 'b', 7.0)}
    """
    columns = zip(by_name(tree).items(), *map(jax.tree.leaves, others), strict=True)
    mapped = [function(number, *named, *rest) for number, (named, *rest) in enumerate(columns)]
    return jax.tree.unflatten(jax.tree.structure(tree), mapped)


@contextlib.contextmanager
def dense_layers(
    params: PyTree, noise: Mapping[Name, Array]
) -> Iterator[dict[Name, list[tuple[Array, Array]]]]:
    """Records every Linen `Dense` that is applied inside, to a batch of vectors, with these params.

    The gradient of its kernel is the outer product of its input and the slope of its output, if it
    is applied once. A module that also uses the kernel elsewhere, by its name, is not detected.

    Args:
      params: the very objects that are given to the model.
      noise: addends to a layer's output, by the kernel's path; their gradient is the slope.

    Yields:
      A dictionary that fills with inputs and outputs of every call, by the kernel's path.
    """
    kernels = by_name(params)
    seen: dict[Name, list[tuple[Array, Array]]] = {}

    # Linen calls this in place of every method of every module.
    def record(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output, layer = method(*args, **kwargs), context.module
        dense = type(layer) is nn.Dense and not layer.dot_general_cls
        # `setup` is intercepted as well, and has no arguments.
        if not (dense and context.method_name == "__call__" and args and args[0].ndim == 2):
            return output
        # Under `nn.remat`, `nn.scan` or `nn.WeightNorm` it is not the parameter itself.
        kernel = (*layer.path, "kernel")
        if layer.get_variable("params", "kernel") is not kernels.get(kernel):
            return output
        seen.setdefault(kernel, []).append((args[0], output))
        return output + noise.get(kernel, 0)

    with nn.intercept_methods(record):
        yield seen
