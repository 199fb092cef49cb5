"""One model on several devices, and several hosts: every batch shared out, everything else copied.

Inside `data_parallel` each device computes on its part of every batch, and the compiler inserts the
sums over devices. A loss, a gradient and batch-norm statistics are those of the whole batch, so a
model trains as on one device, up to float32 rounding. A bank of many models needs none of this, see
`rumjax.ensemble`, which is not to be used inside.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec

from rumjax.errors import InvalidInputError

AXIS = "data"
"""The name of the mesh's axis."""

Tree = TypeVar("Tree")


def initialize(
    coordinator: str | None = None, process: int | None = None, processes: int | None = None
) -> None:
    """Joins the processes of a job, so that `jax.devices()` are those of all; call it first of all.

    Under SLURM and Open MPI, and on Cloud TPU and Kubernetes, JAX detects the arguments that are
    not given. If one process dies, the others end too.

    Args:
      coordinator: the address at which all processes reach process 0, "10.0.0.1:1234" for instance.
      process: the number of this process, from 0.
      processes: the number of processes.

    Raises:
      InvalidInputError: an argument is neither given nor detected, or JAX has been used already.
    """
    given = f"coordinator={coordinator!r}, process={process}, processes={processes}"
    if coordinator is not None and ":" not in coordinator:
        raise InvalidInputError(f"initialize: {given}: the coordinator needs a port, HOST:PORT")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"initialize: {given}, and no SLURM, Open MPI, Cloud TPU or Kubernetes to ask for the "
            f"rest; give all three ({error})"
        ) from error
    except RuntimeError as error:
        raise InvalidInputError(f"initialize: {given}: {error}") from error


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of all devices of all processes, or of those given, in a row.

    Examples:
      >>> data_mesh(jax.devices()[:1]).axis_names
      ('data',)
    """
    devices = jax.devices() if devices is None else devices
    if not devices:
        raise InvalidInputError("devices: there are none; leave them out to use all")
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


@contextlib.contextmanager
def data_parallel(devices: Sequence[jax.Device] | None = None) -> Iterator[Mesh]:
    """Shares out every batch of `rumjax.run` over all devices of all processes, or those given.

    All processes run the same program, on the same data and keys. The number of devices has to
    divide the batch size. Results lie on every device, and can be read like any array.

    Examples:
      >>> with data_parallel(jax.devices()[:1]):
      ...     shared_out()
      True
    """
    with jax.set_mesh(data_mesh(devices)) as mesh:
        yield mesh


def replicate(tree: Tree) -> Tree:
    """Copies a tree of arrays, but not of keys, to every device of `data_parallel`.

    Arrays that are not copied beforehand, a data set for instance, are copied in every epoch again.

    Raises:
      InvalidInputError: outside `data_parallel`, or the processes hold different values.

    Examples:
      >>> import numpy as np
      >>> with data_parallel(jax.devices()[:1]):
      ...     replicate(np.arange(3)).tolist()
      [0, 1, 2]
    """
    if not shared_over():
        raise InvalidInputError("replicate: there are no devices; use it inside data_parallel")
    try:
        # Through the host: an array that is tied to one device would not go to other processes.
        return jax.device_put(jax.device_get(tree), PartitionSpec())
    except AssertionError as error:
        raise InvalidInputError(
            "replicate: the processes hold different values; let all load and seed the same"
        ) from error


def across_devices(batch: Tree) -> Tree:
    """Puts an equal part of arrays [B, ...] on every device; outside `data_parallel`, does nothing.

    Raises:
      InvalidInputError: the number of devices does not divide B.
    """
    devices = shared_over()
    sizes = {len(leaf) for leaf in jax.tree.leaves(batch)}
    if not devices:
        return batch
    if any(size % devices for size in sizes):
        raise InvalidInputError(
            f"batches of {max(sizes)} examples cannot be shared out equally over {devices} "
            f"devices: make the batch size a multiple of {devices}, or use fewer devices"
        )
    return jax.lax.with_sharding_constraint(batch, PartitionSpec(AXIS))


def shared_out() -> bool:
    """Tests whether batches are shared out, inside `data_parallel`.

    Examples:
      >>> shared_out()
      False
    """
    return shared_over() > 0


def shared_over() -> int:
    """Returns the number of devices that batches are shared out over; 0 outside `data_parallel`.

    Examples:
      >>> shared_over()
      0
    """
    return jax.sharding.get_abstract_mesh().shape.get(AXIS, 0)
