"""Many models of one recipe at once; the only file that knows about devices.

`jax.pmap` spreads models over the local devices, outermost; inside a device they are trained one
after another on CPU and side by side by `jax.vmap` on accelerators. No step needs another device,
so there is no collective, and a model's result does not depend on how many devices there are.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import check_choice, check_count
from rumjax.training import Recipe
from rumjax.types import Array, Dataset, Key, Metrics, PyTree, Subset, Task, Variables
from rumjax.unlearn.base import all_finite, check_finite

WITHIN = ("map", "vmap")


class Trained(NamedTuple):
    """Some models of an ensemble, once trained."""

    models: slice
    """which"""
    read: PyTree
    """what was read of them: NumPy arrays with a leading model axis"""
    seconds: float
    """how long their training took, without compilation"""


def within_device() -> str:
    """How models share a device: "map", one after another, on CPU; else "vmap", side by side."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def train(
    recipe: Recipe,
    keys: Key,
    data: Dataset,
    subsets: np.ndarray,
    *,
    read: Callable[[Variables, Dataset], PyTree],
    devices: Sequence[jax.Device] | None = None,
    per_device: int = 1,
    within: str | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> Iterator[Trained]:
    """Trains a model on each row of `subsets` and yields what `read` makes of them, in chunks.

    Args:
      recipe: the same for all models.
      keys: one per model, [M].
      data: all of D and whatever `read` looks at.
      subsets: int32[M, n], distinct indices per row.
      read: a pure function of a trained model's variables; pass the same object each time, since
        compilations are kept by it.
      devices: where to train; all local devices by default.
      per_device: models a device holds at a time.
      within: "map" or "vmap"; by default what `within_device` says.
      on_epoch: called with the models trained so far and the epochs done of those in training.

    Raises:
      DivergenceError: a model's loss or parameters are not finite.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)
    within = check_choice("within", within or within_device(), WITHIN)
    shape = (len(devices), check_count("per_device", per_device))
    start, advance, finish = _compiled(read, devices, within)
    count, chunk = len(subsets), shape[0] * shape[1]
    everyone = jnp.zeros(shape, jnp.int32)
    nobody = Subset(jnp.zeros((*shape, subsets.shape[1]), jnp.int32), jnp.int32(0))
    task = Task(forget=Subset(jnp.zeros(0, jnp.int32), jnp.int32(0)), retain=nobody)
    # Training on empty sets compiles everything and takes no step.
    state = start(recipe, keys[everyone], data, task)
    state, _, _ = advance(recipe, state, data, task)
    jax.block_until_ready(finish(recipe, state, data))
    for first in range(0, count, chunk):
        # The last chunk is filled up by repeating models, so that it needs no other compilation.
        picked = np.minimum(np.arange(first, first + chunk), count - 1).reshape(shape)
        chosen = Subset(jnp.asarray(subsets[picked]), jnp.int32(subsets.shape[1]))
        task = task._replace(retain=chosen)
        begin = time.perf_counter()
        state = start(recipe, keys[picked], data, task)
        for epoch in range(recipe.epochs):
            state, finite, metrics = advance(recipe, state, data, task)
            _check_models(recipe, epoch, first, finite, metrics)
            if on_epoch is not None:
                on_epoch(first, epoch + 1)
        done = min(chunk, count - first)
        found = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(chunk, *leaf.shape[2:])[:done],  # noqa: B023
            finish(recipe, state, data),
        )
        yield Trained(slice(first, first + done), found, time.perf_counter() - begin)


def _check_models(recipe: Recipe, epoch: int, first: int, finite: Array, metrics: Metrics) -> None:
    for model, each in enumerate(np.asarray(finite).reshape(-1)):
        numbers = {name: np.asarray(leaf).reshape(-1)[model] for name, leaf in metrics.items()}
        check_finite(f"model {first + model} of the bank", recipe, epoch, each, numbers)


@functools.cache
def _compiled(
    read: Callable[[Variables, Dataset], PyTree], devices: tuple[jax.Device, ...], within: str
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Start, advance and finish for all models; kept, since `pmap` caches by function object."""

    def over_models(function: Callable[..., Any], in_axes: tuple[Any, ...]) -> Callable[..., Any]:
        if within == "vmap":
            mapped = jax.vmap(function, in_axes=in_axes)
        else:
            mapped = one_after_another(function, in_axes)
        return mapped

    subsets: Any = Task(forget=None, retain=Subset(0, None))  # type: ignore[arg-type]

    def start(recipe: Recipe, key: Key, data: Dataset, task: Task) -> Any:
        return recipe.init(key, None, data, task)

    def advance(recipe: Recipe, state: Any, data: Dataset, task: Task) -> Any:
        state, metrics = recipe.epoch(state, data, task)
        return state, all_finite(recipe.finish(state)), metrics

    def finish(recipe: Recipe, state: Any, data: Dataset) -> PyTree:
        return read(recipe.finish(state), data)

    def spread(function: Callable[..., Any], in_axes: tuple[Any, ...], **kwargs: Any) -> Any:
        return jax.pmap(over_models(function, in_axes), in_axes=in_axes, devices=devices, **kwargs)

    return (
        spread(start, (None, 0, None, subsets)),
        spread(advance, (None, 0, None, subsets), donate_argnums=1),
        spread(finish, (None, 0, None)),
    )


def one_after_another(function: Callable[..., Any], in_axes: tuple[Any, ...]) -> Callable[..., Any]:
    """Like `jax.vmap(function, in_axes)`, by `jax.lax.map`: less memory, and faster on CPU."""

    def mapped(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        axes = jax.tree.leaves(
            jax.tree.broadcast(in_axes, args, is_leaf=lambda axis: axis is None),
            is_leaf=lambda axis: axis is None,
        )
        moving = [leaf for leaf, axis in zip(leaves, axes, strict=True) if axis is not None]

        def once(moving: list[Array]) -> Any:
            remaining = iter(moving)
            full = [
                leaf if axis is None else next(remaining)
                for leaf, axis in zip(leaves, axes, strict=True)
            ]
            return function(*jax.tree.unflatten(structure, full))

        return jax.lax.map(once, moving)

    return mapped
