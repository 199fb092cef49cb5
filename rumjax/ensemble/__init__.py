"""Many models at once, on all devices of a machine.

`jax.pmap` spreads models over the local devices, outermost; inside a device they are made one after
another on CPU and side by side by `jax.vmap` on accelerators. No step needs another device, so
there is no collective, and a model's result does not depend on the number of devices.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax.checks import check_keys, check_outside
from rumjax.ensemble.programs import (
    WITHIN,
    Programs,
    Read,
    at_once,
    compiled,
    fitting,
    fold_in,
    spread,
    spread_task,
    warm_up,
    within_device,
)
from rumjax.ensemble.works import Job, Work, check_jobs, stacked, together, training, work_of
from rumjax.errors import DivergenceError, InvalidInputError, check_choice, check_count, shown
from rumjax.types import Dataset, PyTree, Variables
from rumjax.unlearn.base import Step, check_finite, check_steps

__all__ = [
    "WITHIN",
    "Epoch",
    "Job",
    "Made",
    "Read",
    "Result",
    "Work",
    "at_once",
    "fitting",
    "make",
    "make_groups",
    "nothing",
    "run",
    "stacked",
    "together",
    "training",
    "whole",
    "within_device",
]


class Epoch(NamedTuple):
    """The report of an epoch of some models."""

    names: Sequence[str]
    step: Step
    epoch: int
    metrics: Sequence[dict[str, float]]
    """of every model"""
    watched: PyTree
    """the results of `watch` on them: NumPy arrays with a leading axis of m"""


class Made(NamedTuple):
    """Some models, once they are made."""

    names: Sequence[str]
    read: PyTree
    """the results of `read` on them: NumPy arrays with a leading axis of m"""
    curves: Sequence[list[dict[str, Any]]]
    """of every model, the metrics of every epoch, with the step's name as `part` and `epoch` from
    1"""
    diverged: Sequence[DivergenceError | None]
    """of every model, the error if it diverged; always None unless that was to be noted"""
    seconds: float
    """the time of all models that the devices made at once, over their number; no compilation"""
    compile_seconds: float
    """the time of the compilation before the first"""


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
    """Reads nothing of a model.

    Examples:
      >>> nothing(Variables({}, {}), None)
      ()
    """
    del variables, data
    return ()


def whole(variables: Variables, data: Dataset) -> PyTree:
    """Reads a model's variables.

    Examples:
      >>> whole(Variables({}, {}), None)
      Variables(params={}, batch_stats={})
    """
    del data
    return variables


def make(
    jobs: Iterable[Job],
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
        numbers of their unlearners; see `together`. There may be none.
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

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import chain, original
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), np.zeros((4, 2, 2, 1), np.uint8)
      >>> variables = model.init(jax.random.key(0), images)
      >>> job = Job("seed 0", jax.random.key(0), chain(task([0], 4), original(model)), variables)
      >>> made = make([job], Dataset(images, np.zeros(4, np.int32)))
      >>> [(job.name, result.diverged) for job, result in made]
      [('seed 0', None)]
    """
    most = check_count("most_per_device", most_per_device)
    jobs = check_jobs(jobs)
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
    """Makes models of groups of jobs that the caller has formed; otherwise does what `make` does.

    Args:
      groups: jobs to be made at the same time, at least one and at most as many as the devices
        hold. Each group is asked for when all models of the one before have been taken, so that a
        generator can decide late.
      data: all of D and whatever `read` looks at.
      read: see `run`.
      devices: see `run`.
      per_device: see `run`.
      watch: see `run`.
      on_epoch: see `run`.
      diverging: see `run`.

    Yields:
      Each job and its model, in the order of the jobs.

    Raises:
      DivergenceError: a model has diverged, and that stops them all; names the model.
      InvalidInputError: a group of no jobs or of too many, or jobs that differ in more than they
        may.

    Examples:
      >>> list(make_groups([], Dataset(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int32))))
      []
    """
    # `run` asks for a work when it makes it, so the latest group is the one that was made.
    group: Sequence[Job] = ()

    def works() -> Iterator[Work]:
        nonlocal group
        for group in groups:
            yield work_of(group)

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
    # A group's results are taken apart, model by model.
    for made in chunks:
        for position, job in enumerate(group):
            one = jax.tree.map(lambda leaf, position=position: leaf[position], made.read)
            curve, error = made.curves[position], made.diverged[position]
            yield job, Result(one, curve, error, made.seconds, made.compile_seconds)


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
    """Makes models, as many at a time as each work has, like `rumjax.run` makes one.

    Args:
      works: asked for one at a time, when the one before is done, and compiled for once: all of the
        same unlearners, up to their numbers, and shapes. None has more models than the devices
        hold; a work that has fewer is filled up, so that it needs no other compilation.
      data: all of D and whatever `read` looks at.
      read: a pure function of a made model's variables; pass the same object each time, since
        compilations are kept by it.
      devices: where to work; all local devices by default.
      per_device: models a device holds at a time.
      within: "map" or "vmap"; by default the result of `within_device`.
      watch: like `read`, after every epoch.
      on_epoch: called after every epoch, with the models that have not done all of theirs.
      diverging: "stops" if a model whose loss or parameters are not finite stops them all, "noted"
        if it is noted in `Made.diverged`.

    Raises:
      DivergenceError: a model has diverged, and that stops them all; names the model.
      InvalidInputError: a work of no models, or of more than the devices hold; or what
        `rumjax.run` refuses.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import chain, original
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), np.zeros((4, 2, 2, 1), np.uint8)
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> steps = chain(task([0], 4), original(model))
      >>> work = together(["a", "b"], keys, [steps] * 2, [model.init(keys[0], images)] * 2)
      >>> data = Dataset(images, np.zeros(4, np.int32))
      >>> [made] = run([work], data, read=whole, devices=jax.local_devices()[:1], per_device=2)
      >>> made.names, made.read.params["Dense_1"]["kernel"].shape
      (['a', 'b'], (2, 4, 2))
    """
    # What is called later can be called.
    for name, function in {"read": read, "watch": watch, "on_epoch": on_epoch}.items():
        if not callable(function) and not (name == "on_epoch" and function is None):
            raise InvalidInputError(f"ensemble, {name}: wanted a function, got {shown(function)}")

    # The programs are compiled when they are first called.
    per_device = check_count("per_device", per_device)
    devices, size = at_once(devices, per_device)
    within = check_choice("within", within or within_device(), WITHIN)
    check_choice("diverging", diverging, ("stops", "noted"))
    programs = compiled(read, watch, devices, within)
    compile_seconds = None
    for work in works:
        # A work that does not fill the devices repeats its last model.
        if not 0 < len(work.names) <= size:
            raise InvalidInputError(f"work of {len(work.names)} models: wanted 1 to {size}")
        check_outside("ensemble", (work, data))
        count = len(work.names)
        steps, variables, data = check_steps(
            f"models {', '.join(work.names[:3])}", work.steps, work.variables, data, lead=(count,)
        )
        keys = check_keys("keys", work.keys, count)
        work = Work(work.names, keys, steps, variables)
        picked = np.minimum(np.arange(size), len(work.names) - 1).reshape(len(devices), per_device)

        # The first work compiles; its time is measured apart.
        if compile_seconds is None:
            begin = time.perf_counter()
            warm_up(programs, work, data, picked)
            compile_seconds = time.perf_counter() - begin

        begin = time.perf_counter()
        values, curves, diverged = _make(programs, work, data, picked, on_epoch, diverging)
        seconds = (time.perf_counter() - begin) / size
        yield Made(work.names, values, curves, diverged, seconds, compile_seconds)


def _make(
    programs: Programs,
    work: Work,
    data: Dataset,
    picked: np.ndarray,
    on_epoch: Callable[[Epoch], None] | None,
    diverging: str,
) -> tuple[PyTree, list[list[dict[str, Any]]], list[DivergenceError | None]]:
    """Runs a work, and returns the results of `read`, the curves, and the errors of its models."""
    count = len(work.names)

    def to_host(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:count], tree
        )

    # One step of all models after another.
    curves: list[list[dict[str, Any]]] = [[] for _ in work.names]
    diverged: list[DivergenceError | None] = [None] * count
    variables = spread(work.variables, picked)
    for position, step in enumerate(work.steps):
        # The state of all models before the first epoch of a step.
        own = [jax.tree.map(lambda leaf, m=m: leaf[m], step.unlearner) for m in range(count)]
        keys, task = fold_in(work.keys, position)[picked], spread_task(step.task, picked)
        unlearner = spread(step.unlearner, picked)
        state = programs.start(data, unlearner, keys, variables, task)
        for epoch in range(max(int(one.epochs) for one in own)):
            state, finite, metrics = programs.advance(data, unlearner, state, task, epoch)
            finite, metrics = to_host((finite, metrics))

            # Metrics are kept of models that have epochs left and have not diverged.
            going = [m for m in range(count) if epoch < own[m].epochs and diverged[m] is None]
            for m in going:
                numbers = {key: values[m] for key, values in metrics.items()}
                try:
                    where = f"{step.name}, {work.names[m]}"
                    checked = check_finite(where, own[m], epoch, finite[m], numbers)
                except DivergenceError as error:
                    if diverging == "stops":
                        raise
                    diverged[m] = error
                else:
                    curves[m].append({"part": step.name, "epoch": epoch + 1, **checked})

            # The caller hears of the models that are still going.
            going = [m for m in going if diverged[m] is None]
            if on_epoch is not None:
                watched = to_host(programs.watch(data, unlearner, state))
                on_epoch(
                    Epoch(
                        [work.names[m] for m in going],
                        step,
                        epoch,
                        [curves[m][-1] for m in going],
                        jax.tree.map(lambda leaf, going=going: leaf[np.array(going, int)], watched),
                    )
                )
        variables = programs.finish(unlearner, state)
    return to_host(programs.read(variables, data)), curves, diverged
