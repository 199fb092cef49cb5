"""Worker processes of Dask: those of one machine, and machines that join the run of another.

A worker is a process of its own, `dask worker` without the nanny, whose settings slow XLA down. It
ends with whoever started it, and with its scheduler. Where every machine starts the same command,
the first one leaves the address of its scheduler in the work directory, as a scheduler file of Dask
that says in the end how the run ended.
"""

import asyncio
import contextlib
import glob
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from rumjax.lab import files
from rumjax.lab.cluster import Process
from rumjax.lab.devices import CORES

HOST = "RUMJAX_HOST"
"""An environment variable: this machine's address for other machines, where it has several."""

GONE = 75
"""The exit status of a machine that lost the first one: starting again can go on."""

GRACE, PATIENCE, PERIOD, ANSWER, LOOK = 2.0, 600.0, 1.0, 5.0, 5.0
"""Seconds: for a worker to leave, for the first machine to come, between two looks for it, for its
answer, and between two looks at its file while working for it."""

OPTIONS = ("--no-nanny", "--nthreads=1", "--memory-limit=0", "--no-dashboard", "--death-timeout=60")
"""What `dask worker` is told: one job at a time, never held back for its memory."""

_WORKER = """
import os, sys, threading
def end_with_parent():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
import runpy
runpy.run_module("distributed.cli.dask_worker", run_name="__main__", alter_sys=True)
"""
"""What a worker runs: it ends when its standard input does, so that it outlives nobody who was
killed."""


def start(
    address: str,
    *,
    environment: Mapping[str, str] | None = None,
    log: pathlib.Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a worker of the scheduler at an address, and does not wait for it.

    Args:
      address: of the scheduler, for example "tcp://10.0.0.1:8786".
      environment: variables besides this process's.
      log: the file that its output is added to; this process's standard error, by default.
    """
    import dask
    from distributed.utils import get_ip

    # It finds what this process can import, and is configured as Dask is here.
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)
    inherited = {
        "PYTHONPATH": path,
        "DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(dask.config.global_config),
    }
    host = get_ip(urlsplit(address).hostname or "")
    program = [sys.executable, "-c", _WORKER, address]
    output: Any = sys.__stderr__
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = open(log, "ab")  # noqa: SIM115 (the worker has it; closed below)
    try:
        return subprocess.Popen(
            [*program, f"--host={host}", f"--dashboard-address={host}:0", *OPTIONS],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **inherited, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for whoever started it
        )
    finally:
        if log is not None:
            output.close()


def end(worker: subprocess.Popen[bytes]) -> None:
    """Ends a worker: it is told to, and killed if it is still there after some seconds."""
    worker.terminate()
    try:
        worker.wait(GRACE)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
    if worker.stdin is not None:
        worker.stdin.close()


@contextlib.contextmanager
def kept(
    address: str, count: int, console: Console, logs: pathlib.Path | None, several_hosts: bool
) -> Iterator[None]:
    """Keeps workers on this machine: one that dies is started again, until this is left."""
    over = threading.Event()
    keepers = [
        threading.Thread(
            target=_keep,
            args=(address, environment, console, logs and logs / f"worker{index}.log", over),
            daemon=True,
        )
        for index, environment in enumerate(shares(count, several_hosts))
    ]
    for keeper in keepers:
        keeper.start()
    try:
        yield
    finally:
        over.set()
        for keeper in keepers:
            keeper.join()


def _keep(
    address: str,
    environment: Mapping[str, str],
    console: Console,
    log: pathlib.Path | None,
    over: threading.Event,
) -> None:
    """Starts one worker again and again; later and later if it dies at once."""
    pause = PERIOD
    while not over.is_set():
        begin = time.monotonic()
        try:
            worker = start(address, environment=environment, log=log)
            try:
                while worker.poll() is None and not over.wait(0.1):
                    pass
            finally:
                end(worker)
            reason = _reason(worker.returncode)
        except OSError as error:
            reason = str(error)
        if not over.is_set():
            pause = _pause(pause, time.monotonic() - begin)
            place = f", see {log}" if log else ""
            text = f"a worker ended ({reason}{place}); starting another"
            console.print(text, markup=False, soft_wrap=True)
            over.wait(pause)


def _pause(pause: float, lived: float) -> float:
    """Returns for how long to wait before a worker is started again: longer if it dies at once."""
    return PERIOD if lived > 60 else min(2 * pause, 60.0)


def _reason(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def shares(
    count: int, several_hosts: bool, environ: Mapping[str, str] = os.environ
) -> list[dict[str, str]]:
    """Shares this machine out to workers: returns the environment variables of each.

    A worker alone has all cores and accelerators. Several get cores of their own, as far as there
    are enough; of several GPUs, each sees one, and shares its memory with those that see the same.
    On one of several hosts of a TPU slice, a worker has the chips of its host and no others.
    """
    # A worker alone.
    if count == 1:
        return [_chips_of_host(environ) if several_hosts else {}]

    # Cores: as many for each, next to each other.
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // count
    variables = []
    for index in range(count):
        own = cores[index * each : (index + 1) * each]
        variables.append({CORES: ",".join(map(str, own))} if own else {})

    # GPUs: one for each, or several workers on one.
    numbers = [path.removeprefix("/dev/nvidia") for path in glob.glob("/dev/nvidia[0-9]*")]
    named = environ.get("CUDA_VISIBLE_DEVICES", ",".join(sorted(numbers, key=int)))
    gpus = [name for name in named.split(",") if name.strip()]
    if gpus:
        fraction = f"{0.75 / -(-count // len(gpus)):.3f}".lstrip("0")
        memory = environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", fraction)
        for index, own_variables in enumerate(variables):
            own_variables["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
            own_variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = memory
    return variables


_BOUNDS = {1: "1,1,1", 4: "2,2,1", 8: "2,4,1"}
"""How libtpu writes the chips of a host, by their number."""


def _chips_of_host(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables by which libtpu takes this host's chips for a machine of their own."""
    names = "TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS"
    chips = len(glob.glob("/dev/accel*")) or len(glob.glob("/dev/vfio/[0-9]*"))
    if chips not in _BOUNDS or any(name in environ for name in names):
        return {}
    return dict(zip(names, ("1,1,1", _BOUNDS[chips]), strict=True))


def own_address(several_hosts: bool) -> str:
    """Returns the address of this machine that its scheduler listens at, and no other."""
    from distributed.utils import get_ip

    return os.environ.get(HOST) or (get_ip() if several_hosts else "127.0.0.1")


# The machines besides the first


def serve(place: str, process: Process, console: Console) -> int:
    """Works for the run that process 0 of the same command does, until that ends.

    It finds process 0 by its file in the work directory, waits for it, and waits for the next one
    when it vanishes.

    Args:
      place: the work directory.
      process: which of several this is, not the first.
      console: says what it does.

    Returns:
      The exit status: 0 if the run is done, 75 if starting again can go on, else 1.

    Raises:
      WorkDirectoryError: another process has this number, or the directory cannot be read.
    """
    # Imported late: it takes some seconds, and this module is used by all that start workers.
    from rumjax.lab.workdir import WorkDirectory

    with WorkDirectory(place, holder=f"process{process.index}") as work:
        # What is there at the start may be of an earlier run: whether it is shows who answers.
        record = work.read_json(files.CLUSTER, missing={})
        stale = record.get("id") if "ended" in record else None
        deadline = time.monotonic() + PATIENCE
        console.print(
            f"process {process.index} of {process.count} on {socket.gethostname()}: waiting for "
            "the first",
            soft_wrap=True,
        )
        pause = PERIOD
        while time.monotonic() < deadline:
            record = work.read_json(files.CLUSTER, missing={})
            if "ended" in record and record.get("id") != stale:
                return _status(record)
            if "ended" not in record and _answers(record):
                console.print(f"working for {record['address']}", markup=False, soft_wrap=True)
                begin = time.monotonic()
                _work_for(work, record, process)
                pause = _pause(pause, time.monotonic() - begin)
                deadline = time.monotonic() + PATIENCE + pause
            time.sleep(pause)
    console.print(f"process 0 has not come in {PATIENCE / 60:.0f} minutes; start both again")
    return _status(record) if "ended" in record else GONE


def _work_for(work: Any, record: Mapping[str, Any], process: Process) -> None:
    """Has a worker work for a scheduler until it ends, or until there is another scheduler."""
    (environment,) = shares(1, process.count > 1)
    worker = start(record["address"], environment=environment)
    try:
        while work.read_json(files.CLUSTER, missing={}).get("id") == record["id"]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(LOOK)
                break
    finally:
        end(worker)


def _status(record: Mapping[str, Any]) -> int:
    """Returns the exit status of a process whose first one has ended."""
    return {0: 0, 4: 0, GONE: GONE}.get(record["ended"], 1)


def _answers(record: Mapping[str, Any]) -> bool:
    """Tests whether the scheduler of a record is there, and is the same."""
    from distributed import Security
    from distributed.core import rpc

    async def identity() -> Any:
        arguments = Security().get_connection_args("client")
        async with rpc(record["address"], timeout=ANSWER, connection_args=arguments) as scheduler:
            return (await scheduler.identity())["id"]

    try:
        return bool(asyncio.run(identity()) == record["id"])
    except (TimeoutError, OSError, ValueError, KeyError):
        return False
