"""How models share a device, and how many it holds: by what compilers and clocks say."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.ensemble.operations import largest_step
from rumjax.ensemble.programs import (
    WITHIN,
    Read,
    compiled,
    laid_out,
    laid_out_task,
    lower,
    nothing,
)
from rumjax.ensemble.warming import everywhere
from rumjax.ensemble.works import Work
from rumjax.errors import check_most
from rumjax.models.checks import check_images
from rumjax.types import Dataset, Task

Item = TypeVar("Item")

SMALL_STEP = 1e10
"""Operations of a training step below which an accelerator is not filled by one model."""

SIDE_BY_SIDE = 16
"""Models with small steps that a device trains side by side, at most; more gain little."""

TIMED = 8
"""Steps that are timed to choose between two ways."""

ROOM = 0.9
"""The share of a device's memory that programs may take, for want of which others would fail."""


def within_device(work: Work, data: Dataset, target: str) -> str:
    """Returns how models share a device: "map", in turn, or "vmap", side by side.

    On CPU it is "map". On TPU and GPU, convolutions of several models at once take 1.05 to 3 times
    as long as one after another, unless a step is so small that it leaves most of the device idle.

    Args:
      work: models; arrays, or shapes and dtypes.
      data: all examples, or shapes and dtypes of them.
      target: the platform to compile for.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import retrain
      >>> from rumjax.ensemble.works import training
      >>> recipe, keys = retrain(Model(Cnn(2)), epochs=1), jax.random.split(jax.random.key(0), 1)
      >>> work = training(recipe, ["a"], keys, np.array([[0, 1]]))
      >>> data = Dataset(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32))
      >>> within_device(work, data, "cpu"), within_device(work, data, "tpu")
      ('map', 'vmap')
    """
    if target == "cpu":
        return "map"
    return "vmap" if largest_step(work, data) < SMALL_STEP else "map"


class Arrangement(NamedTuple):
    """The way in which the models of a device are made.

    Examples:
      >>> Arrangement(16, "vmap", "16 side by side take less time").within
      'vmap'
    """

    per_device: int
    """models that a device holds at a time, at most"""
    within: str
    """one of `rumjax.ensemble.WITHIN`"""
    reason: str
    """why, for people"""


def arrange(
    work: Work | Callable[[], Work],
    data: Dataset,
    *,
    read: Read,
    watch: Read = nothing,
    devices: Sequence[jax.Device] | None = None,
    most: int | str = "auto",
) -> Arrangement:
    """Chooses how many models a device holds, and whether it makes them in turn or side by side.

    On CPU it is one after another. On accelerators, networks whose training step fills the device
    are made one after another too. Of smaller ones as many as fit are made side by side: those that
    the compiler says fit without computing anything twice, unless a few steps of both ways, timed,
    say that they take longer so. What was chosen is kept, as long as the process lives and beside
    JAX's compiled programs.

    Results do not depend on it, but for rounding.

    Args:
      work: one model or more, of the shapes to be made; or a function that makes it, which is not
        called on CPU.
      data: all examples, or shapes and dtypes of them.
      read: see `rumjax.ensemble.run`.
      watch: see `rumjax.ensemble.run`.
      devices: all local devices by default.
      most: models that a device may hold; "auto" for as many as are useful.

    Raises:
      InvalidInputError: `most` is neither a number nor "auto".

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.unlearn import retrain
      >>> from rumjax.ensemble.works import training
      >>> recipe, keys = retrain(Model(Cnn(2)), epochs=1), jax.random.split(jax.random.key(0), 1)
      >>> work = training(recipe, ["a"], keys, np.array([[0, 1]]))
      >>> data = Dataset(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32))
      >>> cpu = jax.devices("cpu")
      >>> arrange(work, data, read=nothing, devices=cpu)[:2]
      (1, 'map')
    """
    most = check_most("models on a device", most)
    devices = tuple(devices or jax.local_devices())
    if devices[0].platform == "cpu":
        return Arrangement(1, "map", "on CPU, one model after another on each device")
    side_by_side = SIDE_BY_SIDE if most == "auto" else int(most)
    if isinstance(data.images, np.ndarray | jax.Array):
        data = Dataset(check_images("images", data.images), data.labels)
    work = work() if callable(work) else work
    operations = largest_step(work, data)
    if side_by_side == 1 or operations > 10 * SMALL_STEP:
        return Arrangement(1, "map", f"one after another: a step takes {operations:.1e} operations")

    # What was chosen before, or is tried now.
    key = _fingerprint(work, data, devices[0], side_by_side)
    chosen = _kept.get(key) or _read_kept().get(key)
    if chosen is None:
        chosen = tried(work, data, read, watch, devices[0], side_by_side)
        _write_kept(key, chosen)
    _kept[key] = chosen
    return chosen


def tried(
    work: Work, data: Dataset, read: Read, watch: Read, device: jax.Device, most: int
) -> Arrangement:
    """Chooses for networks with small steps, by compiling for a device and timing some steps."""
    # As many as fit, by halves.
    limit = (device.memory_stats() or {}).get("bytes_limit", np.inf)
    while most > 1 and not fits(work, data, read, watch, device, most, limit):
        most //= 2

    # The time of a model, both ways; memory may run out all the same, if others use the device.
    beside = np.inf
    while most > 1 and beside == np.inf:
        try:
            beside = seconds_of(work, data, read, watch, device, most, "vmap")
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            most //= 2
    if most == 1:
        return Arrangement(1, "map", "one after another: two side by side do not fit")
    alone = seconds_of(work, data, read, watch, device, 1, "map")
    times = f"{beside:.2g} s a model for {TIMED} steps, {alone:.2g} s one after another"
    if beside < alone:
        return Arrangement(most, "vmap", f"{most} side by side on each device: {times}")
    return Arrangement(1, "map", f"one after another: {most} side by side take {times}")


class Footprint(NamedTuple):
    """The memory of a compiled program, as its compiler says."""

    total: int
    """bytes of a device, of arguments, results and everything between"""
    recomputed: int
    """instructions that compute again what did not fit into memory"""


def footprint(program: jax.stages.Compiled) -> Footprint:
    """Reads the memory of a compiled program.

    Examples:
      >>> footprint(jax.jit(lambda x: x + 1).lower(jnp.zeros(256)).compile()).total
      2048
    """
    memory: Any = program.memory_analysis()
    total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    return Footprint(int(total), recomputed(program.as_text() or ""))


def recomputed(text: str) -> int:
    """Counts the instructions of an HLO module that rematerialization has made.

    Examples:
      >>> recomputed("  %fusion.3.remat2 = f32[] fusion(%a)")
      1
      >>> recomputed("  %fusion.3 = f32[] fusion(%a.remat)")
      0
    """
    return len(re.findall(r"^\s+(?:ROOT )?%?[\w.\-]*\.remat[\w.\-]* = ", text, re.MULTILINE))


def fits(
    work: Work,
    data: Dataset,
    read: Read,
    watch: Read,
    device: jax.Device,
    count: int,
    limit: float,
) -> bool:
    """Tests whether so many models side by side fit into bytes, with nothing computed twice."""
    programs = lower(
        work, data, read=read, watch=watch, devices=[device], per_device=count, within="vmap"
    )
    try:
        footprints = [footprint(program.compile()) for program in programs.values()]
    except jax.errors.JaxRuntimeError as error:
        if is_out_of_memory(error):
            return False
        raise
    return all(one.total < ROOM * limit and not one.recomputed for one in footprints)


def is_out_of_memory(error: BaseException) -> bool:
    """Tests whether an error of JAX says that memory ran out.

    Examples:
      >>> is_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
      True
    """
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def as_memory_allows(
    make: Callable[[Arrangement], Iterator[Item]], arrangement: Arrangement
) -> Iterator[Item]:
    """Yields what `make` does; calls it again with half as many models when memory runs out.

    Args:
      make: makes what is not made yet, in an arrangement.
      arrangement: to begin with.

    Examples:
      >>> list(as_memory_allows(lambda a: iter(range(a.per_device)), Arrangement(2, "map", "")))
      [0, 1]
    """
    while True:
        try:
            yield from make(arrangement)
            return
        except jax.errors.JaxRuntimeError as error:
            if arrangement.per_device == 1 or not is_out_of_memory(error):
                raise
            half = arrangement.per_device // 2
            arrangement = Arrangement(half, arrangement.within, f"{half} at a time: no more fit")


def seconds_of(
    work: Work,
    data: Dataset,
    read: Read,
    watch: Read,
    device: jax.Device,
    count: int,
    within: str,
) -> float:
    """Times `TIMED` steps of each part of a work, compiled; in seconds, per model."""
    programs = compiled(read, watch, (device,), within)
    data, picked = everywhere(data, [device]), np.arange(count)[None] % len(work.names)
    variables, keys = (laid_out(tree, picked, [device]) for tree in (work.variables, work.keys))
    total = 0.0
    for step in work.steps:
        most = TIMED * getattr(step.unlearner, "batch_size", 1)
        short = Task(*(part._replace(size=jnp.minimum(part.size, most)) for part in step.task))
        task = laid_out_task(short, picked, [device])
        unlearner = laid_out(step.unlearner, picked, [device])
        state = programs.start(data, unlearner, keys, variables, task)
        for _ in range(2):  # the first one compiles
            jax.block_until_ready(state)
            begin = time.perf_counter()
            state, _, _ = programs.advance(data, unlearner, state, task, 0)
            jax.block_until_ready(state)
            seconds = time.perf_counter() - begin
        total += seconds
        variables = programs.finish(unlearner, state)
    return total / count


# What was chosen, kept as long as the process lives, and beside JAX's compiled programs

_kept: dict[str, Arrangement] = {}


def _fingerprint(work: Work, data: Dataset, device: jax.Device, most: int) -> str:
    """Returns a name of what an arrangement depends on."""
    unlearners = [step.unlearner for step in work.steps]
    about = (jax.__version__, device.device_kind, most, jax.tree.structure(unlearners))
    shapes = [np.shape(leaf)[1:] for leaf in jax.tree.leaves(work.steps)]
    return hashlib.sha256(f"{about}{shapes}{data.images.shape}".encode()).hexdigest()


def _file() -> pathlib.Path | None:
    """Returns the file that keeps arrangements, if JAX keeps compiled programs on a disk."""
    folder = jax.config.jax_compilation_cache_dir
    if not folder or "://" in str(folder):  # a bucket is no folder of this machine
        return None
    return pathlib.Path(folder) / "rumjax_arrangements.json"


def _read_kept() -> dict[str, Arrangement]:
    """Reads what is kept; nothing, if that cannot be read."""
    try:
        kept = json.loads(file.read_text()) if (file := _file()) else {}
        return {key: _checked(*values) for key, values in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _checked(per_device: Any, within: Any, reason: Any) -> Arrangement:
    """Returns an arrangement of what was written, if it is one."""
    if not isinstance(per_device, int) or per_device < 1 or within not in WITHIN:
        raise ValueError("no arrangement")
    return Arrangement(per_device, within, str(reason))


def _write_kept(key: str, chosen: Arrangement) -> None:
    """Keeps a choice; it would only be made again, so a full disk is no reason to stop."""
    if (file := _file()) is None:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(_read_kept() | {key: chosen}))
        draft.replace(file)
