"""Who carries out jobs: this process, pools of the standard library, Dask's workers."""

import concurrent.futures
import io
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from rumjax import errors
from rumjax.lab import engines, workers
from rumjax.lab.workdir import WorkDirectory
from tests.lab import chores

ROOT = pathlib.Path(__file__).parents[2]
JOBS = 6


def spawning():
    """An engine of one's own: `--engine=tests.lab.test_engines:spawning`."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)


def nothing():
    return "no engine"


@pytest.fixture
def work(tmp_path):
    with WorkDirectory(tmp_path / "run") as work:
        yield work


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def said(console):
    return console.file.getvalue()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def alive(pid):
    """Is there such a process, which has not ended?"""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def program(*lines, **variables):
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RUMJAX_HOST": "127.0.0.1", **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


# Without Dask


def test_here_is_the_callers_thread():
    future = engines.HERE.submit(lambda *given: (threading.get_ident(), *given), 1, 2)
    assert future.result() == (threading.get_ident(), 1, 2)


def test_errors_are_the_futures_and_signals_the_callers():
    def raising(error):
        raise error

    wanted = errors.InvalidInputError("so it is")
    assert engines.HERE.submit(raising, wanted).exception() is wanted
    with pytest.raises(KeyboardInterrupt):
        engines.HERE.submit(raising, KeyboardInterrupt())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there", "wanted here, dask"),
        ("dask:here", "wanted here, dask"),
        ("dask:local:0", "at least 1"),
        ("dask:local:two", "at least 1"),
        ("tests.lab.test_engines:spawn", "did you mean 'spawning'"),
        ("tests.lab.test_engines:JOBS", "wanted a function that returns an executor, got int"),
        (None, "wanted here, dask"),
    ],
)
def test_what_is_no_engine_is_refused_early(name, message):
    with pytest.raises(errors.InvalidInputError, match=message):
        engines.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "here",
        "dask",
        "dask:local:3",
        "dask:tcp://10.0.0.1:8786",
        "dask:x.json",
        f"{__name__}:nothing",
    ],
)
def test_what_is_an_engine_is_taken(name):
    assert engines.check(name) == name


def test_without_dask_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(errors.InvalidInputError, match=r"pip install 'rumjax\[cluster\]'"):
        engines.check("dask")


def test_a_function_that_returns_no_engine_is_refused(work, console):
    with (
        pytest.raises(errors.InvalidInputError, match="returned str, which has no submit"),
        engines.opened(f"{__name__}:nothing", work, console),
    ):
        pass


class KilledWorker(Exception):  # noqa: N818 (the name is Dask's)
    """Like that of Dask."""

    allowed_failures, last_worker = 3, "tcp://10.0.0.7:4242"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (errors.DivergenceError("loss"), errors.DivergenceError, "^loss$"),
        (concurrent.futures.CancelledError(), errors.EngineError, "gone .CancelledError. while at"),
        (concurrent.futures.BrokenExecutor("x"), errors.EngineError, "start the same command"),
        (ConnectionResetError(), errors.EngineError, "ConnectionResetError"),
        (TimeoutError(), errors.EngineError, "model 3"),
        (KilledWorker(), errors.JobError, r"model 3: 4 workers .*10.0.0.7:4242.*per_device"),
        (PermissionError(13, "no"), errors.JobError, "^model 3: PermissionError: .*no"),
        (ValueError("odd"), errors.JobError, "^model 3: ValueError: odd$"),
    ],
)
def test_what_engines_raise_is_put_into_words(error, kind, message):
    found = engines.failure(error, "model 3")
    assert type(found) is kind
    with pytest.raises(kind, match=message):
        raise found


def test_ctrl_c_is_no_failure():
    assert engines.failure(KeyboardInterrupt(), "model 3") is None


def test_errors_travel_with_their_message():
    kinds = [errors.RumjaxError, *errors.RumjaxError.__subclasses__()]
    assert {errors.EngineError, errors.JobError} < set(kinds)
    for kind in kinds:
        found = pickle.loads(pickle.dumps(kind("what, where")))
        assert (type(found), str(found)) == (kind, "what, where")


@pytest.mark.parametrize(
    ("count", "several", "environ", "wanted"),
    [
        (1, False, {"CUDA_VISIBLE_DEVICES": "4,5"}, [{}]),
        (2, False, {"CUDA_VISIBLE_DEVICES": ""}, [{}, {}]),
        (
            3,
            False,
            {"CUDA_VISIBLE_DEVICES": "4,5"},
            [("4", ".375"), ("5", ".375"), ("4", ".375")],
        ),
    ],
)
def test_a_machine_is_shared_out(count, several, environ, wanted):
    shares = workers.shares(count, several, environ)
    names = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"
    variables = [dict(zip(names, one, strict=True)) if one else {} for one in wanted]
    assert [environment for _, environment in shares] == variables
    taken = [core for cores, _ in shares for core in cores]
    assert len(taken) == len(set(taken)) <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "environ", "wanted"),
    [
        ("/dev/accel*", {}, "2,2,1"),
        ("/dev/vfio/[0-9]*", {}, "2,2,1"),
        ("/dev/accel*", {"TPU_PROCESS_BOUNDS": "2,2,1"}, None),
        ("/dev/nothing", {}, None),
    ],
)
def test_a_host_of_a_slice_has_its_own_chips(monkeypatch, files, environ, wanted):
    monkeypatch.setattr(workers.glob, "glob", lambda name: ["chip"] * 4 * (name == files))
    ((cores, variables),) = workers.shares(1, True, environ)
    bounds = {"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS": wanted}
    assert (cores, variables) == ([], bounds if wanted else {})
    assert workers.shares(1, False, environ) == [([], {})]


# With processes


@pytest.mark.parametrize("name", [f"{__name__}:spawning", "dask:local:2"])
def test_jobs_are_done_by_other_processes(work, console, name):
    with engines.opened(name, work, console) as engine:
        assert engines.width(engine) == 2
        futures = [engine.submit(chores.where, number) for number in range(JOBS)]
        wrong = engine.submit(chores.refuse, "so it is")
        reports = [future.result() for future in concurrent.futures.as_completed(futures)]
        with pytest.raises(errors.InvalidInputError, match=r"^so it is$"):
            wrong.result()
    assert sorted(number for number, *_ in reports) == list(range(JOBS))
    processes = {pid for _, pid, _ in reports}
    assert os.getpid() not in processes
    wait_for(lambda: not any(map(alive, processes)))


def test_a_worker_that_dies_is_replaced_and_a_job_that_kills_four_is_named(
    work, console, monkeypatch
):
    monkeypatch.setattr(workers, "PERIOD", 0.1)
    with engines.opened("dask:local:2", work, console) as engine:
        pid = engine.submit(chores.where, 0).result()[1]
        running = [engine.submit(chores.rest, 1.0) for _ in range(2)]
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        assert all(future.result() != pid for future in running)
        deadly = engine.submit(chores.die, 3)
        found = engines.failure(deadly.exception(timeout=60), "model 3")
    assert isinstance(found, errors.JobError)
    assert "model 3: 4 workers ended" in str(found)
    assert "a worker ended (signal 9, see" in said(console)
    assert list((work.path / "logs").glob("worker*.log"))


@pytest.mark.parametrize("name", [f"{__name__}:spawning", "dask:local:1"])
def test_an_error_ends_it_promptly(work, console, name):
    engine = engines.opened(name, work, console)
    pid = (opened := engine.__enter__()).submit(chores.where, 0).result()[1]
    futures = [opened.submit(chores.rest, 60) for _ in range(4)]
    time.sleep(0.3)
    begin = time.monotonic()
    assert not engine.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert time.monotonic() - begin < 10
    wait_for(lambda: not alive(pid))
    concurrent.futures.wait(futures, 10)
    lost = concurrent.futures.CancelledError, concurrent.futures.BrokenExecutor
    for future in futures:
        with pytest.raises(lost):
            future.result(0)


def test_a_scheduler_that_is_not_there_is_said(work, console, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "PATIENCE", 0.5)
    for where, message in (
        ("tcp://127.0.0.1:9", "cannot be reached"),
        (tmp_path / "no.json", "no scheduler has written this file"),
    ):
        with (
            pytest.raises(errors.EngineError, match=message),
            engines.opened(f"dask:{where}", work, console),
        ):
            pass
    assert "waiting for" in said(console)
