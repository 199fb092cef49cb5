"""A run whose models are made by others comes to what it comes to in this process."""

import concurrent.futures
import csv
import io
import multiprocessing
import types

import numpy as np
import pytest
from rich.console import Console

from rumjax import errors
from rumjax.lab import crew, engines, experiment, files, jobs, pipeline
from rumjax.lab.crew import Crew, Queue
from rumjax.lab.jobs import Address, Batch, Order, Report
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from tests.lab.test_audits import Network
from tests.runs import TIMES, arrays, kept_files, same_results, start, table

FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}
QUIET = Console(quiet=True)


def spawned():
    """An engine of one's own: `--engine=tests.lab.test_workers:spawned`."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)


@pytest.fixture(autouse=True)
def _forgotten():
    """Lets this process open each run anew."""
    yield
    jobs.opened.cache_clear()


# The size of jobs


def batch(names, **options):
    context = options.pop("context", types.SimpleNamespace())
    return Batch(stage="bank", context=context, names=names, title="Bank", total=1, **options)


def sizes(queue, workers, seconds):
    """The numbers of names of jobs, each of which is done before the next is taken."""
    while queue.waiting:
        names = queue.take(workers)
        queue.note(Order(ADDRESS, "bank", "", names), Report("w", (), seconds * len(names), ()))
        yield len(names)
    assert queue.undone == 0


ADDRESS = Address("runs/one", "0", "rumjax", "{}")


@pytest.mark.parametrize(
    ("count", "devices", "workers", "seconds", "wanted"),
    [
        # A model for each device, and then 30 s, as far as each worker gets two jobs.
        (40, 1, 1, 3, [1, 10, 10, 9, 5, 2, 1, 1, 1]),
        (40, 4, 1, 3, [4, 8, 8, 8, 4, 4, 4]),
        (9, 2, 2, 1, [2, 2, 2, 2, 1]),
        # A model for each device, however long it takes.
        (5, 2, 1, 100, [2, 2, 1]),
        # Many models: multiples of as many as devices take side by side.
        (100, 1, 1, 0.1, [1, 48, 16, 16, 9, 5, 2, 1, 1, 1]),
    ],
)
def test_jobs_take_about_half_a_minute(count, devices, workers, seconds, wanted):
    assert list(sizes(Queue(batch(range(count)), devices), workers, seconds)) == wanted


def test_a_job_is_of_one_kind():
    names = [(method, seed) for seed in range(3) for method in ("fine", "kept")]
    queue = Queue(batch(names), 1)
    taken = [queue.take(1) for _ in names]
    assert taken == [((method, seed),) for method in ("fine", "kept") for seed in range(3)]
    queue = Queue(batch(names), 4)
    assert {crew.kind_of(name) for name in queue.take(1)} == {"fine"}


# Who makes what, and when


class Notebook(concurrent.futures.Executor):
    """Does nothing, and says so at once; notes what it was given."""

    _max_workers = 2

    def __init__(self, fails=None):
        self.orders, self.fails = [], fails

    def submit(self, fn, order):
        assert fn is jobs.carry_out
        future = concurrent.futures.Future()
        if order.stage == self.fails:
            future.set_exception(ValueError("odd"))
        else:
            self.orders.append(order)
            devices = ("cpu: cpu",) * 2
            future.set_result(Report("worker_1", devices, 1.0, ("One says:", "so it is")))
        return future


@pytest.fixture
def employed(tmp_path):
    """Returns what makes batches by an engine, and shows what is said."""
    shown = io.StringIO()
    run = types.SimpleNamespace(config=types.SimpleNamespace(written={"name": "tiny"}))

    def employ(engine):
        work = types.SimpleNamespace(path=tmp_path)
        context = types.SimpleNamespace(crew=Crew(engine, run, work, Console(file=shown, width=99)))
        return lambda *batches: jobs.make(
            *(
                Batch(**{**vars(one), "context": context, "after": one.after})  # fmt: skip
                for one in batches
            )
        )

    return employ, shown
