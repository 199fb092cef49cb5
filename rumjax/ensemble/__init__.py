"""Many models at once, on all devices of a machine.

Models are spread over the local devices, outermost, by `jax.shard_map` or `jax.pmap`; inside a
device they are made one after another, or side by side by `jax.vmap` where a step of one would
leave an accelerator idle. No step needs another device, so there is no collective, and a model's
result does not depend on the number of devices.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rumjax.checks import check_keys, check_outside
from rumjax.ensemble.arranging import (
    Arrangement,
    arrange,
    as_memory_allows,
    within_device,
)
from rumjax.ensemble.programs import (
    ACROSS,
    WITHIN,
    Programs,
    Read,
    across_devices_by,
    at_once,
    compiled,
    fitting,
    fold_in,
    laid_out,
    laid_out_task,
    lower,
    nothing,
)
from rumjax.ensemble.results import Epoch, Made, Result
from rumjax.ensemble.warming import everywhere, warm_up
from rumjax.ensemble.works import Job, Work, check_jobs, stacked, together, training, work_of
from rumjax.errors import (
    DivergenceError,
    InvalidInputError,
    check_choice,
    check_count,
    check_most,
    shown,
)
from rumjax.types import Dataset, PyTree, Variables
from rumjax.unlearn.base import check_finite
from rumjax.unlearn.steps import check_steps

__all__ = [
    "ACROSS",
    "WITHIN",
    "Arrangement",
    "Epoch",
    "Job",
    "Made",
    "Read",
    "Result",
    "Work",
    "arrange",
    "as_memory_allows",
    "at_once",
    "fitting",
    "lower",
    "make",
    "make_groups",
    "nothing",
    "run",
    "stacked",
    "together",
    "training",
    "whole",
    "within_device",
    "work_of",
]


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
    most_per_device: int | str = "auto",
    watch: Read = nothing,
    on_epoch: Callable[[Epoch], None] | None = None,
    diverging: str = "stops",
) -> Iterator[tuple[Job, Result]]:
    """Makes a model for every job, several at a time, and yields them one by one.

    Args:
      jobs: alike in everything but name, key, variables, the examples in their tasks and the
        numbers of their unlearners; see `together`. There may be none.
      data: all of D and whatever `read` looks at.
      read: see `run`.
      most_per_device: models that a device holds at a time, at most, see `arrange`; half of them
        if memory runs out.
      watch: see `run`.
      on_epoch: see `run`; of models that are begun again with fewer at a time, it hears twice.
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
    most = check_most("most_per_device", most_per_device)
    jobs = check_jobs(jobs)
    if not jobs:
        return
    _check_watching(read, watch, on_epoch)
    arrangement = arrange(lambda: work_of(jobs[:1]), data, read=read, watch=watch, most=most)
    # Half as many as there are room for may be as many as there are: those would fail once more.
    at_first = fitting(len(jobs), most=arrangement.per_device)[1]
    arrangement = arrangement._replace(per_device=at_first)

    # Groups of one size share a compilation; the last one may be smaller.
    done = 0

    def make_the_rest(arrangement: Arrangement) -> Iterator[tuple[Job, Result]]:
        devices, per_device = fitting(len(jobs) - done, most=arrangement.per_device)
        size = len(devices) * per_device
        return make_groups(
            (jobs[first : first + size] for first in range(done, len(jobs), size)),
            data,
            read=read,
            devices=devices,
            per_device=per_device,
            within=arrangement.within,
            watch=watch,
            on_epoch=on_epoch,
            diverging=diverging,
        )

    for result in as_memory_allows(make_the_rest, arrangement):
        yield result
        done += 1


def make_groups(
    groups: Iterable[Sequence[Job]],
    data: Dataset,
    *,
    read: Read = whole,
    devices: Sequence[jax.Device] | None = None,
    per_device: int = 1,
    within: str | None = None,
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
      within: see `run`.
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
        within=within,
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
    across: str | None = None,
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
      across: "shard_map" or "pmap", by which models are spread over devices; results are the same.
        By default as the environment variable RUMJAX_ACROSS says, or "shard_map".
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
    _check_watching(read, watch, on_epoch)
    per_device = check_count("per_device", per_device)
    devices, size = at_once(devices, per_device)
    if within is not None:
        check_choice("within", within, WITHIN)
    across = across_devices_by(across)
    check_choice("diverging", diverging, ("stops", "noted"))
    compile_seconds = None
    for work in works:
        # A work that does not fill the devices repeats its last model.
        if not 0 < len(work.names) <= size:
            raise InvalidInputError(f"work of {len(work.names)} models: wanted 1 to {size}")
        check_outside("ensemble", (work, data))
        count = len(work.names)
        steps, variables, checked = check_steps(
            f"models {', '.join(work.names[:3])}", work.steps, work.variables, data, lead=(count,)
        )
        keys = check_keys("keys", work.keys, count)
        work = Work(work.names, keys, steps, variables)
        picked = np.minimum(np.arange(size), len(work.names) - 1).reshape(len(devices), per_device)

        # The first work says how, and compiles; its time is measured apart.
        if compile_seconds is None:
            begin = time.perf_counter()
            within = within or within_device(work, checked, devices[0].platform)
            programs = compiled(read, watch, devices, within, across)
            placed = everywhere(checked, devices)
            warm_up(programs, work, placed, picked, devices)
            compile_seconds = time.perf_counter() - begin

        begin = time.perf_counter()
        values, curves, diverged = _make(
            programs, work, placed, picked, devices, on_epoch, diverging
        )
        seconds = (time.perf_counter() - begin) / size
        yield Made(work.names, values, curves, diverged, seconds, compile_seconds)


def _check_watching(read: Any, watch: Any, on_epoch: Any) -> None:
    """Checks that what is called later can be called.

    Raises:
      InvalidInputError: it is no function.
    """
    for name, function in {"read": read, "watch": watch, "on_epoch": on_epoch}.items():
        if not callable(function) and not (name == "on_epoch" and function is None):
            raise InvalidInputError(f"ensemble, {name}: wanted a function, got {shown(function)}")


def _make(
    programs: Programs,
    work: Work,
    data: Dataset,
    picked: np.ndarray,
    devices: Sequence[jax.Device],
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
    variables = laid_out(work.variables, picked, devices)
    for position, step in enumerate(work.steps):
        # The state of all models before the first epoch of a step.
        own = [jax.tree.map(lambda leaf, m=m: leaf[m], step.unlearner) for m in range(count)]
        keys = laid_out(fold_in(work.keys, position), picked, devices)
        task = laid_out_task(step.task, picked, devices)
        unlearner = laid_out(step.unlearner, picked, devices)
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
