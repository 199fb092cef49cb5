"""Which of several processes this is, by arguments or by what their scheduler says.

Where every machine starts the same command, the first process does the run, and the others work for
it. Training one model on several hosts takes more, see `rumjax.mesh.initialize`.
"""

import dataclasses
import os
from collections.abc import Mapping

from rumjax.errors import InvalidInputError


@dataclasses.dataclass(frozen=True)
class Process:
    """One of several processes."""

    index: int
    """counted from 0"""
    count: int


ALONE = Process(0, 1)

SCHEDULERS = {
    "SLURM": ("SLURM_PROCID", "SLURM_NTASKS"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "Cloud TPU": ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
    "Kubernetes": ("JOB_COMPLETION_INDEX", "RUMJAX_PROCESSES"),
}
"""The environment variables of each scheduler: which process this is, and how many there are.

The second is a number, or names with commas between them. Kubernetes sets the first alone, for an
indexed job; the second has to be put into its manifest."""


def find_process(
    index: int | None = None, count: int | None = None, environ: Mapping[str, str] = os.environ
) -> Process:
    """Finds out which process this is.

    Explicit numbers win; otherwise those of the first scheduler found; otherwise there is a single
    process. The tasks of a SLURM array are no such processes: they need not run at the same time.

    Args:
      index: which process this is, from 0.
      count: how many there are; given if and only if `index` is.
      environ: environment variables.

    Raises:
      InvalidInputError: one number is given without the other, a variable is not a number, or the
        numbers do not fit each other.
    """
    if (index is None) != (count is None):
        raise InvalidInputError("--process and --processes: give both or neither")
    if index is not None and count is not None:
        return _checked(index, count, "--process and --processes")

    # The first scheduler that sets both variables.
    for name, (which, many) in SCHEDULERS.items():
        if which in environ and many in environ:
            return _checked(_number(environ, which), _count(environ, many), name)
    return ALONE


def _checked(index: int, count: int, source: str) -> Process:
    if not 0 <= index < count:
        raise InvalidInputError(
            f"{source}: process {index} of {count}; wanted 0 to {max(count - 1, 0)}"
        )
    return Process(index, count)


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except (KeyError, ValueError) as error:
        raise InvalidInputError(
            f"environment variable {name}: wanted a whole number, got {environ.get(name)!r}"
        ) from error


def _count(environ: Mapping[str, str], name: str) -> int:
    names = environ[name].split(",")
    return len(names) if name.endswith("HOSTNAMES") else _number(environ, name)
