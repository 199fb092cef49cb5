"""Several real processes on one directory: killed, told to stop, started twice, started again."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from rumjax import launch
from rumjax.lab import bank, dependencies, experiment
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import on_device, stage_key
from rumjax.lab.workdir import WorkDirectory
from tests import tiny
from tests.runs import random_moments

MODELS, KILLS = 9, 2
MANY = 1000  # models, more than are made until the test is over, however busy the machine
MORE = f"""
    config.training["epochs"] = 250
    config.bank["models"] = {MODELS}
"""

PROGRAM = """
import sys
from rumjax import launch
from rumjax.lab import bank

bank.train.__kwdefaults__["stale_after"] = 10.0  # a minute is long for a test
sys.exit(launch.main())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, and a configuration whose models take about a second each."""
    folder = tmp_path_factory.mktemp("place")
    tiny.write_data(folder / "data.npz")
    tiny.write_config(folder, more=MORE)
    return folder


@pytest.fixture
def start(place, tmp_path):
    """Starts a process of several, and ends those that are left."""
    running = []
    environment = tiny.environment(place / "compiled")

    def start(*arguments):
        command = [sys.executable, "-c", PROGRAM, f"--config={place / 'tiny.py'}"]
        command += [f"--workdir={tmp_path / 'run'}", "--cpu_devices=1", *arguments]
        log = open(tmp_path / f"log{len(running)}.txt", "w+")  # noqa: SIM115 (read when it ends)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        running.append((process, log))
        return process

    yield start
    for process, log in running:
        process.kill()
        process.wait()
        log.seek(0)
        print(log.read())
        log.close()


def share(index, count):
    return f"--process={index}", f"--processes={count}"


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def claimed(work, index):
    """The sign of life of a process, which names what it is training."""
    path = work / "bank" / "claims" / f"{index}.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def test_a_bank_of_three_processes_one_of_them_killed_again_and_again(place, tmp_path, start):
    """It is the bank of one process, row by row and bit by bit."""
    random = random_moments()
    work = tmp_path / "run"
    others = []
    for _ in range(KILLS):
        before = claimed(work, 0)
        victim = start(*share(0, 3))
        wait_for(lambda: claimed(work, 0) not in (before, None) or victim.poll() is not None)  # noqa: B023
        time.sleep(random.uniform(0, 0.5))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        # They come later, or they would be done before the first is killed again.
        others = others or [start(*share(index, 3)) for index in (1, 2)]
    for each in others:
        assert each.wait(timeout=240) == 0
    with WorkDirectory(work) as directory, WorkDirectory(tmp_path / "alone") as alone:
        built = experiment.build(launch.configuration(str(place / "tiny.py")))
        context = on_device(built, alone, Console(quiet=True))
        header = dependencies.bank_header(built)
        wanted = ModelBank(alone, header)
        key = stage_key(0, "bank")
        bank.train(wanted, built.recipe, context.data, key, models=MODELS)
        found = ModelBank(directory, header)
        assert found.done() == wanted.done() == list(range(MODELS))
        for one, other in zip(found.rows(), wanted.rows(), strict=True):
            assert np.array_equal(one.margins, other.margins)
            assert np.array_equal(one.correct, other.correct)


def test_a_process_told_to_stop_says_that_it_wants_to_be_started_again(tmp_path, start):
    process = start(*share(1, 2), f"--config.bank.models={MANY}")
    wait_for(lambda: list((tmp_path / "run").glob("bank/0*.npz")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == launch.START_AGAIN
    rows = list((tmp_path / "run").glob("bank/0*.npz"))
    assert 0 < len(rows) < MANY
    with WorkDirectory(tmp_path / "run") as work:
        assert ModelBank.open(work).discard_damaged() == []
    assert not list((tmp_path / "run").rglob(".partial-*"))
    assert claimed(tmp_path / "run", 1) is None


def test_a_process_of_one_number_is_refused_a_second_time(tmp_path, start):
    command = (*share(1, 2), f"--config.bank.models={MANY}")
    first = start(*command)
    wait_for(lambda: claimed(tmp_path / "run", 1) is not None)
    second = start(*command)
    assert second.wait(timeout=60) == 1
    assert first.poll() is None
