"""The jobs of a run: what its stages lack, made by this process or by the workers of an engine.

Each stage is a module of `rumjax.lab.stages`. It says what it lacks as a `Batch` of names, mostly
of models, and its `make(context, names, advance)` makes them and leaves whole files. Here that is
all. A worker gets an `Order` for a few names, opens the run's directory once, calls the same
`make`, and returns a `Report`: whatever else there is to know lies in the files.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import os
import pathlib
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple, TypeAlias

from rich.console import Console

import rumjax
from rumjax.errors import InvalidInputError, JobError, RumjaxError, WorkDirectoryError
from rumjax.lab import dependencies, files, progress
from rumjax.lab.context import Context, context_of
from rumjax.lab.devices import settle_worker
from rumjax.lab.experiment import build
from rumjax.lab.workdir import WorkDirectory, differences

Name: TypeAlias = Any
"""A seed, the number of a model of the bank, or a pair of a kind or method and one of these."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Names what a stage of a run or of a case lacks."""

    stage: str
    """the name of its module in `rumjax.lab.stages`"""
    context: Context
    names: Sequence[Name]
    title: str
    """of its progress bar"""
    total: int
    """units of its progress in this process; workers' progress is counted in names"""
    unit: str = "epochs"
    after: "Sequence[Batch]" = ()
    """batches before this one: a name waits for those of the same seed"""
    advance: progress.Advance | None = None
    """called for every name, in place of a bar"""


def make(*batches: Batch) -> None:
    """Makes what batches of one run lack: here in turn, by workers side by side.

    Raises:
      RumjaxError: what a stage raises, or that the engine is gone, or that a job ended its worker;
        the first error ends it, and no other job begins.
    """
    wanted = [batch for batch in batches if batch.names]
    if not wanted:
        return
    crew = wanted[0].context.crew
    if crew is not None:
        crew.make(wanted)
        return

    # Here, batches of one stage that follow each other are made at the same time.
    while wanted:
        first = wanted.pop(0)
        names, total = list(first.names), first.total
        while wanted and wanted[0].stage == first.stage and wanted[0].context is first.context:
            names += wanted[0].names
            total += wanted.pop(0).total
        stage = stage_of(first.stage)
        if first.advance is not None:
            stage.make(first.context, names, first.advance)
            continue
        with progress.stage(first.context.console, first.title, total, first.unit) as advance:
            stage.make(first.context, names, advance)


def stage_of(name: str) -> Any:
    """Returns the module of a stage."""
    return importlib.import_module(f"rumjax.lab.stages.{name}")


# What travels


class Address(NamedTuple):
    """A run, as its workers find it."""

    workdir: str
    start: str
    """different for every start of the command, since files may be made anew between them"""
    code: str
    """the versions of rumjax and JAX"""
    configuration: str
    """as a Python literal, which unlike JSON keeps tuples"""


class Order(NamedTuple):
    """A job: what is to be made, and in which run."""

    run: Address
    stage: str
    case: str
    """the case's folder; empty where the run has a single forget set"""
    names: tuple[Name, ...]

    def __str__(self) -> str:
        """Says what the job is, in words."""
        names = ", ".join(map(str, self.names[:4])) + (", …" if len(self.names) > 4 else "")
        place = " of ".join(filter(None, (self.stage, self.case)))
        return f"{place}: {names}" if place else names


class Report(NamedTuple):
    """Tells what became of a job; all else is in files."""

    worker: str
    devices: tuple[str, ...]
    """kinds of the worker's devices"""
    seconds: float
    notes: tuple[str, ...]
    """what the stage said to people"""


# The worker's side


def carry_out(order: Order) -> Report:
    """Carries a job out: all that an engine is ever given to call.

    Raises:
      RumjaxError: whatever went wrong; what nobody foresaw is a JobError.
    """
    with _ONE_AT_A_TIME:
        return _carried_out(order)


_ONE_AT_A_TIME = threading.Lock()
"""Threads of one process take turns: a job uses all its devices, and files bear its name."""


def _carried_out(order: Order) -> Report:
    """Carries a job out, as the only one in this process."""
    import jax

    begin = time.perf_counter()
    try:
        context, notes = opened(order.run)
        if order.stage:
            stage_of(order.stage).make(in_case(context, order.case), order.names, lambda _: None)
    except RumjaxError:
        raise
    except Exception as error:
        raise JobError(f"{order}, on {worker()}: {traceback.format_exc().rstrip()}") from error
    devices = tuple(f"{device.platform}: {device.device_kind}" for device in jax.local_devices())
    said = notes.getvalue().splitlines()
    notes.seek(0)
    notes.truncate()
    return Report(worker(), devices, time.perf_counter() - begin, tuple(said))


@functools.lru_cache(maxsize=1)
def opened(address: Address) -> tuple[Context, io.StringIO]:
    """Opens a run in a worker: its data stays on the devices, its programs compiled.

    Returns:
      The run's context, and what its stages say to people.

    Raises:
      InvalidInputError: the worker has another version of rumjax or JAX.
      WorkDirectoryError: the worker's directory is not that of the run.
    """
    settle_worker()
    if address.code != code():
        raise InvalidInputError(
            f"worker {worker()} has {code()}, and the run was started with {address.code}; install "
            "the same on both, and start again"
        )
    try:
        run = build(ast.literal_eval(address.configuration))
    except InvalidInputError as error:
        raise InvalidInputError(f"worker {worker()}, in {os.getcwd()}: {error}") from error
    work = WorkDirectory(address.workdir, holder=worker(), lock=False)
    recorded = work.read_json(files.STAGE_RECORD)
    if recorded is None:
        raise WorkDirectoryError(
            f"worker {worker()} finds no run in {address.workdir}; workers need the same directory "
            "under the same name as the command that was started"
        )
    wanted = json.loads(json.dumps(dependencies.configurations(run)))
    if changes := differences({stage: recorded.get(stage) for stage in wanted}, wanted):
        raise InvalidInputError(
            f"worker {worker()} sees another run in {address.workdir}: {'; '.join(changes)}; it "
            "needs the same data and code as the command that was started"
        )
    notes = io.StringIO()
    return context_of(run, work, Console(file=notes, soft_wrap=True)), notes


def in_case(context: Context, folder: str) -> Context:
    """Returns the context of a case by its folder, with the settings that tuning has found."""
    for case in context.cases:
        if case.case.folder == folder:
            adopted: Context = stage_of("tuning").adopted(case)
            return adopted
    return context


def worker() -> str:
    """Returns a name for this process, of letters, digits and underscores."""
    host = "".join(sign if sign.isalnum() else "_" for sign in socket.gethostname())
    return f"{host}_{os.getpid()}"


@functools.cache
def code() -> str:
    """Returns the versions that results depend on, and a digest of rumjax's own code."""
    folder = pathlib.Path(rumjax.__file__).parent
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(f"{path.relative_to(folder)}".encode() + path.read_bytes())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax"))
    return f"rumjax {rumjax.__version__} ({total.hexdigest()[:8]}), {versions}"
