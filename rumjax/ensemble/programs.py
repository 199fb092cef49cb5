"""The functions of an unlearner, compiled for many models on many devices.

`jax.pmap` spreads models over devices, outermost; inside a device they go through `jax.lax.map` or
`jax.vmap`. Arguments have two leading axes, for devices and for the models of a device.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.ensemble.works import Work
from rumjax.errors import InvalidInputError, check_count
from rumjax.types import Array, Dataset, Key, PyTree, Subset, Task, Variables
from rumjax.unlearn.base import all_finite

WITHIN = ("map", "vmap")
"""Ways in which models share a device."""

Read = Callable[[Variables, Dataset], PyTree]
"""A pure function of a model's variables and the data."""


class Programs(NamedTuple):
    """Compiled functions of all models at once, named after the methods of an unlearner."""

    start: Callable[..., Any]
    advance: Callable[..., Any]
    finish: Callable[..., Any]
    watch: Callable[..., Any]
    read: Callable[..., Any]


def within_device() -> str:
    """Returns how models share a device: "map", in turn, on CPU; else "vmap", side by side.

    Examples:
      >>> within_device() in WITHIN
      True
    """
    return "map" if jax.default_backend() == "cpu" else "vmap"


def at_once(
    devices: Sequence[jax.Device] | None = None, per_device: int = 1
) -> tuple[tuple[jax.Device, ...], int]:
    """Returns the devices to use, by default all local ones, and the models they hold in all.

    Examples:
      >>> devices, models = at_once(jax.local_devices()[:1], per_device=3)
      >>> len(devices), models
      (1, 3)
    """
    devices = tuple(jax.local_devices() if devices is None else devices)
    if not devices:
        raise InvalidInputError("devices: there are none; leave them out to use all local ones")
    return devices, len(devices) * check_count("per_device", per_device)


def fitting(count: int, *, most: int) -> tuple[tuple[jax.Device, ...], int]:
    """Returns devices, and models on each, that make a few models, seeds say, without idling.

    Args:
      count: the number of models.
      most: models that a device may hold.

    Examples:
      >>> devices, per_device = fitting(1, most=4)
      >>> len(devices), per_device
      (1, 1)
    """
    count, most = check_count("models", count), check_count("most", most)
    local = tuple(jax.local_devices())
    used = next(n for n in range(min(count, len(local)), 0, -1) if count % n == 0)
    per_device = 1 if within_device() == "map" else min(count // used, most)
    return local[:used], per_device


@functools.cache
def compiled(read: Read, watch: Read, devices: tuple[jax.Device, ...], within: str) -> Programs:
    """Returns the programs of all models at once; cached, since `pmap` caches by function object.

    Args:
      read: a function of the models once they are made.
      watch: a function of the models after every epoch.
      devices: to spread models over.
      within: one of `WITHIN`.
    """
    over_models = jax.vmap if within == "vmap" else one_after_another
    # A size is the same for all models: a loop of as many steps for each needs no masks.
    tasks: Any = Task(*[Subset(0, None)] * 2)  # type: ignore[arg-type]

    # The methods of the unlearner of one model.
    def start(data: Dataset, unlearner: Any, key: Key, old: Any, task: Task) -> Any:
        return unlearner.init(key, old or None, data, task)

    def advance(data: Dataset, unlearner: Any, state: Any, task: Task, epoch: Array) -> Any:
        def go(state: Any) -> Any:
            return unlearner.epoch(state, data, task)

        def rest(state: Any) -> Any:
            metrics = jax.eval_shape(go, state)[1]
            return state, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), metrics)

        # Of settings that differ in epochs, those that are done rest while the others go on.
        state, metrics = jax.lax.cond(epoch < unlearner.epochs, go, rest, state)
        return state, all_finite(unlearner.finish(state)), metrics

    def finish(unlearner: Any, state: Any) -> Variables:
        variables: Variables = unlearner.finish(state)
        return variables

    def look(data: Dataset, unlearner: Any, state: Any) -> PyTree:
        return watch(finish(unlearner, state), data)

    # The same of all models, over devices and inside each of them.
    def over_all(function: Callable[..., Any], in_axes: tuple[Any, ...], **kwargs: Any) -> Any:
        mapped = over_models(function, in_axes)
        return jax.pmap(mapped, in_axes=in_axes, devices=devices, **kwargs)

    return Programs(
        over_all(start, (None, 0, 0, 0, tasks)),
        over_all(advance, (None, 0, 0, tasks, None), donate_argnums=2),
        over_all(finish, (0, 0)),
        over_all(look, (None, 0, 0)),
        over_all(read, (0, None)),
    )


def one_after_another(function: Callable[..., Any], in_axes: tuple[Any, ...]) -> Callable[..., Any]:
    """Maps like `jax.vmap(function, in_axes)`, by `jax.lax.map`: less memory, faster on CPU.

    Examples:
      >>> doubled = one_after_another(lambda x, factor: factor * x, (0, None))
      >>> doubled(jnp.arange(3), 2).tolist()
      [0, 2, 4]
    """
    # `None` would be a tree without leaves.
    fixed = jax.tree.map(lambda axis: axis is None, in_axes, is_leaf=lambda axis: axis is None)

    def mapped(*args: Any) -> Any:
        # Leaves that move along the axis, and those that stay.
        leaves, structure = jax.tree.flatten(args)
        stays = jax.tree.leaves(jax.tree.broadcast(fixed, args))
        moving = [leaf for leaf, stay in zip(leaves, stays, strict=True) if not stay]

        # One call, with the moving leaves back in their places.
        def once(moving: list[Array]) -> Any:
            remaining = iter(moving)
            full = [
                leaf if stay else next(remaining) for leaf, stay in zip(leaves, stays, strict=True)
            ]
            return function(*jax.tree.unflatten(structure, full))

        return jax.lax.map(once, moving)

    return mapped


def warm_up(programs: Programs, work: Work, data: Dataset, picked: np.ndarray) -> None:
    """Compiles all programs, by an epoch on empty sets, which takes no step.

    Args:
      programs: of `compiled`.
      work: models of the shapes to compile for.
      data: all examples.
      picked: which model of the work goes where, int[devices, models of a device].
    """
    variables = spread(work.variables, picked)
    for step in work.steps:
        task = jax.tree.map(jnp.zeros_like, spread_task(step.task, picked))
        unlearner = spread(step.unlearner, picked)
        state = programs.start(data, unlearner, work.keys[picked], variables, task)
        if np.any(step.unlearner.epochs):
            state, _, _ = programs.advance(data, unlearner, state, task, 0)
            jax.block_until_ready(programs.watch(data, unlearner, state))
        variables = programs.finish(unlearner, state)
    jax.block_until_ready(programs.read(variables, data))


def spread(tree: PyTree, picked: np.ndarray) -> PyTree:
    """Lays out leaves [m, …] as [devices, models of a device, …]; () for None.

    Examples:
      >>> spread(np.array([5, 7]), np.array([[0], [1]])).tolist()
      [[5], [7]]
    """
    # `None` would be an axis to `one_after_another`.
    return () if tree is None else jax.tree.map(lambda leaf: leaf[picked], tree)


def spread_task(task: Task, picked: np.ndarray) -> Task:
    """Lays out the indices of a task like `spread`; its sizes are the same for all models."""
    return Task(*(Subset(part.indices[picked], part.size) for part in task))


@jax.jit
def fold_in(keys: Key, position: int) -> Key:
    """Folds the position of a step into the keys of all models."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, position)
