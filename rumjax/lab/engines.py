"""Engines: who carries out the jobs of a run.

An engine is anything with `submit(function, order)` that returns a future of
`concurrent.futures`: any executor of the standard library is one, and so are those of
`mpi4py.futures` and many others. rumjax's own are `here`, this process, and Dask's, for several
processes and machines, whose workers may come and go.
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
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from rumjax.errors import EngineError, InvalidInputError, JobError, RumjaxError
from rumjax.lab import workers
from rumjax.lab.cluster import ALONE, Process
from rumjax.registry import is_import_path, resolve

if TYPE_CHECKING:  # importing it takes a second, which Dask's workers do not have to wait
    from rumjax.lab.workdir import WorkDirectory

PATIENCE = 60.0
"""Seconds that a scheduler that should be there is waited for."""

LATE = 5.0
"""Seconds without any worker, after which that is said."""

WIDTH = 4
"""Jobs that an engine is taken to do at a time if it does not say how many."""

FORMS = (
    "here, dask, dask:local:N, dask:tcp://HOST:PORT, dask:tls://HOST:PORT, dask:FILE.json or "
    "package.module:function"
)


class Engine(Protocol):
    """Anything that carries out jobs; any `concurrent.futures.Executor` is one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> "Future[Any]":
        """Has a function called, somewhere and at some time."""


class Here(Executor):
    """Calls functions in this process at once, in the thread that submits them.

    Ctrl-C and SIGTERM reach whoever submits; errors are the future's, as with every engine.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Calls the function, and returns when that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


HERE = Here()


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


def check(name: str) -> str:
    """Returns the name of an engine, if it is one and can be used here.

    Raises:
      InvalidInputError: it has another form, Dask is not installed, or an import leads nowhere.

    Examples:
      >>> check("here")
      'here'
      >>> check("ray")
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: engine 'ray': wanted here, dask, dask:local:N, \
dask:tcp://HOST:PORT, dask:tls://HOST:PORT, dask:FILE.json or package.module:function
    """
    kind, _, where = name.partition(":") if isinstance(name, str) else ("", "", "")
    if name == "here":
        return name
    if kind == "dask":
        known = not where or where.startswith(("tcp://", "tls://")) or where.endswith(".json")
        if not known and not where.startswith("local:"):
            raise InvalidInputError(f"engine {name!r}: wanted {FORMS}")
        if where.startswith("local:") and not (where[6:].isdecimal() and int(where[6:])):
            raise InvalidInputError(f"engine {name!r}: wanted a number of workers of at least 1")
        if importlib.util.find_spec("distributed") is None:
            raise InvalidInputError(f"engine {name!r} needs Dask: pip install 'rumjax[cluster]'")
        return name
    if not isinstance(name, str) or not is_import_path(name):
        raise InvalidInputError(f"engine {name!r}: wanted {FORMS}")
    resolve("engine", name, {}, wanted="a function that returns an executor")
    return name


@contextlib.contextmanager
def opened(
    name: str, work: "WorkDirectory", console: Console, process: Process = ALONE
) -> Iterator[Engine]:
    """Opens an engine, and closes what it has started when it is left, promptly after an error.

    Args:
      name: "here"; "dask" for this machine with those that start the same command; "dask:local:N"
        for N processes on this machine; "dask:" and an address or a scheduler file for a cluster
        that is there already; "package.module:function" for what that function returns.
      work: where other machines look for the first, and the logs of workers go.
      console: says that a scheduler or workers are waited for.
      process: which of several this is, the first.

    Raises:
      InvalidInputError: see `check`; or the function returns nothing that has `submit`.
      EngineError: the scheduler cannot be reached.
    """
    kind, _, where = check(name).partition(":")
    if kind == "here":
        yield HERE
    elif kind != "dask":
        with _of_function(name) as engine:
            yield engine
    elif where and not where.startswith("local:"):
        with _quiet(), _connected(_address(where, console), console) as engine:
            yield engine
    else:
        with (
            _quiet(),
            _started(where, work, console, process) as (address, least),
            _connected(address, console, least) as engine,
        ):
            yield engine


def width(engine: Engine) -> int:
    """Returns how many jobs an engine does at a time, as far as it says.

    Examples:
      >>> width(HERE)
      1
    """
    if isinstance(engine, Here):
        return 1
    if isinstance(engine, Dask):
        return engine.width
    most = getattr(engine, "_max_workers", None)
    return most if isinstance(most, int) and most > 0 else WIDTH


_LOST = {"CommClosedError", "RPCClosed", "ClosedClientError", "CancelledError"}
"""Errors of Dask and asyncio, by name: its client or its scheduler is gone."""


def failure(error: BaseException, what: str) -> RumjaxError | None:
    """Returns the error of rumjax for what an engine raised, or None if that is no error.

    Args:
      error: raised by `submit` or by a future.
      what: the job, in words.

    Examples:
      >>> str(failure(ZeroDivisionError("division by zero"), "model 3 of the bank"))
      'model 3 of the bank: ZeroDivisionError: division by zero'
    """
    if isinstance(error, RumjaxError):
        return error
    names = {each.__name__ for each in type(error).__mro__}
    if "KilledWorker" in names:
        last, failures = getattr(error, "last_worker", None), getattr(error, "allowed_failures", 0)
        return JobError(
            f"{what}: {failures + 1} workers ended while doing this, the last of them "
            f"{getattr(last, 'address', last)}; does it need more memory than they have? See the "
            "worker's log, set bank.per_device lower, or give each worker more memory"
        )
    gone = CancelledError, BrokenExecutor, TimeoutError, ConnectionError
    if isinstance(error, gone) or names & _LOST:
        return EngineError(
            f"the engine is gone ({_said(error)}) while at {what}; "
            "start the same command again to go on"
        )
    return JobError(f"{what}: {_said(error)}") if isinstance(error, Exception) else None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextlib.contextmanager
def _of_function(name: str) -> Iterator[Engine]:
    """Opens the engine that someone's own function returns."""
    engine = resolve("engine", name, {}, wanted="a function that returns an executor")()
    if not callable(getattr(engine, "submit", None)):
        raise InvalidInputError(
            f"engine {name!r}: it returned {type(engine).__name__}, which has no submit; wanted a "
            "concurrent.futures.Executor or the like"
        )
    try:
        yield engine
    except BaseException:
        # What runs is dropped, as far as the engine can: its files are whole or absent.
        if isinstance(engine, Executor):
            children = list((getattr(engine, "_processes", None) or {}).values())
            engine.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
        raise
    else:
        if hasattr(engine, "shutdown"):
            engine.shutdown()


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
    except (OSError, TimeoutError, ValueError) as error:
        raise EngineError(
            f"engine 'dask:{address}' cannot be reached ({_said(error)}); is its scheduler there?"
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
            work.write_json(workers.FILE, record)
        with workers.kept(cluster.scheduler_address, count, console, logs, several):
            yield cluster.scheduler_address, count
    except BaseException as error:
        status = _status(error)
        raise
    finally:
        if not where:
            work.write_json(workers.FILE, {"ended": status, "id": record["id"]})
        with contextlib.suppress(Exception):
            cluster.close(timeout=workers.GRACE)


def _status(error: BaseException) -> int:
    """Returns how a run ended: as its exit status says."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, EngineError) or not isinstance(error, Exception):
        return workers.GONE  # by SIGTERM, in the second case
    return 1
