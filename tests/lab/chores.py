"""Jobs for engines, which their workers import."""

import os
import signal
import sys
import time

from rumjax import launch
from rumjax.errors import InvalidInputError
from rumjax.lab import engines, workers
from rumjax.lab.cluster import Process
from rumjax.lab.workdir import WorkDirectory


def where(number):
    """Which process does it."""
    return number, os.getpid()


def rest(seconds):
    time.sleep(seconds)
    return os.getpid()


def note(path):
    with open(path, "a") as file:
        file.write("done\n")
    return os.getpid()


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(message):
    raise InvalidInputError(message)


def drive(place, process, console):
    """Process 0 of a run: has jobs done until there is a file that says that it is enough."""
    with (
        WorkDirectory(place) as work,
        engines.opened("dask", work, console, process) as engine,
    ):
        while not work.has("enough"):
            jobs = [engine.submit(rest, 0.2) for _ in range(4)]
            for job in jobs:
                work.write_text(f"jobs/{job.result()}", "")


def main(place, index, count):
    """One of several processes that start the same command."""
    workers.PERIOD, workers.ANSWER = 0.2, 1.0
    process = Process(int(index), int(count))
    body = workers.serve if process.index else drive
    return launch.guarded(lambda _, console: body(place, process, console), [])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
