"""Which of several processes this is, as whatever started them says.

Processes that train a bank need no more than that and a directory in common. Training one model on
several hosts takes more, see `rumjax.mesh.initialize`.
"""

import dataclasses
import os
from collections.abc import Mapping

from rumjax.errors import InvalidInputError


@dataclasses.dataclass(frozen=True)
class Process:
    """One of several processes."""

    index: int
    """from 0"""
    count: int


ALONE = Process(0, 1)

SCHEDULERS = {
    "SLURM": ("SLURM_PROCID", "SLURM_NTASKS"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "Cloud TPU": ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
    "Kubernetes": ("JOB_COMPLETION_INDEX", "RUMJAX_PROCESSES"),
}
"""Where each says which process this is, and how many there are (a number, or names with commas).

Kubernetes says the former alone, for an indexed job; the latter is to be put into its manifest."""


def find_process(
    index: int | None = None, count: int | None = None, environ: Mapping[str, str] = os.environ
) -> Process:
    """The numbers given, else those of the first scheduler that says any, else the only process.

    The tasks of a SLURM array are processes too, each of them so many as it has steps.

    Args:
      index: which process this is, from 0.
      count: how many there are; given if and only if `index` is.
      environ: environment variables.

    Raises:
      InvalidInputError: one number without the other, or numbers that are none or do not fit.
    """
    if (index is None) != (count is None):
        raise InvalidInputError("--process and --processes: give both or neither")
    if index is not None and count is not None:
        return _checked(index, count, "--process and --processes")
    found = ALONE
    for name, (which, many) in SCHEDULERS.items():
        if which in environ and many in environ:
            found = _checked(_number(environ, which), _count(environ, many), name)
            break
    if "SLURM_ARRAY_TASK_ID" in environ:
        first, task, tasks = (
            _number(environ, f"SLURM_ARRAY_TASK_{part}") for part in ("MIN", "ID", "COUNT")
        )
        array = _checked(task - first, tasks, "SLURM array (it must be numbered without gaps)")
        return Process(array.index * found.count + found.index, array.count * found.count)
    return found


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
