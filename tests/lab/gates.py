"""Holds workers up where a test wants them, and what workers of a user's own code may do to them.

A preload of Dask's workers: before they write a file whose name begins like a closed gate, they
say that they are held, and wait.
"""

import os
import pathlib
import signal
import sys
import time

from rumjax.errors import InvalidInputError

VARIABLE = "RUMJAX_TESTS_GATES"


class Gates:
    """The gates of a test, which are files of a folder."""

    def __init__(self, place):
        self.closed, self.held = place / "closed", place / "held"
        self.closed.mkdir(parents=True, exist_ok=True)
        self.held.mkdir(exist_ok=True)
        self.environment = {
            "DASK_DISTRIBUTED__WORKER__PRELOAD": f'["{__name__}"]',
            VARIABLE: str(place),
        }

    def close(self, gate):
        """Holds up whoever is about to write a file whose name begins so."""
        (self.closed / gate.replace("/", "+")).touch()

    def open(self, gate):
        (self.closed / gate.replace("/", "+")).unlink()

    def open_all(self):
        for path in self.closed.iterdir():
            path.unlink()

    def pids(self, gate):
        """The processes that have been held up at a gate."""
        found = self.held.glob(f"{gate.replace('/', '+')}-*")
        return {int(path.name.rpartition("-")[2]) for path in found}

    def wait(self, name):
        """Waits before a file is written, where a gate is closed."""
        for gate in self.closed.iterdir():
            while name.replace("/", "+").startswith(gate.name) and gate.exists():
                (self.held / f"{gate.name}-{os.getpid()}").touch()
                time.sleep(0.02)


def dask_setup(worker):
    """Is called by a worker before its first job."""
    from rumjax.lab.workdir import WorkDirectory

    gates, writing = Gates(pathlib.Path(os.environ[VARIABLE])), WorkDirectory.writing

    def write(self, name):
        gates.wait(name)
        return writing(self, name)

    WorkDirectory.writing = write


def launch_without_figures():
    """Does as `python -m rumjax.launch`, but for figures, which take longer than all training."""
    from rumjax import launch
    from rumjax.lab.report import figures

    figures.draw = lambda *_: []
    return launch.main()


def refuse(outputs):
    """A measure that finds something wrong."""
    raise InvalidInputError("measure refuse: so it is")


def fail(outputs):
    """A measure with a defect."""
    return {}["nothing"]


def die(outputs):
    """A measure that ends its process, as one does that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(launch_without_figures())
