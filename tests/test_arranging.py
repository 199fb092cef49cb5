"""How many models a device holds: what fits, what is quicker, what was chosen before."""

import json
import os
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax import ensemble
from rumjax.ensemble import Arrangement, arranging
from rumjax.ensemble.operations import step_operations
from rumjax.errors import InvalidInputError
from rumjax.lab import bank
from rumjax.lab.answers import Answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.workdir import WorkDirectory
from rumjax.models import build
from rumjax.relearn import relearn_times
from rumjax.types import Dataset, task
from rumjax.unlearn import chain, retrain

NO_MEMORY = "RESOURCE_EXHAUSTED: Out of memory allocating 1 byte"
ACCELERATOR = types.SimpleNamespace(platform="tpu", device_kind="stand-in")
KEYS = jax.random.split(jax.random.key(3), 4)
NAMES = [f"model {number}" for number in range(4)]


@pytest.fixture(scope="module")
def recipe(plain_model):
    return retrain(plain_model, epochs=2, batch_size=16, learning_rate=0.1)


def work_of(recipe, count=1):
    subsets = np.tile(np.arange(40, dtype=np.int32), (count, 1))
    return ensemble.training(recipe, NAMES[:count], KEYS[:count], subsets)


# Which way


def test_training_steps_are_small_or_large_by_the_operations_of_their_network():
    data = Dataset(jax.ShapeDtypeStruct((9, 32, 32, 3), jnp.uint8), None)
    small, large = (
        retrain(build(name, 10), epochs=1, batch_size=128) for name in ("cnn", "resnet18")
    )
    count = step_operations(small, data)
    assert 0 < count < arranging.SMALL_STEP < step_operations(large, data)
    for step, within in ((small, "vmap"), (large, "map")):
        work = work_of(step)
        assert ensemble.within_device(work, data, "tpu") == within
        assert ensemble.within_device(work, data, "gpu") == within
        assert ensemble.within_device(work, data, "cpu") == "map"
    # Large ones are not even tried.
    chosen = ensemble.arrange(work_of(large), data, read=ensemble.whole, devices=[ACCELERATOR])
    assert chosen[:2] == (1, "map")


@pytest.mark.parametrize("most", ["auto", 1, 8])
def test_on_cpu_models_are_made_one_after_another(recipe, data, most):
    chosen = ensemble.arrange(work_of(recipe), data, read=ensemble.whole, most=most)
    assert chosen[:2] == (1, "map")


@pytest.mark.parametrize("most", ["all", 0, 1.5, None])
def test_other_numbers_are_refused(recipe, data, most):
    with pytest.raises(InvalidInputError, match="models on a device"):
        ensemble.arrange(work_of(recipe), data, read=ensemble.whole, most=most)


# By trying


def test_two_fit_into_what_their_compiled_programs_take(monkeypatch, recipe, data):
    work, device = work_of(recipe, 2), jax.local_devices()[0]
    asked = work, data, ensemble.nothing, ensemble.nothing, device, 2
    plain, footprints = arranging.footprint, {}

    def footprint(program):
        footprints[len(footprints)] = plain(program)
        return footprints[len(footprints) - 1]

    monkeypatch.setattr(arranging, "footprint", footprint)
    assert arranging.fits(*asked, np.inf)
    assert len(footprints) == 4
    # Two models' parameters at least, and nothing compiled again.
    most = max(one.total for one in footprints.values())
    assert most > 2 * 4 * (16 * 8 + 8 + 8 * 3 + 3)
    programs = {
        name: types.SimpleNamespace(compile=lambda one=one: one) for name, one in footprints.items()
    }
    monkeypatch.setattr(arranging, "lower", lambda *args, **kwargs: programs)
    monkeypatch.setattr(arranging, "footprint", lambda one: one)
    assert arranging.fits(*asked, (most + 1) / arranging.ROOM)
    assert not arranging.fits(*asked, (most - 1) / arranging.ROOM)


def test_what_fits_is_taken_if_it_is_quicker(monkeypatch, recipe, data):
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 5})
    asked = work_of(recipe), data, ensemble.nothing, ensemble.nothing, device
    compiled, seconds = [], {(1, "map"): 2.0, (5, "vmap"): 1.0, (4, "vmap"): 3.0}
    monkeypatch.setattr(
        arranging, "fits", lambda *args: compiled.append(args[-2]) or args[-2] <= args[-1]
    )
    monkeypatch.setattr(arranging, "seconds_of", lambda *args: seconds[args[-2:]])
    assert arranging.tried(*asked, 20)[:2] == (5, "vmap")
    assert arranging.tried(*asked, 16)[:2] == (1, "map")
    assert compiled == [20, 10, 5, 16, 8, 4]
    device.memory_stats = lambda: {"bytes_limit": 1}
    assert arranging.tried(*asked, 16)[:2] == (1, "map")


def test_what_runs_out_of_memory_or_is_computed_twice_does_not_fit(monkeypatch, recipe, data):
    asked = work_of(recipe), data, ensemble.nothing, ensemble.nothing, jax.local_devices()[0]

    def compile_to(text, error=None):
        def compile():
            if error:
                raise error
            sizes = dict.fromkeys(("argument", "output", "alias", "temp"), 10)
            sizes = {f"{name}_size_in_bytes": size for name, size in sizes.items()}
            memory = types.SimpleNamespace(**sizes)
            return types.SimpleNamespace(memory_analysis=lambda: memory, as_text=lambda: text)

        program = types.SimpleNamespace(compile=compile)
        monkeypatch.setattr(arranging, "lower", lambda *args, **kwargs: {"epoch": program})

    compile_to("  %fusion.1 = f32[8] fusion()")
    assert arranging.fits(*asked, 4, 30)
    assert not arranging.fits(*asked, 4, 20)
    compile_to("  %fusion.1.remat2 = f32[8] fusion()")
    assert not arranging.fits(*asked, 4, np.inf)
    compile_to("", jax.errors.JaxRuntimeError(NO_MEMORY))
    assert not arranging.fits(*asked, 4, np.inf)
    compile_to("", jax.errors.JaxRuntimeError("INTERNAL: wrong"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        arranging.fits(*asked, 4, np.inf)


def test_steps_are_timed_without_what_compiles(monkeypatch, recipe, data):
    clock = iter(np.cumsum([100, 60, 100, 3]))  # the first epoch compiles
    monkeypatch.setattr(arranging.time, "perf_counter", lambda: float(next(clock)))
    asked = work_of(recipe), data, ensemble.nothing, ensemble.nothing, jax.local_devices()[0]
    assert arranging.seconds_of(*asked, 2, "vmap") == 3 / 2


# What is kept


@pytest.fixture
def choices(monkeypatch, tmp_path):
    """Calls of `tried`, with what they were allowed, in a folder of its own."""
    asked = []

    def tried(work, data, read, watch, device, most):
        asked.append(most)
        return Arrangement(most, "vmap", "tried")

    monkeypatch.setattr(arranging, "tried", tried)
    monkeypatch.setattr(arranging, "_kept", {})
    monkeypatch.setattr(arranging, "_file", lambda: tmp_path / "new" / "kept.json")
    return asked


def test_a_choice_is_kept_by_the_process_and_beside_jax_s_programs(
    monkeypatch, choices, recipe, data, tmp_path
):
    def arrange(recipe=recipe, data=data, **options):
        device = types.SimpleNamespace(**{**vars(ACCELERATOR), **options.pop("device", {})})
        return ensemble.arrange(
            work_of(recipe), data, read=ensemble.whole, devices=[device], **options
        )

    chosen = arrange()
    assert chosen == arrange() == (16, "vmap", "tried")
    assert choices == [arranging.SIDE_BY_SIDE]
    # Another process reads it, even if its models have other numbers.
    monkeypatch.setattr(arranging, "_kept", {})
    again = retrain(recipe.model, epochs=5, batch_size=16, learning_rate=0.2)
    assert arrange(again) == chosen
    assert len(choices) == 1
    # What it depends on: most, data, device and programs.
    assert arrange(most=3).per_device == 3
    assert arrange(most=1)[:2] == (1, "map")
    arrange(data=Dataset(data.images[:50], data.labels[:50]))
    arrange(device={"device_kind": "another"})
    arrange(retrain(recipe.model, epochs=2, batch_size=20, learning_rate=0.1))
    assert choices == [16, 3, 16, 16, 16]
    assert len(json.loads((tmp_path / "new" / "kept.json").read_text())) == 5
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"[1]", b"3", '{"KEY": 3}', '{"KEY": [1]}', '{"KEY": "abc"}']
)
def test_a_damaged_file_is_as_none(monkeypatch, choices, recipe, data, content):
    def arrange():
        monkeypatch.setattr(arranging, "_kept", {})
        return ensemble.arrange(work_of(recipe), data, read=ensemble.whole, devices=[ACCELERATOR])

    wanted = arrange()
    (key,) = json.loads(arranging._file().read_text())
    if isinstance(content, str):
        content = content.replace("KEY", key).encode()
    arranging._file().write_bytes(content)
    assert arrange() == arrange() == wanted
    assert len(choices) == 2  # written anew


def test_without_a_folder_for_it_nothing_is_written(monkeypatch, choices, recipe, data, tmp_path):
    monkeypatch.undo()
    assert arranging._file().parent == pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    monkeypatch.setattr(arranging, "_file", lambda: tmp_path / "a file" / "kept.json")
    (tmp_path / "a file").touch()
    arranging._write_kept("key", Arrangement(2, "vmap", ""))
    assert arranging._read_kept() == {}
    monkeypatch.setattr(arranging, "_file", lambda: None)
    arranging._write_kept("key", Arrangement(2, "vmap", ""))
    assert arranging._read_kept() == {}


# When memory runs out


def failing(error, most):
    """Makes a model if there are no more than `most` at a time; notes how many there were."""
    tried = []

    def make(arrangement):
        tried.append(tuple(arrangement[:2]))
        if arrangement.per_device > most:
            raise jax.errors.JaxRuntimeError(error)
        yield arrangement.per_device

    return tried, make


def test_half_as_many_are_made_when_memory_runs_out():
    tried, make = failing(NO_MEMORY, 3)
    start = Arrangement(13, "vmap", "")
    assert list(ensemble.as_memory_allows(make, start)) == [3]
    assert tried == [(13, "vmap"), (6, "vmap"), (3, "vmap")]
    # There is an end, and other errors are no reason.
    for error, count in ((NO_MEMORY, 4), ("INTERNAL: wrong", 1)):
        tried, make = failing(error, 0)
        with pytest.raises(jax.errors.JaxRuntimeError, match=error[:8]):
            list(ensemble.as_memory_allows(make, start))
        assert len(tried) == count


SHORT = [2, 2, 1, 1]
"""models at a time, where memory runs out at the end of the second work"""


@pytest.fixture
def both_ways(monkeypatch):
    """Does something with memory for one model at a time, and for two until that runs out.

    Models are made up, of their keys, so that nothing is compiled.
    """
    sizes = []

    def make(programs, work, data, picked, devices, on_epoch, diverging):
        own = np.asarray(jax.random.key_data(work.keys))[:, -1] % 7
        curves = [[] for _ in own]
        for step in work.steps:
            for epoch in range(int(step.unlearner.epochs[0])):
                right = own + epoch
                for curve, value in zip(curves, right, strict=True):
                    curve.append({"part": step.name, "epoch": epoch + 1, "loss": float(value)})
                if on_epoch:
                    now = [curve[-1] for curve in curves]
                    on_epoch(ensemble.Epoch(work.names, step, epoch, now, right))
        if work.steps:
            sizes.append(picked.size)
        if sizes == SHORT[:2]:
            raise jax.errors.JaxRuntimeError(NO_MEMORY)
        margins = np.broadcast_to(own[:, None].astype(np.float32), (len(own), 60))
        read = Answers(margins, margins > 3) if work.steps else own
        return read, curves, [None] * len(own)

    only = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: only)
    monkeypatch.setattr(ensemble, "_make", make)
    monkeypatch.setattr(ensemble, "warm_up", lambda *args: None)

    def both_ways(function):
        wanted = function()
        assert sizes == [1, 1, 1, 1]
        sizes.clear()
        two = Arrangement(2, "map", "two")
        monkeypatch.setattr(ensemble, "arrange", lambda *args, **kwargs: two)
        found = function()
        assert sizes == SHORT
        return found, wanted

    return both_ways


def test_jobs_go_on_with_half_as_many(both_ways, recipe, data):
    steps = chain(task([], 60), recipe)
    jobs = [ensemble.Job(name, key, steps) for name, key in zip(NAMES, KEYS, strict=True)]
    found, wanted = both_ways(lambda: list(ensemble.make(jobs, data)))
    assert [job.name for job, _ in found] == NAMES
    for (_, result), (_, plain) in zip(found, wanted, strict=True):
        assert result.curve == plain.curve
        assert [row["epoch"] for row in result.curve] == [1, 2]
        jax.tree.map(np.testing.assert_array_equal, result.read, plain.read)


def test_a_few_jobs_are_halved_at_once_where_there_is_room_for_many(monkeypatch, recipe, data):
    tried = []

    def make_groups(groups, data, *, per_device, **options):
        tried.append(per_device)
        raise jax.errors.JaxRuntimeError(NO_MEMORY)

    many = Arrangement(16, "vmap", "many")
    monkeypatch.setattr(ensemble, "arrange", lambda *args, **kwargs: many)
    monkeypatch.setattr(ensemble, "make_groups", make_groups)
    monkeypatch.setattr(ensemble, "fitting", lambda count, most: ((None,), min(count, most)))
    steps = chain(task([], 60), recipe)
    jobs = [ensemble.Job(name, key, steps) for name, key in zip(NAMES, KEYS, strict=True)]
    with pytest.raises(jax.errors.JaxRuntimeError, match=NO_MEMORY):
        next(ensemble.make(jobs, data))
    assert tried == [4, 2, 1]


def test_a_bank_goes_on_with_half_as_many(both_ways, recipe, data, tmp_path):
    def train():
        made, arranged = [], []
        with WorkDirectory(tmp_path / str(len(list(tmp_path.iterdir())))) as work:
            header = {"seed": 3, "fraction": 0.5, "size": 40, "examples": 60, "recipe": {}}
            found = ModelBank(work, header)
            bank.train(
                found,
                recipe,
                data,
                KEYS[0],
                models=range(4),
                on_made=lambda each: made.extend(each.names),
                on_arranged=lambda each: arranged.append(each.per_device),
            )
            return found.stack(), made, arranged

    (rows, made, arranged), (wanted, names, before) = both_ways(train)
    assert (arranged, before) == ([2, 1], [1])
    assert made == names == NAMES
    for name in ("margins", "correct", "member"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(wanted, name))


def test_epochs_of_relearning_count_once(both_ways, plain_model, data):
    start = plain_model.init(jax.random.key(0), data.images[:1])

    def relearn():
        return relearn_times(
            NAMES,
            KEYS,
            [start] * 4,
            np.arange(9),
            data,
            model=plain_model,
            epochs=3,
            learning_rate=0.1,
            target=1.0,
        )

    found, wanted = both_ways(relearn)
    assert found == wanted
    assert all(len(each.accuracies) == 4 for each in found)
