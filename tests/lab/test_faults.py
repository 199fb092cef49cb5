"""Workers, the scheduler and the driver are killed, late or wrong: a run says so, or goes on."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.lab.gates import Gates
from tests.runs import same_results, start

ROOT = pathlib.Path(__file__).parents[2]
GONE = 75


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


class Programs:
    """Programs that a test starts, each with a log of its own."""

    def __init__(self, place, environment):
        self.place, self.running = place, []
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}

    def start(self, module, *arguments, **variables):
        """Starts a module as a program."""
        log = open(self.place / f"log{len(self.running)}.txt", "w+b")
        program = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={**self.environment, **variables},
            cwd=self.place,
            stdout=log,
            stderr=log,
        )
        program.log = log
        self.running.append(program)
        return program

    def scheduler(self, file, **variables):
        options = ["--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={file}"]
        return self.start("distributed.cli.dask_scheduler", *options, **variables)

    def worker(self, file):
        options = ["--no-nanny", "--nthreads=1", "--no-dashboard", f"--scheduler-file={file}"]
        return self.start("distributed.cli.dask_worker", *options)

    def end(self):
        for program in self.running:
            program.kill()
            program.wait()
            program.log.close()


def said(program):
    """What a program has written, in one line."""
    program.log.seek(0)
    return " ".join(program.log.read().decode().split())


def kill(program):
    program.kill()
    program.wait()


@pytest.fixture
def gates(tmp_path):
    return Gates(tmp_path / "gates")


@pytest.fixture
def programs(tmp_path, gates):
    programs = Programs(tmp_path, {**gates.environment, "JAX_NUM_CPU_DEVICES": "1"})
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(programs.end)
        yield programs


@pytest.mark.usefixtures("no_figures")
def test_a_run_comes_to_its_end_whoever_is_killed(place, finished, tmp_path, programs, gates):
    work, file = tmp_path / "run", tmp_path / "scheduler.json"
    command = [f"--config={place / 'tiny.py'}", f"--workdir={work}", f"--engine=dask:{file}"]
    times = [time.monotonic()]

    # Of two workers, both at work on the bank, one is killed, and the other told to leave. A third
    # one comes late, and begins anew what they had; the other ends with what it is at.
    gates.close("bank")
    scheduler = programs.scheduler(file)
    one, other = programs.worker(file), programs.worker(file)
    driver = programs.start("rumjax.launch", *command)
    wait_for(lambda: gates.pids("bank") >= {one.pid, other.pid})
    times.append(time.monotonic())
    kill(one)
    late = programs.worker(file)
    other.terminate()
    wait_for(lambda: late.pid in gates.pids("bank"))
    times.append(time.monotonic())
    assert driver.poll() is None
    assert not list((work / "bank").glob("0*"))

    # The driver is killed, and another one goes on with the same workers.
    kill(driver)
    gates.close("rows")
    driver = programs.start("rumjax.launch", *command)
    gates.open("bank")
    assert other.wait(30) == 0
    wait_for(lambda: late.pid in gates.pids("rows"))
    times.append(time.monotonic())
    assert len(list((work / "bank").glob("0*"))) == 24

    # The scheduler is killed: the driver says what to do, and workers leave
    # with what they are at.
    kill(scheduler)
    assert driver.wait(30) == GONE
    assert "EngineError: the engine is gone" in said(driver)
    assert "start the same command again to go on" in said(driver)
    assert "Traceback" not in said(driver)
    times.append(time.monotonic())
    gates.open("rows")
    late.wait(30)
    times.append(time.monotonic())

    # With others of both, the same command goes on to the same results.
    file.unlink()
    programs.scheduler(file, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    programs.worker(file)
    assert start(place / "tiny.py", work, f"--engine=dask:{file}") == 0
    times.append(time.monotonic())
    print([round(b - a, 1) for a, b in zip(times, times[1:])])
    same_results(work, finished)
    assert not list(work.rglob(".partial-*"))
