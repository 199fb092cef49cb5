"""What a process need not do again for the next models: compile programs, and place data.

A worker makes models of the same shapes on the same data many times. JAX keeps compiled programs,
but running all of them on empty sets to see to that takes longer than some models do.
"""

import collections
import itertools
import operator
import weakref
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rumjax.ensemble.programs import Programs, fold_in, laid_out, laid_out_task, mesh_of
from rumjax.ensemble.works import Work
from rumjax.rows import suited
from rumjax.types import Array, Dataset, PyTree, Task

REMEMBERED = 512
"""Kinds of work that are known to be compiled, at most; the one used longest ago is forgotten."""

_compiled: collections.OrderedDict[Hashable, None] = collections.OrderedDict()
_contexts = itertools.count(1)


def warm_up(
    programs: Programs,
    work: Work,
    data: Dataset,
    picked: np.ndarray,
    devices: Sequence[jax.Device],
) -> None:
    """Compiles all programs, unless the process has done so for the same programs and shapes.

    Args:
      programs: of `compiled`.
      work: models of the shapes to compile for.
      data: all examples, on all devices.
      picked: which model of the work goes where, int[devices, models of a device].
      devices: of the programs.
    """
    kind = _kind(programs, work, data, picked)
    if kind not in _compiled:
        run_empty(programs, work, data, picked, devices)
    _compiled[kind] = None
    _compiled.move_to_end(kind)
    if len(_compiled) > REMEMBERED:
        _compiled.popitem(last=False)


def run_empty(
    programs: Programs,
    work: Work,
    data: Dataset,
    picked: np.ndarray,
    devices: Sequence[jax.Device],
) -> None:
    """Compiles all programs, by an epoch on empty sets, which takes no step; see `warm_up`."""
    variables = laid_out(work.variables, picked, devices)
    for step in work.steps:
        keys = laid_out(fold_in(work.keys, 0), picked, devices)
        full = laid_out_task(step.task, picked, devices)
        task = Task(*(part._replace(size=jnp.zeros_like(part.size)) for part in full))
        unlearner = laid_out(step.unlearner, picked, devices)
        state = programs.start(data, unlearner, keys, variables, task)
        if np.any(step.unlearner.epochs):
            state, _, _ = programs.advance(data, unlearner, state, task, 0)
            jax.block_until_ready(programs.watch(data, unlearner, state))
        variables = programs.finish(unlearner, state)
    jax.block_until_ready(programs.read(variables, data))


def _kind(programs: Programs, work: Work, data: Dataset, picked: np.ndarray) -> Hashable:
    """Returns all that a compilation depends on; holds no arrays."""
    trained = tuple(bool(np.any(step.unlearner.epochs)) for step in work.steps)
    steps = [(step.unlearner, step.task) for step in work.steps]
    leaves, structure = jax.tree.flatten((steps, work.keys, work.variables, data))
    types = tuple(map(jax.typeof, leaves))
    return programs, picked.shape, trained, structure, types, _context()


def _context() -> int:
    """Returns a number of JAX's settings, among them x64 and the precision of products.

    JAX traces a function anew where a setting differs that compiled programs depend on, and where
    its caches have been emptied; the number is that of the trace.
    """
    return int(jax.eval_shape(_traced).shape[0])


@jax.jit
def _traced() -> Array:
    return jnp.zeros(next(_contexts), jnp.int8)


class _Placed(NamedTuple):
    """Data on all devices."""

    sources: tuple[weakref.ref[jax.Array], ...]
    """the arrays they were placed from"""
    structure: PyTree
    """of the data"""
    devices: tuple[jax.Device, ...]
    data: Dataset


_placed: list[_Placed] = []
"""the last data that were placed, as long as they are used anywhere else; or none"""


def everywhere(data: Dataset, devices: Sequence[jax.Device]) -> Dataset:
    """Puts data on every device, once, in the form that suits their platform.

    The last data are remembered for as long as the caller keeps them, if all of them are JAX's
    arrays, which do not change; NumPy's might.
    """
    # The same arrays as the last time.
    devices = tuple(devices)
    leaves, structure = jax.tree.flatten(data)
    for last in tuple(_placed):
        alike = (last.structure, last.devices) == (structure, devices)
        if alike and all(map(operator.is_, (source() for source in last.sources), leaves)):
            return last.data

    # Others take their place, and go when one of the arrays they were placed from does.
    def forget(gone: weakref.ref[jax.Array]) -> None:
        _placed[:] = [last for last in _placed if all(gone is not each for each in last.sources)]

    _placed.clear()
    suitable = suited(data, devices[0].platform)
    placed = jax.device_put(suitable, NamedSharding(mesh_of(devices), P()))
    copies = {id(leaf) for leaf in jax.tree.leaves(placed)}
    if all(isinstance(leaf, jax.Array) and id(leaf) not in copies for leaf in leaves):
        sources = tuple(weakref.ref(leaf, forget) for leaf in leaves)
        _placed.append(_Placed(sources, structure, devices, placed))
    return placed
