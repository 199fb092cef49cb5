"""Many models at once, on all devices of a machine.

`jax.pmap` spreads models over the local devices, outermost; inside a device they are made one after
another on CPU and side by side by `jax.vmap` on accelerators. No step needs another device, so
there is no collective, and a model's result does not depend on how many devices there are.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import DivergenceError, InvalidInputError, check_choice, check_count
from rumjax.training import Recipe
from rumjax.types import Array, Dataset, Key, PyTree, Subset, Task, Variables
from rumjax.unlearn.base import Step, all_finite, check_finite

WITHIN = ("map", "vmap")

Read = Callable[[Variables, Dataset], PyTree]


class Work(NamedTuple):
    """Some models to be made at the same time, as `rumjax.run` makes one."""

    names: Sequence[str]
    """what messages call them, "seed 3" for instance; m of them"""
    keys: Key
    """as `rumjax.run` wants them, [m]"""
    steps: Sequence[Step]
    """the same for all, up to examples and the unlearners' numbers, which have a leading axis of m;
    each index set of their tasks is int32[m, capacity], its size int32[]"""
    variables: Variables | None
    """to start from, with a leading axis of m; None before training from scratch"""


class Epoch(NamedTuple):
    """What is known after an epoch of some models."""

    names: Sequence[str]
    step: Step
    epoch: int
    metrics: Sequence[dict[str, float]]
    """of each model"""
    watched: PyTree
    """what `watch` makes of them: NumPy arrays with a leading axis of m"""


class Made(NamedTuple):
    """Some models, once they are made."""

    names: Sequence[str]
    read: PyTree
    """what `read` makes of them: NumPy arrays with a leading axis of m"""
    curves: Sequence[list[dict[str, Any]]]
    """of each, the metrics of every epoch, with the step's name as `part` and `epoch` from 1"""
    diverged: Sequence[DivergenceError | None]
    """of each, what went wrong; always None unless `run` was told to go on"""
    seconds: float
    """that one took, of those that the devices made at the same time, without compilation"""
    compile_seconds: float
    """that compilation took before the first"""


class Job(NamedTuple):
    """A model to be made."""

    name: str
    """the model in messages, "seed 3" for instance"""
    key: Key
    """as `rumjax.run` wants it"""
    steps: Sequence[Step]
    """to be run in order"""
    variables: Variables | Callable[[], Variables] | None = None
    """to start from, or a function that reads them when the model's turn comes; None before
    training from scratch"""
    about: Any = None
    """anything that the caller wants back with the model; not looked at"""


class Result(NamedTuple):
    """A model, once it is made."""

    read: PyTree
    """the result of `read` on it, NumPy arrays"""
    curve: list[dict[str, Any]]
    """its metrics after every epoch, with the step's name as `part` and `epoch` from 1"""
    diverged: DivergenceError | None
    """the error, if the model diverged and that was to be noted"""
    seconds: float
    """its share of the time that its group took, without compilation"""
    compile_seconds: float
    """the time of the compilation that all groups share"""


def nothing(variables: Variables, data: Dataset) -> PyTree:
    """Reads nothing of a model."""
    del variables, data
    return ()


def whole(variables: Variables, data: Dataset) -> PyTree:
    """Reads a model's variables."""
    del data
    return variables


def within_device() -> str:
    """How models share a device: "map", one after another, on CPU; else "vmap", side by side."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def training(recipe: Recipe, names: Sequence[str], keys: Key, subsets: np.ndarray) -> Work:
    """Training from scratch, each model on a row of int32[m, n] subsets of distinct indices."""
    none = np.zeros((len(subsets), 0), np.int32)
    retain = Subset(jnp.asarray(subsets), jnp.int32(subsets.shape[1]))
    task = Task(forget=Subset(jnp.asarray(none), jnp.int32(0)), retain=retain)
    return Work(names, keys, [Step("training", stacked([recipe] * len(names)), task)], None)


def together(
    names: Sequence[str],
    keys: Key,
    steps: Sequence[Sequence[Step]],
    variables: Sequence[Variables | None],
) -> Work:
    """One work of several models that go through the same steps on tasks of the same sizes.

    Args:
      names: m of them.
      keys: [m].
      steps: of each model; all as the first one's, but for the examples in their tasks and the
        numbers of their unlearners, epochs included: a grid of settings is one work.
      variables: of each model, or None for all before training from scratch.

    Raises:
      InvalidInputError: the steps differ in more than that.
    """

    def one(*each: Step) -> Step:
        sizes = {tuple(int(part.size) for part in step.task) for step in each}
        shapes = {tuple(part.indices.shape for part in step.task) for step in each}
        if len(sizes) > 1 or len(shapes) > 1:
            raise InvalidInputError(
                f"step {each[0].name!r}: the tasks of {', '.join(names)} differ in size; run them "
                "one by one"
            )
        if len({jax.tree.structure(step.unlearner) for step in each}) > 1:
            raise InvalidInputError(
                f"step {each[0].name!r}: the unlearners of {', '.join(names)} differ in more than "
                "their numbers; run them one by one"
            )
        parts = zip(*(step.task for step in each), strict=True)
        examples = (
            Subset(jnp.stack([part.indices for part in same]), same[0].size) for same in parts
        )
        return Step(each[0].name, stacked([step.unlearner for step in each]), Task(*examples))

    # Without variables there is nothing to stack, and `None` comes of it.
    return Work(names, keys, [one(*each) for each in zip(*steps, strict=True)], stacked(variables))


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, whose leaves have a leading axis for them; on the host."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(each) for each in leaves]), *trees)


def at_once(
    devices: Sequence[jax.Device] | None = None, per_device: int = 1
) -> tuple[tuple[jax.Device, ...], int]:
    """The devices to use, all local ones by default, and how many models they hold in all."""
    devices = tuple(jax.local_devices() if devices is None else devices)
    return devices, len(devices) * check_count("per_device", per_device)


def fitting(count: int, *, most: int) -> tuple[tuple[jax.Device, ...], int]:
    """Devices, and models on each, that make a few models, seeds for instance, without idling.

    Args:
      count: how many models there are.
      most: that a device may hold.
    """
    local = tuple(jax.local_devices())
    used = next(n for n in range(min(count, len(local)), 0, -1) if count % n == 0)
    each = 1 if within_device() == "map" else min(count // used, most)
    return local[:used], each


def make(
    jobs: Sequence[Job],
    data: Dataset,
    *,
    read: Read = whole,
    most_per_device: int = 1,
    watch: Read = nothing,
    on_epoch: Callable[[Epoch], None] | None = None,
    diverging: str = "stops",
) -> Iterator[tuple[Job, Result]]:
    """Makes a model for every job, as many at a time as `fitting` says, and yields them one by one.

    Args:
      jobs: alike in everything but name, key, variables, the examples in their tasks and the
        numbers of their unlearners; see `together`. None are made of no jobs.
      data: all of D and whatever `read` looks at.
      read: see `run`.
      most_per_device: models that a device holds at a time, at most.
      watch: see `run`.
      on_epoch: see `run`.
      diverging: see `run`.

    Yields:
      Each job and its model, in the order of the jobs.

    Raises:
      DivergenceError: a model has diverged, and that stops them all; names the model.
      InvalidInputError: the jobs differ in more than they may.
    """
    most = check_count("most_per_device", most_per_device)
    if not jobs:
        return
    # Groups of one size share a compilation; the last one may be smaller.
    devices, per_device = fitting(len(jobs), most=most)
    size = len(devices) * per_device
    yield from make_groups(
        (jobs[first : first + size] for first in range(0, len(jobs), size)),
        data,
        read=read,
        devices=devices,
        per_device=per_device,
        watch=watch,
        on_epoch=on_epoch,
        diverging=diverging,
    )


def make_groups(
    groups: Iterable[Sequence[Job]],
    data: Dataset,
    *,
    read: Read = whole,
    devices: Sequence[jax.Device] | None = None,
    per_device: int = 1,
    watch: Read = nothing,
    on_epoch: Callable[[Epoch], None] | None = None,
    diverging: str = "stops",
) -> Iterator[tuple[Job, Result]]:
    """Makes models of groups of jobs that the caller has formed, like `make` otherwise.

    Args:
      groups: jobs to be made at the same time, at least one and at most as many as the devices
        hold. Each group is asked for when all models of the one before have been taken, so that a
        generator can decide late.
      data: all of D and whatever `read` looks at.
      read: see `run`.
      devices: where to work; all local devices by default.
      per_device: models that a device holds at a time.
      watch: see `run`.
      on_epoch: see `run`.
      diverging: see `run`.

    Yields:
      Each job and its model, in the order of the jobs.

    Raises:
      DivergenceError: a model has diverged, and that stops them all; names the model.
      InvalidInputError: a group of no jobs or of too many, or jobs that differ in more than they
        may.
    """
    # `run` asks for a work when it makes it, so the latest group is the one that was made.
    group: Sequence[Job] = ()

    def works() -> Iterator[Work]:
        nonlocal group
        for group in groups:
            yield _work_of(group)

    chunks = run(
        works(),
        data,
        read=read,
        devices=devices,
        per_device=per_device,
        watch=watch,
        on_epoch=on_epoch,
        diverging=diverging,
    )
    for made in chunks:
        for position, job in enumerate(group):
            one = jax.tree.map(lambda leaf, position=position: leaf[position], made.read)
            curve, error = made.curves[position], made.diverged[position]
            yield job, Result(one, curve, error, made.seconds, made.compile_seconds)


def _work_of(group: Sequence[Job]) -> Work:
    """The work of jobs that are made at the same time; reads the variables that are functions."""
    return together(
        [job.name for job in group],
        jnp.stack([job.key for job in group]),
        [job.steps for job in group],
        [job.variables() if callable(job.variables) else job.variables for job in group],
    )


def run(
    works: Iterable[Work],
    data: Dataset,
    *,
    read: Read,
    devices: Sequence[jax.Device] | None = None,
    per_device: int = 1,
    within: str | None = None,
    watch: Read = nothing,
    on_epoch: Callable[[Epoch], None] | None = None,
    diverging: str = "stops",
) -> Iterator[Made]:
    """Makes models, as many at a time as each work has; what `rumjax.run` does for one.

    Args:
      works: asked for one at a time, when the one before is done, and compiled for once: all of the
        same unlearners, up to their numbers, and shapes. None has more models than the devices
        hold; one that has fewer is filled up, so that it needs no other compilation.
      data: all of D and whatever `read` looks at.
      read: a pure function of a made model's variables; pass the same object each time, since
        compilations are kept by it.
      devices: where to work; all local devices by default.
      per_device: models a device holds at a time.
      within: "map" or "vmap"; by default what `within_device` says.
      watch: like `read`, after every epoch.
      on_epoch: called after every epoch, of the models that have not done all of theirs.
      diverging: whether a model whose loss or parameters are not finite "stops" them all, or is
        "noted" in `Made.diverged`.

    Raises:
      DivergenceError: a model has diverged, and that stops them all; names the model.
      InvalidInputError: a work of no models, or of more than the devices hold.
    """
    devices, size = at_once(devices, per_device)
    within = check_choice("within", within or within_device(), WITHIN)
    check_choice("diverging", diverging, ("stops", "noted"))
    compiled = _compiled(read, watch, devices, within)
    compile_seconds = None
    for work in works:
        if not 0 < len(work.names) <= size:
            raise InvalidInputError(f"work of {len(work.names)} models: wanted 1 to {size}")
        picked = np.minimum(np.arange(size), len(work.names) - 1).reshape(len(devices), per_device)
        if compile_seconds is None:
            begin = time.perf_counter()
            _warm_up(compiled, work, data, picked)
            compile_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        found, curves, diverged = _make(compiled, work, data, picked, on_epoch, diverging)
        seconds = (time.perf_counter() - begin) / size
        yield Made(work.names, found, curves, diverged, seconds, compile_seconds)


class _Compiled(NamedTuple):
    start: Callable[..., Any]
    advance: Callable[..., Any]
    finish: Callable[..., Any]
    watch: Callable[..., Any]
    read: Callable[..., Any]


def _make(
    compiled: _Compiled,
    work: Work,
    data: Dataset,
    picked: np.ndarray,
    on_epoch: Callable[[Epoch], None] | None,
    diverging: str,
) -> tuple[PyTree, list[list[dict[str, Any]]], list[DivergenceError | None]]:
    """Runs a work; what is read of its models, their curves, and what went wrong."""
    count = len(work.names)

    def to_host(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:count], tree
        )

    curves: list[list[dict[str, Any]]] = [[] for _ in work.names]
    diverged: list[DivergenceError | None] = [None] * count
    variables = _spread(work.variables, picked)
    for position, step in enumerate(work.steps):
        each = [jax.tree.map(lambda leaf, m=m: leaf[m], step.unlearner) for m in range(count)]
        keys, task = _fold_in(work.keys, position)[picked], _spread_task(step.task, picked)
        unlearner = _spread(step.unlearner, picked)
        state = compiled.start(data, unlearner, keys, variables, task)
        for epoch in range(max(int(one.epochs) for one in each)):
            state, finite, metrics = compiled.advance(data, unlearner, state, task, epoch)
            finite, metrics = to_host((finite, metrics))
            going = [m for m in range(count) if epoch < each[m].epochs and diverged[m] is None]
            for m in going:
                own = {key: values[m] for key, values in metrics.items()}
                try:
                    where = f"{step.name}, {work.names[m]}"
                    numbers = check_finite(where, each[m], epoch, finite[m], own)
                except DivergenceError as error:
                    if diverging == "stops":
                        raise
                    diverged[m] = error
                else:
                    curves[m].append({"part": step.name, "epoch": epoch + 1, **numbers})
            going = [m for m in going if diverged[m] is None]
            if on_epoch is not None:
                watched = to_host(compiled.watch(data, unlearner, state))
                on_epoch(
                    Epoch(
                        [work.names[m] for m in going],
                        step,
                        epoch,
                        [curves[m][-1] for m in going],
                        jax.tree.map(lambda leaf, going=going: leaf[np.array(going, int)], watched),
                    )
                )
        variables = compiled.finish(unlearner, state)
    return to_host(compiled.read(variables, data)), curves, diverged


def _warm_up(compiled: _Compiled, work: Work, data: Dataset, picked: np.ndarray) -> None:
    """Compiles everything, by an epoch on empty sets, which takes no step."""
    variables = _spread(work.variables, picked)
    for step in work.steps:
        task = jax.tree.map(jnp.zeros_like, _spread_task(step.task, picked))
        unlearner = _spread(step.unlearner, picked)
        state = compiled.start(data, unlearner, work.keys[picked], variables, task)
        if np.any(step.unlearner.epochs):
            state, _, _ = compiled.advance(data, unlearner, state, task, 0)
            jax.block_until_ready(compiled.watch(data, unlearner, state))
        variables = compiled.finish(unlearner, state)
    jax.block_until_ready(compiled.read(variables, data))


def _spread(tree: PyTree, picked: np.ndarray) -> PyTree:
    # `None` would be an axis to `one_after_another`.
    return () if tree is None else jax.tree.map(lambda leaf: leaf[picked], tree)


def _spread_task(task: Task, picked: np.ndarray) -> Task:
    return Task(*(Subset(part.indices[picked], part.size) for part in task))


@jax.jit
def _fold_in(keys: Key, position: int) -> Key:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, position)


@functools.cache
def _compiled(read: Read, watch: Read, devices: tuple[jax.Device, ...], within: str) -> _Compiled:
    """What is done to all models at once; kept, since `pmap` caches by function object."""
    over_models = jax.vmap if within == "vmap" else one_after_another
    # A size is the same for all models: a loop of as many steps for each needs no masks.
    tasks: Any = Task(*[Subset(0, None)] * 2)  # type: ignore[arg-type]

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
        found: Variables = unlearner.finish(state)
        return found

    def look(data: Dataset, unlearner: Any, state: Any) -> PyTree:
        return watch(finish(unlearner, state), data)

    def spread(function: Callable[..., Any], in_axes: tuple[Any, ...], **kwargs: Any) -> Any:
        mapped = over_models(function, in_axes)
        return jax.pmap(mapped, in_axes=in_axes, devices=devices, **kwargs)

    return _Compiled(
        spread(start, (None, 0, 0, 0, tasks)),
        spread(advance, (None, 0, 0, tasks, None), donate_argnums=2),
        spread(finish, (0, 0)),
        spread(look, (None, 0, 0)),
        spread(read, (0, None)),
    )


def one_after_another(function: Callable[..., Any], in_axes: tuple[Any, ...]) -> Callable[..., Any]:
    """Like `jax.vmap(function, in_axes)`, by `jax.lax.map`: less memory, and faster on CPU."""
    # `None` would be a tree without leaves.
    fixed = jax.tree.map(lambda axis: axis is None, in_axes, is_leaf=lambda axis: axis is None)

    def mapped(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        stays = jax.tree.leaves(jax.tree.broadcast(fixed, args))
        moving = [leaf for leaf, stay in zip(leaves, stays, strict=True) if not stay]

        def once(moving: list[Array]) -> Any:
            remaining = iter(moving)
            full = [
                leaf if stay else next(remaining) for leaf, stay in zip(leaves, stays, strict=True)
            ]
            return function(*jax.tree.unflatten(structure, full))

        return jax.lax.map(once, moving)

    return mapped
