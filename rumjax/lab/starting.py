"""How commands on a run start: who makes its models, and which of several processes this is."""

import argparse
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rumjax.errors import InvalidInputError
from rumjax.lab import files
from rumjax.lab.cluster import Process, find_process
from rumjax.lab.devices import settle

if TYPE_CHECKING:
    from rumjax.lab.engines import Engine
    from rumjax.lab.experiment import Run
    from rumjax.lab.workdir import WorkDirectory


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of commands that have models made."""
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="who makes the models: here, this process; dask:local:N, so many processes on this "
        "machine; dask:ADDRESS or dask:FILE.json, the workers of a Dask scheduler; dask, the "
        "processes that are started by the same command; or package.module:function, which "
        "returns an executor (default: dask where SLURM, Open MPI, Cloud TPU or Kubernetes says "
        "that there are several processes, else here)",
    )
    parser.add_argument(
        "--process",
        type=int,
        metavar="I",
        help="which of several processes this is, from 0, where nobody else says it",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="how many there are")


def share(text: str) -> tuple[int, int]:
    """Returns the numbers of a share, I of N.

    Raises:
      argparse.ArgumentTypeError: it is none.

    Examples:
      >>> share("3/16")
      (3, 16)
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"wanted I/N with I from 0 to N - 1, got {text!r}")
    return int(index), int(count)


def on_run(
    arguments: argparse.Namespace,
    config: Mapping[str, Any],
    console: Console,
    body: "Callable[[Run, WorkDirectory, Engine], int]",
) -> int:
    """Calls the body of a command on a run, or works for the process that does.

    Args:
      arguments: of the command, with those of `add_engine`.
      config: the configuration.
      console: where progress is shown.
      body: takes the run, its directory and its engine, and returns the exit status.

    Raises:
      RumjaxError: says what went wrong and what to do about it.
    """
    # Of several processes, the first does the run; a share needs no others.
    process = find_process(arguments.process, arguments.processes)
    shared = getattr(arguments, "share", None)
    engine = "here" if shared else engine_of(arguments, process)
    place = arguments.workdir or f"runs/{config.get('name', 'experiment')}"
    # Imported late, here and below: what imports JAX must not delay a refusal.
    if engine != "here":
        from rumjax.lab import engines

        engines.check(engine)
    if process.index and not shared:
        from rumjax.lab import workers

        return workers.serve(place, process, console)

    # Once JAX has looked at its devices, their number is settled.
    settle(arguments.cpu_devices, only_cpu=engine != "here")
    from rumjax.lab import engines, experiment, workdir

    config = {**config, **forgotten_in(place, config)}
    run = experiment.build(config)
    holder = f"share{shared[0]}" if shared else "main"
    with workdir.WorkDirectory(place, holder=holder) as work:
        console.print(f"{run.name} in {work.path}", markup=False, soft_wrap=True)
        with engines.opened(engine, work, console, process) as opened:
            return body(run, work, opened)


def forgotten_in(place: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the option that keeps out of D what requests in a directory have had forgotten."""
    file = pathlib.Path(place).expanduser() / files.FORGOTTEN
    return {"forgotten": str(file)} if not config.get("forgotten") and file.is_file() else {}


def engine_of(arguments: argparse.Namespace, process: Process) -> str:
    """Returns the name of the engine: as given, or what the number of processes suggests.

    Raises:
      InvalidInputError: it needs one process, and this is one of several.
    """
    engine: str = arguments.engine or ("dask" if process.count > 1 else "here")
    if process.index and engine != "dask":
        raise InvalidInputError(
            f"--engine={engine}: this is process {process.index} of {process.count}, and only one "
            "is wanted; start one, or use --engine=dask"
        )
    return engine
