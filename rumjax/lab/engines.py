"""Engines: who carries out the jobs of a run.

An engine is anything with `submit(function, order)` that returns a future of
`concurrent.futures`: any executor of the standard library is one, and so are those of
`mpi4py.futures` and many others. rumjax's own are `here`, this process, and Dask's, for several
processes and machines, whose workers may come and go.
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from rumjax.errors import EngineError, InvalidInputError, JobError, RumjaxError
from rumjax.lab import scheduling
from rumjax.lab.cluster import ALONE, Process
from rumjax.registry import attempt, is_import_path, resolve

if TYPE_CHECKING:  # importing it takes a second, which Dask's workers do not have to wait
    from rumjax.lab.workdir import WorkDirectory

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
    else:
        with scheduling.opened(where, work, console, process) as engine:
            yield engine


def width(engine: Engine) -> int:
    """Returns how many jobs an engine does at a time, as far as it says.

    Examples:
      >>> width(HERE)
      1
    """
    if isinstance(engine, Here):
        return 1
    if isinstance(engine, scheduling.Dask):
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
    function = resolve("engine", name, {}, wanted="a function that returns an executor")
    engine = attempt(f"engine {name!r}", function, {})
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
