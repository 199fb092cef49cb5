"""Workers, the scheduler and the driver are killed, late or wrong: a run says so, or goes on."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.lab import gates
from tests.lab.test_engines import ROOT, alive, wait_for
from tests.runs import same_results, start
from tests.tiny import write_config

GONE = 75


class Programs:
    """Programs that a test starts, each with a log of its own."""

    def __init__(self, place, environment):
        self.place, self.running = place, []
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}

    def start(self, module, *arguments, **variables):
        """Starts a module as a program."""
        log = open(self.place / f"log{len(self.running)}.txt", "w+b")  # noqa: SIM115 (see `end`)
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


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    return gates.Gates(tmp_path_factory.mktemp("gates"))


@pytest.fixture(autouse=True)
def _opened(closed):
    """Nobody waits at the gates of a test that has failed."""
    yield
    closed.open_all()


@pytest.fixture(scope="module")
def programs(tmp_path_factory, closed):
    place = tmp_path_factory.mktemp("logs")
    programs = Programs(place, {**closed.environment, "JAX_NUM_CPU_DEVICES": "1"})
    yield programs
    programs.end()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, programs):
    """The file of a scheduler with a worker, which gives up a job once it has ended a worker."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    programs.scheduler(file, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    programs.worker(file)
    return file


@pytest.mark.usefixtures("no_figures")
def test_a_run_comes_to_its_end_whoever_is_killed(
    place, finished, tmp_path, programs, closed, request
):
    work, file = tmp_path / "run", tmp_path / "scheduler.json"
    command = [f"--config={place / 'tiny.py'}", f"--workdir={work}", f"--engine=dask:{file}"]

    # Of two workers, both at work on the bank, one is killed, and the other told to leave, which
    # it does with what it is at. A third one comes late, and takes over.
    closed.close("bank")
    closed.close("rows/retrain")
    scheduler = programs.scheduler(file)
    one, other = programs.worker(file), programs.worker(file)
    driver = programs.start("rumjax.launch", *command)
    wait_for(lambda: closed.pids("bank") >= {one.pid, other.pid})
    kill(one)
    other.terminate()
    late = programs.worker(file)
    closed.open("bank")
    assert other.wait(30) == 0
    wait_for(lambda: late.pid in closed.pids("rows/retrain"))
    assert driver.poll() is None
    assert len(list((work / "bank").glob("0*"))) == 24

    # The driver is killed, and another one goes on with the same workers.
    kill(driver)
    closed.close("rows/finetune")
    driver = programs.start("rumjax.launch", *command)
    closed.open("rows/retrain")
    wait_for(lambda: late.pid in closed.pids("rows/finetune"))

    # The scheduler is killed: the driver says what to do, and workers leave with what they are at.
    kill(scheduler)
    assert driver.wait(30) == GONE
    assert "EngineError: the engine is gone" in said(driver)
    assert "start the same command again to go on" in said(driver)
    assert "Traceback" not in said(driver)
    closed.open("rows/finetune")
    late.wait(30)

    # With others of both, the same command goes on to the same results.
    cluster = request.getfixturevalue("cluster")
    assert start(place / "tiny.py", work, f"--engine=dask:{cluster}") == 0
    same_results(work, finished)
    assert not list(work.rglob(".partial-*"))


SMALL = """
    config.seeds = 3
    config.forget = {"by": "random", "size": 10}
    config.methods = {"finetune_vanilla": vanilla(finetune)}
"""


@pytest.mark.usefixtures("no_figures")
def test_machines_that_start_the_same_command_make_one_run(place, tmp_path, programs, closed):
    """The first is killed, the second told to stop, and both are started again."""
    write_config(place, "small.py", SMALL)
    command = [f"--config={place / 'small.py'}", f"--workdir={tmp_path / 'run'}"]

    def process(index):
        variables = {"SLURM_PROCID": f"{index}", "SLURM_NTASKS": "3", "RUMJAX_HOST": "127.0.0.1"}
        return programs.start(gates.__name__, *command, **variables)

    # Each has a worker, which is held up at an original model.
    closed.close("dynamics")
    first, second, third = map(process, range(3))
    wait_for(lambda: len(closed.pids("dynamics")) == 3)

    # Workers end with whoever started them, or once another first one is there.
    before = closed.pids("dynamics")
    second.terminate()
    assert second.wait(30) == GONE
    kill(first)
    first, second = process(0), process(1)
    wait_for(lambda: len(closed.pids("dynamics") - before) == 3)
    wait_for(lambda: not any(map(alive, before)))
    assert third.poll() is None

    # All end with the run, and leave nothing behind.
    closed.open("dynamics")
    assert [program.wait(60) for program in (first, second, third)] == [0, 0, 0]
    wait_for(lambda: not any(map(alive, closed.pids("dynamics"))))
    assert start(place / "small.py", tmp_path / "alone") == 0
    same_results(tmp_path / "run", tmp_path / "alone")
    assert not list((tmp_path / "run").rglob(".partial-*"))


@pytest.mark.usefixtures("no_figures")
def test_a_directory_that_cannot_be_written_is_said(place, finished, run, cluster, capfd):
    """Permissions do not stop root, so a file is where a folder should be."""
    shutil.rmtree(run / "rows")
    (run / "rows").touch()
    command = place / "tiny.py", run, f"--engine=dask:{cluster}"
    assert start(*command) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert "WorkDirectoryError" in error
    assert f"{run}/rows/" in error
    assert "could not be written (File exists); make room or choose another --workdir" in error
    assert "Traceback" not in error
    (run / "rows").unlink()
    assert start(*command) == 0
    same_results(run, finished)


@pytest.mark.usefixtures("no_figures")
def test_what_diverges_is_said(place, tmp_path, cluster, capfd):
    wild = "--config.training.learning_rate=1e30"
    assert start(place / "tiny.py", tmp_path / "run", f"--engine=dask:{cluster}", wild) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert "DivergenceError: " in error
    assert "diverged in epoch 1" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("refuse", "error: InvalidInputError: measure refuse: so it is"),
        ("fail", "error: InvalidInputError: measures.fail: KeyError: 'nothing'"),
        # The last: it takes the worker with it.
        ("die", "error: JobError: oracles: ('reference', 0): 1 workers ended while doing this"),
    ],
)
def test_the_error_of_a_job_is_said_whole(place, run, cluster, capfd, measure, message):
    measures = f'config.measures = {{"{measure}": "{gates.__name__}:{measure}"}}'
    write_config(place, f"{measure}.py", measures)
    options = [f"--engine=dask:{cluster}", "--recompute=oracle"]
    assert start(place / f"{measure}.py", run, *options) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error
