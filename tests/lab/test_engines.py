"""Who carries out jobs: this process, pools of the standard library, Dask's workers."""

import concurrent.futures
import contextlib
import io
import json
import multiprocessing
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import dask
import distributed
import pytest
import yaml
from rich.console import Console

from rumjax import errors, launch
from rumjax.lab import engines, files, scheduling, workers
from rumjax.lab.cluster import Process
from rumjax.lab.devices import CORES
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


@pytest.fixture
def started():
    """Starts modules as programs, and ends those that are left."""
    running = []

    def start(module, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RUMJAX_HOST": "127.0.0.1"}
        command = [sys.executable, "-m", module, *map(str, arguments)]
        running.append(subprocess.Popen(command, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


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


@pytest.mark.parametrize(
    ("function", "message"),
    [("nothing", "returned str, which has no submit"), ("wait_for", "TypeError: wait_for..")],
)
def test_a_function_that_returns_no_engine_is_refused(work, console, function, message):
    with (
        pytest.raises(errors.InvalidInputError, match=message),
        engines.opened(f"{__name__}:{function}", work, console),
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
    cores = [share.pop(CORES, "") for share in shares]
    assert shares == variables
    taken = [core for own in cores if own for core in own.split(",")]
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
    (variables,) = workers.shares(1, True, environ)
    bounds = {"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS": wanted}
    assert variables == (bounds if wanted else {})
    assert workers.shares(1, False, environ) == [{}]


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
    assert sorted(number for number, _ in reports) == list(range(JOBS))
    processes = {pid for _, pid in reports}
    assert os.getpid() not in processes
    wait_for(lambda: not any(map(alive, processes)))


def test_a_worker_that_dies_is_replaced_and_a_job_that_kills_four_is_named(
    work, console, monkeypatch, tmp_path
):
    monkeypatch.setattr(workers, "PERIOD", 0.1)
    with engines.opened("dask:local:2", work, console) as engine:
        done = [engine.submit(chores.note, tmp_path / "notes") for _ in range(JOBS)]
        pid = done[-1].result()
        running = [engine.submit(chores.rest, 1.0) for _ in range(2)]
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        assert all(future.result() != pid for future in running)
        deadly = engine.submit(chores.die, 3)
        found = engines.failure(deadly.exception(timeout=60), "model 3")
    # What a worker had done is not done again.
    assert (tmp_path / "notes").read_text().count("done") == len(done)
    assert isinstance(found, errors.JobError)
    assert "model 3: 4 workers ended" in str(found)
    assert "a worker ended (signal 9, see" in said(console)
    assert list((work.path / "logs").glob("worker*.log"))


@pytest.mark.parametrize("name", [f"{__name__}:spawning", "dask:local:1"])
def test_an_error_ends_it_promptly(work, console, monkeypatch, name):
    monkeypatch.setattr(workers, "GRACE", 0.5)
    engine = engines.opened(name, work, console)
    pid = (opened := engine.__enter__()).submit(chores.where, 0).result()[1]
    futures = [opened.submit(chores.rest, 60) for _ in range(4)]
    time.sleep(0.3)
    begin = time.monotonic()
    assert not engine.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert time.monotonic() - begin < 10
    wait_for(lambda: not alive(pid))
    wait_for(lambda: all(future.done() for future in futures))
    lost = concurrent.futures.CancelledError, concurrent.futures.BrokenExecutor
    for future in futures:
        with pytest.raises(lost):
            future.result(0)


def test_a_scheduler_that_is_not_there_is_said(work, console, monkeypatch, tmp_path):
    monkeypatch.setattr(scheduling, "PATIENCE", 0.5)
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
    with (
        pytest.raises(errors.InvalidInputError, match="missing port number"),
        engines.opened("dask:tcp://nohost", work, console),
    ):
        pass


def test_a_late_worker_is_waited_for_and_a_scheduler_that_is_killed_is_said(
    work, console, monkeypatch, tmp_path, started
):
    monkeypatch.setattr(scheduling, "LATE", 0.5)
    monkeypatch.setattr(workers, "PERIOD", 0.1)
    file = tmp_path / "scheduler.json"
    options = ["--host=127.0.0.1", "--port=0", "--dashboard-address=127.0.0.1:0"]
    scheduler = started("distributed.cli.dask_scheduler", *options, f"--scheduler-file={file}")
    with engines.opened(f"dask:{file}", work, console) as engine:
        future = engine.submit(chores.where, 7)
        wait_for(lambda: "waiting for workers" in said(console))
        worker = workers.start(json.loads(file.read_text())["address"])
        assert future.result(60)[:2] == (7, worker.pid)
        running = engine.submit(chores.rest, 60)
        scheduler.kill()
        with pytest.raises(concurrent.futures.CancelledError) as cancelled:
            running.result(30)
        found = engines.failure(cancelled.value, "model 3")
        assert isinstance(found, errors.EngineError)
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    workers.end(worker)


@pytest.mark.parametrize(
    ("left", "status"),
    [
        (None, 75),
        ({"id": "Scheduler-1", "address": "tcp://127.0.0.1:9"}, 75),
        ({"id": "Scheduler-1", "ended": 0}, 0),
        ({"id": "Scheduler-1", "ended": 1}, 1),
    ],
)
def test_what_an_earlier_run_left_is_not_worked_for(tmp_path, console, monkeypatch, left, status):
    monkeypatch.setattr(workers, "PATIENCE", 0.3)
    monkeypatch.setattr(workers, "ANSWER", 0.2)
    monkeypatch.setattr(workers, "PERIOD", 0.1)
    if left is not None:
        (tmp_path / files.CLUSTER).write_text(json.dumps(left))
    begin = time.monotonic()
    assert workers.serve(str(tmp_path), Process(1, 2), console) == status
    assert time.monotonic() - begin > 0.3
    assert "process 0 has not come" in said(console)


@pytest.mark.parametrize(
    ("error", "first", "others"),
    [
        (None, 0, 0),
        (errors.WorkDirectoryError("full"), 1, 1),
        (errors.EngineError("gone"), 75, 75),
        (launch.Terminated(), 75, 75),
        (KeyboardInterrupt(), 130, 1),
    ],
)
def test_the_others_end_as_the_first_does(work, console, monkeypatch, error, first, others):
    monkeypatch.setattr(workers, "kept", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(workers, "PERIOD", 0.01)
    engine = engines.opened("dask", work, console)
    engine.__enter__()
    record = work.read_json(files.CLUSTER)
    assert record["address"].startswith("tcp://127.0.0.1:")
    engine.__exit__(error and type(error), error, None)
    assert work.read_json(files.CLUSTER) == {"ended": first, "id": record["id"]}
    # To one that has begun before, that is news.
    (work.path / "other").mkdir()
    readings = iter([{}, {}, {"ended": first, "id": record["id"]}])
    monkeypatch.setattr(WorkDirectory, "read_json", lambda *_, **__: next(readings))
    place = str(work.path / "other")
    assert workers.serve(place, Process(1, 2), console) == others


def test_strangers_cannot_reach_a_scheduler_with_tls(work, console, monkeypatch, tmp_path):
    """By the configuration that launch/README.md gives."""
    pytest.importorskip("cryptography")
    security = distributed.Security.temporary()
    text = re.search(r"```yaml\n(.*?)```", (ROOT / "launch" / "README.md").read_text(), re.DOTALL)[
        1
    ]
    for name, content in (
        ("ca.pem", security.tls_ca_file),
        ("me.pem", security.tls_client_cert),
        ("key.pem", security.tls_client_key),
    ):
        (tmp_path / name).write_text(content)
        text = text.replace(name, str(tmp_path / name))
    settings = dask.config.merge(dask.config.config, yaml.safe_load(text))
    with dask.config.set(settings), engines.opened("dask", work, console) as engine:
        assert engine.submit(chores.where, 7).result(60)[0] == 7
        record = work.read_json(files.CLUSTER)
        assert record["address"].startswith("tls://")
        assert workers._answers(record)
        monkeypatch.setattr(scheduling, "PATIENCE", 1.0)
        with (
            dask.config.set({"distributed.comm.require-encryption": False}),
            pytest.raises(errors.EngineError, match="cannot be reached"),
            engines.opened(f"dask:{record['address'].replace('tls', 'tcp')}", work, console),
        ):
            pass
