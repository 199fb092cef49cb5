"""Dask as an engine: a scheduler and its client, in this process.

The scheduler is one that is there already, or is started here, with workers on this machine.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import pathlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rumjax.errors import EngineError, InvalidInputError, RumjaxError
from rumjax.lab import files, workers
from rumjax.lab.cluster import Process

if TYPE_CHECKING:  # importing it takes a second, which Dask's workers do not have to wait
    from rumjax.lab.workdir import WorkDirectory

PATIENCE = 60.0
"""Seconds that a scheduler that should be there is waited for."""

LATE = 5.0
"""Seconds without any worker, after which that is said."""


class Dask(Executor):
    """Has functions called by the workers of a Dask scheduler."""

    def __init__(self, client: Any, least: int = 0) -> None:
        """Takes over a client, with the number of workers that are on their way."""
        self._client, self._least = client, least
        self._begun: set[Future[Any]] = set()
        self.threads = 0
        """jobs that the workers do at a time now"""

    @property
    def width(self) -> int:
        """The number of jobs that are done at a time."""
        return max(1, self._least, self.threads)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Sends the function off, under a name that begins like it and ends with what it is for."""
        what = " ".join(str(each) for each in args)[:80]
        key = f"{fn.__name__}-{uuid.uuid4().hex[:8]}-{what}"
        remote = self._client.submit(fn, *args, key=key, pure=False, **kwargs)
        future: Future[Any] = Future()
        self._begun.add(future)
        future.add_done_callback(lambda _: self._settle(future, remote))
        remote.add_done_callback(lambda _: self._hand_over(future, remote))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Cancels what is not done, and closes the client."""
        for future in list(self._begun):
            future.cancel()
        with contextlib.suppress(Exception):  # a scheduler that is gone says no goodbye
            self._client.close(timeout=workers.GRACE)

    def _hand_over(self, future: "Future[Any]", remote: Any) -> None:
        """Passes on what became of a function."""
        with contextlib.suppress(InvalidStateError):  # its caller has cancelled it
            try:
                future.set_result(remote.result())
            except CancelledError:
                future.cancel()
            except InvalidStateError:
                raise
            except BaseException as error:
                future.set_exception(error)

    def _settle(self, future: "Future[Any]", remote: Any) -> None:
        """Lets Dask forget a function whose future is done, or cancels it with its future.

        Otherwise Dask would do it a second time when the worker that has its result ends.
        """
        self._begun.discard(future)
        with contextlib.suppress(Exception):  # the client is closed
            if future.cancelled():
                future.set_running_or_notify_cancel()
                remote.cancel()
            remote.release()


@contextlib.contextmanager
def opened(where: str, work: "WorkDirectory", console: Console, process: Process) -> Iterator[Dask]:
    """Opens Dask for as long as it is used, and closes what was started here.

    Args:
      where: an address, a scheduler file, "local:N", or "", see `rumjax.lab.engines.opened`.
      work: where other machines look for the first, and the logs of workers go.
      console: says that a scheduler or workers are waited for.
      process: which of several this is, the first.

    Raises:
      InvalidInputError: no scheduler can be started here.
      EngineError: the scheduler cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        least = 0
        if where and not where.startswith("local:"):
            address = _address(where, console)
        else:
            address, least = stack.enter_context(_started(where, work, console, process))
        yield stack.enter_context(_connected(address, console, least))


def _address(where: str, console: Console) -> str:
    """Returns the address of a scheduler that is there already, waiting for its file."""
    if not where.endswith(".json"):
        return where
    deadline, path = time.monotonic() + PATIENCE, pathlib.Path(where)
    if not path.exists():
        console.print(f"waiting for {where}", markup=False, soft_wrap=True)
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_text())["address"])
        if time.monotonic() > deadline:
            raise EngineError(
                f"engine 'dask:{where}': no scheduler has written this file in {PATIENCE:.0f} s; "
                f"start one: dask scheduler --scheduler-file {where}"
            )
        time.sleep(0.2)


@contextlib.contextmanager
def _connected(address: str, console: Console, least: int = 0) -> Iterator[Dask]:
    """Connects to a scheduler, and says where its dashboard is and that workers are waited for."""
    from distributed import Client

    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except ValueError as error:  # no address; waiting for it would not help
        raise InvalidInputError(
            f"engine 'dask:{address}': {error}; wanted an address such as tcp://10.0.0.1:8786"
        ) from error
    except (OSError, TimeoutError) as error:
        raise EngineError(
            f"engine 'dask:{address}' cannot be reached ({error}); is its scheduler there?"
        ) from error
    engine, over = Dask(client, least), threading.Event()
    watch = threading.Thread(target=_watch, args=(engine, client, console, over), daemon=True)
    try:
        if "dashboard" in client.scheduler_info()["services"] and _has_dashboard():
            console.print(f"dashboard: {client.dashboard_link}", markup=False, soft_wrap=True)
        watch.start()
        yield engine
    finally:
        over.set()
        engine.shutdown()


def _watch(engine: Dask, client: Any, console: Console, over: threading.Event) -> None:
    """Counts the workers' threads each second, and says when there have been none for long."""
    since: float | None = time.monotonic()
    while not over.wait(workers.PERIOD):
        try:
            engine.threads = client.scheduler_info(n_workers=0)["total_threads"]
        except Exception:  # the scheduler is gone: whoever waits for a job is told
            continue
        if engine.threads:
            since = time.monotonic()
        elif since is not None and time.monotonic() - since > LATE:
            console.print("waiting for workers")
            since = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Dask in this process: what matters of it is said by the errors of jobs."""
    importlib.import_module("distributed")  # which sets the levels
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _has_dashboard() -> bool:
    return importlib.util.find_spec("bokeh") is not None


@contextlib.contextmanager
def _started(
    where: str, work: "WorkDirectory", console: Console, process: Process
) -> Iterator[tuple[str, int]]:
    """Starts a scheduler in this process and workers on this machine."""
    import dask
    from distributed import LocalCluster

    # New defaults, which the user's own configuration of Dask goes before: no worker holds a job
    # in reserve that another could do, and none is profiled.
    kept, plain = {"worker-saturation": 1.0}, {"profile": {"enabled": False}}
    dask.config.update_defaults({"distributed": {"scheduler": kept, "worker": plain}})
    several = process.count > 1
    host = workers.own_address(several)
    try:
        cluster: Any = LocalCluster(n_workers=0, host=host, dashboard_address=f"{host}:0")
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidInputError(
            f"engine 'dask': no scheduler can listen at {host} ({error}); set {workers.HOST} to an "
            "address of this machine"
        ) from error
    logs = None if "://" in str(work.path) else pathlib.Path(work.path) / "logs"
    count = int(where.removeprefix("local:") or 1)
    record = cluster.scheduler.identity(n_workers=0)
    status = 0
    try:
        if not where:
            work.write_json(files.CLUSTER, record)
        with workers.kept(cluster.scheduler_address, count, console, logs, several):
            yield cluster.scheduler_address, count
    except BaseException as error:
        status = _status(error)
        raise
    finally:
        if not where:
            with contextlib.suppress(RumjaxError):  # what ended the run is raised
                work.write_json(files.CLUSTER, {"ended": status, "id": record["id"]})
        with contextlib.suppress(Exception):
            cluster.close(timeout=workers.GRACE)


def _status(error: BaseException) -> int:
    """Returns how a run ended: as its exit status says."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, EngineError) or not isinstance(error, Exception):
        return workers.GONE  # by SIGTERM, in the second case
    return 1
