"""The functions of an unlearner, compiled for many models on many devices.

Models are spread over devices, outermost, by `jax.shard_map` or `jax.pmap`; inside a device they go
through `jax.lax.map` or `jax.vmap`. Arguments have two leading axes, for devices and for the models
of a device. No step needs another device, so there is no collective.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rumjax.ensemble.works import Work
from rumjax.errors import InvalidInputError, check_choice, check_count
from rumjax.platforms import compiling_for
from rumjax.rows import suited
from rumjax.types import Array, Dataset, Key, PyTree, Subset, Task, Variables
from rumjax.unlearn.base import all_finite

WITHIN = ("map", "vmap")
"""Ways in which models share a device: in turn, or side by side."""

ACROSS = ("shard_map", "pmap")
"""Ways in which models are spread over devices; results are the same to the bit."""

OVERRIDE = "RUMJAX_ACROSS"
"""The environment variable that says which of these; the first one by default."""

AXIS = "models"
"""The name of the axis over devices."""

Read = Callable[[Variables, Dataset], PyTree]
"""A pure function of a model's variables and the data."""

# Data are the same for all models, and so are the sizes of tasks: a loop of as many steps for each
# needs no masks.
TASKS: Any = Task(*[Subset(0, None)] * 2)  # type: ignore[arg-type]
IN_AXES: dict[str, tuple[Any, ...]] = {
    "start": (None, 0, 0, 0, TASKS),
    "advance": (None, 0, 0, TASKS, None),
    "finish": (0, 0),
    "watch": (None, 0, 0),
    "read": (0, None),
}
"""the arguments of every program that have an axis over models"""


def nothing(variables: Variables, data: Dataset) -> PyTree:
    """Reads nothing of a model.

    Examples:
      >>> nothing(Variables({}, {}), None)
      ()
    """
    del variables, data
    return ()


class Programs(NamedTuple):
    """Compiled functions of all models at once, named after the methods of an unlearner."""

    start: Callable[..., Any]
    advance: Callable[..., Any]
    finish: Callable[..., Any]
    watch: Callable[..., Any]
    read: Callable[..., Any]


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


def across_devices_by(across: str | None = None) -> str:
    """Returns how models are spread over devices: as given, else as RUMJAX_ACROSS says.

    Examples:
      >>> across_devices_by("pmap")
      'pmap'
    """
    given = os.environ.get(OVERRIDE, ACROSS[0]) if across is None else across
    return check_choice("across" if across else OVERRIDE, given, ACROSS)


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
    return local[:used], min(count // used, most)


@functools.cache
def compiled(
    read: Read, watch: Read, devices: tuple[jax.Device, ...], within: str, across: str = ACROSS[0]
) -> Programs:
    """Returns the programs of all models at once; cached, since JAX caches by function object.

    Args:
      read: a function of the models once they are made.
      watch: a function of the models after every epoch.
      devices: to spread models over; they need not be at hand to lower the programs.
      within: one of `WITHIN`.
      across: one of `ACROSS`.
    """

    # The methods of the unlearner of one model.
    def start(data: Dataset, unlearner: Any, key: Key, old: Any, task: Task) -> Any:
        return unlearner.init(key, old or None, data, task)

    def advance(data: Dataset, unlearner: Any, state: Any, task: Task, epoch: Array) -> Any:
        def go(state: Any) -> Any:
            return unlearner.epoch(state, data, task)

        def rest(state: Any) -> Any:
            metrics = jax.eval_shape(go, state)[1]
            return state, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), metrics)

        # Of settings that differ in epochs, those that are done rest while the others go on. Side
        # by side they go on too, in vain: a `cond` would give every model a copy of the data.
        goes = epoch < unlearner.epochs
        if within == "map":
            state, metrics = jax.lax.cond(goes, go, rest, state)
        else:
            after, metrics = go(state)
            state = jax.tree.map(lambda new, old: jnp.where(goes, new, old), after, state)
        return state, all_finite(unlearner.finish(state)), metrics

    def finish(unlearner: Any, state: Any) -> Variables:
        variables: Variables = unlearner.finish(state)
        return variables

    def look(data: Dataset, unlearner: Any, state: Any) -> PyTree:
        return watch(finish(unlearner, state), data)

    # The same of all models, inside each device and over all of them.
    over_models = jax.vmap if within == "vmap" else one_after_another
    over_devices = _by_pmap if across == "pmap" else _by_shard_map

    def over_all(name: str, function: Callable[..., Any], **kwargs: Any) -> Any:
        @functools.wraps(function)
        def for_these(*args: Any) -> Any:
            with compiling_for(devices[0].platform):
                return function(*args)

        mapped = over_models(for_these, IN_AXES[name])
        return over_devices(mapped, IN_AXES[name], devices, **kwargs)

    return Programs(
        over_all("start", start),
        over_all("advance", advance, donate_argnums=2),
        over_all("finish", finish),
        over_all("watch", look),
        over_all("read", read),
    )


def _by_pmap(
    function: Callable[..., Any],
    in_axes: tuple[Any, ...],
    devices: tuple[jax.Device, ...],
    **kwargs: Any,
) -> Any:
    return jax.pmap(function, in_axes=in_axes, devices=devices, **kwargs)


def _by_shard_map(
    function: Callable[..., Any],
    in_axes: tuple[Any, ...],
    devices: tuple[jax.Device, ...],
    **kwargs: Any,
) -> Any:
    # A device's part of an array keeps the axis over devices, of length 1.
    def of_one_device(*args: Any) -> Any:
        own = jax.tree.map(
            lambda axis, tree: tree if axis is None else jax.tree.map(lambda x: x[0], tree),
            in_axes,
            args,
            is_leaf=lambda axis: axis is None,
        )
        return jax.tree.map(lambda x: x[None], function(*own))

    mesh, specs = mesh_of(devices), _specs(in_axes)
    shared = jax.shard_map(
        of_one_device, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False
    )
    return jax.jit(shared, **kwargs)


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """Returns devices in a row, over which models are spread."""
    return Mesh(np.array(devices), (AXIS,))


def _specs(in_axes: Any) -> Any:
    """Returns where arguments lie, by their axes over devices: on one each, or on all."""
    return jax.tree.map(
        lambda axis: P() if axis is None else P(AXIS), in_axes, is_leaf=lambda axis: axis is None
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


def laid_out(tree: PyTree, picked: np.ndarray, devices: Sequence[jax.Device]) -> PyTree:
    """Lays out leaves [m, …] as [devices, models of a device, …], each part on its device.

    Args:
      tree: of m models; None gives ().
      picked: which model goes where, int[devices, models of a device].
      devices: as many.
    """
    # `None` would be an axis to `one_after_another`.
    if tree is None:
        return ()
    sharding = NamedSharding(mesh_of(devices), P(AXIS))
    return jax.device_put(jax.tree.map(lambda leaf: leaf[picked], tree), sharding)


def laid_out_task(task: Task, picked: np.ndarray, devices: Sequence[jax.Device]) -> Task:
    """Lays out the indices of a task like `laid_out`; its sizes are the same for all models."""
    return Task(*(Subset(laid_out(part.indices, picked, devices), part.size) for part in task))


def lower(
    work: Work,
    data: Dataset,
    *,
    read: Read,
    devices: Sequence[jax.Device],
    per_device: int = 1,
    within: str = "map",
    watch: Read = nothing,
    across: str | None = None,
) -> dict[str, jax.stages.Lowered]:
    """Lowers the programs of a work, from shapes alone, for devices that need not be at hand.

    Args:
      work: of any number of models; arrays, or shapes and dtypes.
      data: all examples, or shapes and dtypes of them.
      read: see `rumjax.ensemble.run`.
      devices: to compile for, of `jax.experimental.topologies` for instance.
      per_device: models that a device holds.
      within: one of `WITHIN`.
      watch: see `rumjax.ensemble.run`.
      across: see `rumjax.ensemble.run`.

    Returns:
      By name: "start", "epoch", "watch" and "finish" of every step, "training: start" for instance,
      and "read".

    Examples:
      >>> from rumjax.ensemble.works import training
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import retrain
      >>> recipe = retrain(Model(Cnn(2, widths=(), hidden=4)), epochs=1)
      >>> work = training(recipe, ["a"], jax.random.split(jax.random.key(0), 1), np.array([[0]]))
      >>> images = jax.ShapeDtypeStruct((9, 4, 4, 1), np.uint8)
      >>> data = Dataset(images, jax.ShapeDtypeStruct((9,), np.int32))
      >>> sorted(lower(work, data, read=nothing, devices=jax.local_devices()[:1]))
      ['read', 'training: epoch', 'training: finish', 'training: start']
    """
    devices = tuple(devices)
    programs = compiled(read, watch, devices, within, across_devices_by(across))

    # Shapes of arrays as they are, and with other leading axes.
    def same(leaf: Any, *, lead: tuple[int, ...] = (), skip: int = 0) -> jax.ShapeDtypeStruct:
        dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
            dtype = jax.dtypes.canonicalize_dtype(dtype)
        return jax.ShapeDtypeStruct((*lead, *np.shape(leaf)[skip:]), dtype)

    of_all = functools.partial(same, lead=(len(devices), per_device), skip=1)
    data = jax.tree.map(same, suited(data, devices[0].platform))
    keys, epoch = jax.tree.map(of_all, work.keys), jax.ShapeDtypeStruct((), jnp.int32)
    variables = () if work.variables is None else jax.tree.map(of_all, work.variables)
    lowered: dict[str, jax.stages.Lowered] = {}
    for step in work.steps:
        unlearner = jax.tree.map(of_all, step.unlearner)
        parts: Any = [Subset(of_all(part.indices), same(part.size)) for part in step.task]  # type: ignore[arg-type]
        task = Task(*parts)
        start = programs.start.lower(data, unlearner, keys, variables, task)  # type: ignore[attr-defined]
        state = start.out_info
        lowered[f"{step.name}: start"] = start
        lowered[f"{step.name}: epoch"] = programs.advance.lower(  # type: ignore[attr-defined]
            data, unlearner, state, task, epoch
        )
        if watch is not nothing:
            lowered[f"{step.name}: watch"] = programs.watch.lower(data, unlearner, state)  # type: ignore[attr-defined]
        finish = programs.finish.lower(unlearner, state)  # type: ignore[attr-defined]
        lowered[f"{step.name}: finish"] = finish
        variables = finish.out_info
    lowered["read"] = programs.read.lower(variables, data)  # type: ignore[attr-defined]
    return lowered


@jax.jit
def fold_in(keys: Key, position: int) -> Key:
    """Folds the position of a step into the keys of all models."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, position)
