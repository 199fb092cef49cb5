"""A run whose models are made by others comes to what it comes to in this process."""

import concurrent.futures
import io
import json
import multiprocessing
import types

import jax
import pytest
from rich.console import Console

from rumjax import errors
from rumjax.lab import crew, engines, experiment, jobs, pipeline
from rumjax.lab.crew import Crew, Queue
from rumjax.lab.jobs import Address, Batch, Order, Report
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from tests.lab.test_audits import Network
from tests.runs import same_results, start, without_times

FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}


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
        (40, 1, 1, 3, [1, 10, 10, 10, 5, 2, 1, 1]),
        (40, 4, 1, 3, [4, 8, 8, 8, 4, 4, 4]),
        (9, 2, 2, 1, [2, 2, 2, 2, 1]),
        # A model for each device, however long it takes.
        (5, 2, 1, 100, [2, 2, 1]),
        # Many models: multiples of as many as devices take side by side.
        (100, 1, 1, 0.1, [1, 48, 16, 16, 10, 5, 2, 1, 1]),
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
def shown():
    return io.StringIO()


@pytest.fixture
def employ(tmp_path, shown):
    """Returns a function that returns the context of a run whose models an engine makes."""
    run = types.SimpleNamespace(config=types.SimpleNamespace(written={"name": "tiny"}))
    work = types.SimpleNamespace(path=tmp_path)

    def context(engine):
        console = Console(file=shown, width=99)
        return types.SimpleNamespace(crew=Crew(engine, run, work, console))

    return context


def test_what_others_need_is_made_before(employ):
    engine = Notebook()
    context = employ(engine)
    first = batch(range(5), context=context)
    beside = Batch(stage="originals", context=context, names=[0], title="Original models", total=1)
    later = Batch(
        stage="oracles", context=context, names=["all"], title="Oracles", total=1, after=[first]
    )
    # What lacks nothing is not waited for.
    done = batch([], context=context)
    at_once = Batch(
        stage="scores", context=context, names=["scores"], title="Scores", total=1, after=[done]
    )
    jobs.make(later, done, at_once, first, beside)
    stages = [order.stage for order in engine.orders if order.stage]
    assert stages.index("oracles") > max(i for i, stage in enumerate(stages) if stage == "bank")
    assert stages.index("scores") < stages.index("oracles")
    assert stages.count("bank") == 3
    made = [name for order in engine.orders if order.stage == "bank" for name in order.names]
    assert made == list(range(5))


def test_a_name_waits_for_those_of_its_seed():
    references = [("reference", seed) for seed in range(3)]
    later = [("fine", 0), ("fine", 1), ("kept", 0), ("kept", 2), "all"]
    first, second = Queue(batch(references), 1), Queue(batch(later), 1)
    assert second.take(1, [first]) == ()
    (name,) = first.take(1)
    first.note(Order(ADDRESS, "oracles", "", (name,)), Report("w", (), 1.0, ()))
    assert name == ("reference", 0)
    ready = [second.take(1, [first]) for _ in range(3)]
    assert ready == [(("fine", 0),), (("kept", 0),), ()]
    for name in first.take(1) + first.take(1):
        first.note(Order(ADDRESS, "oracles", "", (name,)), Report("w", (), 1.0, ()))
    rest = [second.take(1, [first]) for _ in range(4)]
    assert rest == [(("fine", 1),), (("kept", 2),), ("all",), ()]


def test_what_workers_say_is_said_once(employ, shown):
    jobs.make(batch(range(8), context=employ(Notebook())))
    assert shown.getvalue().count("One says:") == shown.getvalue().count("so it is") == 1
    assert "8/8" in shown.getvalue()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("", "^the devices of a worker: ValueError: odd"),
        ("bank", "^bank: [0-6], [1-7]: ValueError: odd"),
    ],
)
def test_a_job_that_fails_is_named(employ, stage, message):
    with pytest.raises(errors.JobError, match=message):
        jobs.make(batch(range(8), context=employ(Notebook(stage))))


def test_an_engine_that_takes_no_more_jobs_is_said(employ):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(errors.RumjaxError, match="the devices of a worker"):
        jobs.make(batch(range(8), context=employ(pool)))


# Workers that see something else


@pytest.fixture
def address(finished):
    """Of the finished run, as its workers find it."""
    written = json.loads((finished / "config.json").read_text())
    return Address(str(finished), "0", jobs.code(), repr(written))


def test_workers_do_what_they_see_is_the_run(address, untouched):
    order = Order(address, "", "", ("the devices of a worker",))
    report = jobs.carry_out(order)
    assert report.worker == jobs.worker()
    assert len(report.devices) == jax.local_device_count()


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"code": "rumjax 0"}, "InvalidInputError", "started with rumjax 0; install the same"),
        ({"workdir": "elsewhere"}, "WorkDirectoryError", "finds no run in .*elsewhere; .*the same"),
        ({"configuration": ("'seed': 0", "'seed': 1")}, "InvalidInputError", "another run in"),
        (
            {"configuration": ("'name': 'npz'", "'name': 'my_own.images:load'")},
            "InvalidInputError",
            "No module named 'my_own'.*PYTHONPATH",
        ),
        ({"configuration": ("data.npz", "other.npz")}, "InvalidInputError", "other.npz"),
    ],
)
def test_a_worker_that_sees_another_run_says_so(
    address, tmp_path, monkeypatch, change, kind, message
):
    monkeypatch.chdir(tmp_path)
    ((field, value),) = change.items()
    if isinstance(value, tuple):
        value = address.configuration.replace(*value)
    order = Order(address._replace(**{field: value}), "bank", "", (0,))
    with pytest.raises(getattr(errors, kind), match=f"worker {jobs.worker()}.*{message}"):
        jobs.carry_out(order)


def test_what_nobody_foresaw_keeps_its_traceback(address):
    order = Order(address, "bank", "", ("no number",))
    with pytest.raises(errors.JobError, match=f"bank: no number, on {jobs.worker()}: Traceback"):
        jobs.carry_out(order)


# Real runs


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(f"{__name__}:spawned", marks=pytest.mark.thorough),
        pytest.param("dask:local:2", marks=pytest.mark.thorough),
        "concurrent.futures:ThreadPoolExecutor",
    ],
)
def test_processes_come_to_the_same(place, finished, tmp_path, monkeypatch, engine):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    assert start(place / "tiny.py", tmp_path / "run", f"--engine={engine}") == 0
    same_results(tmp_path / "run", finished)
    assert not list((tmp_path / "run").rglob(".partial-*"))


def study(place):
    """Requests to a small network, with settings that are tuned, one of which diverges."""
    written = configuration(str(place / "tiny.py"))
    del written["forget"]
    random = {"by": "random", "size": 24, "requests": 2}
    sections = {
        "model": {"name": f"{Network.__module__}:Network"},
        "methods": {
            "fine": vanilla(FINETUNE),
            "refined": rum_f(FINETUNE, refine="max_confidence"),
            "wild": vanilla({**FINETUNE, "learning_rate": 1e30}),
        },
        "tuning": {
            "adopt": True,
            "seeds": (7,),
            "grids": {"fine": {"learning_rate": (0.02, 0.05)}},
            "like": {"refined": "fine"},
        },
        "cases": {
            "one": {"forget": {**random, "until": 1}},
            "two": {"forget": {**random, "until": 2}, "after": "one"},
        },
        "study": {"kind": "requests"},
    }
    return experiment.build({**written, **sections})


@pytest.mark.thorough
def test_a_study_comes_to_the_same(place, tmp_path):
    built, said = study(place), {}
    for name, engine in {"here": engines.HERE, "others": engines.Here()}.items():
        console = Console(file=io.StringIO(), width=200)
        with WorkDirectory(tmp_path / name) as work:
            pipeline.run_experiment(built, work, console=console, engine=engine, figures=False)
            assert "wild on seed 0" in " ".join(pipeline.diverged_models(built, work))
        said[name] = console.file.getvalue()
    assert without_times(tmp_path / "here") == without_times(tmp_path / "others")
    # What stages say to people is said, and once.
    note = "Its row has no measures, and the others go on."
    assert said["others"].count(note) == said["here"].count(note) > 0
