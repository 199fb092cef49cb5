"""Many models at once are the same models as one at a time, however they are spread."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax import ensemble
from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.rows import rows_of
from rumjax.scores import random_subset
from rumjax.types import Dataset, Subset, Task, task
from rumjax.unlearn import chain, finetune, retrain, run

pytestmark = pytest.mark.usefixtures("full_optimization")
KEY = jax.random.key(3)
MODELS, SEEN = 5, 42
SUBSETS = np.stack([random_subset(0, model, 60, SEEN / 60) for model in range(MODELS + 3)])


def names(models):
    return [f"model {model}" for model in models]


def works(recipe, count, size):
    """Training of the first models on their subsets, `size` of them at a time."""
    keys = jax.random.split(KEY, count)
    for first in range(0, count, size):
        these = slice(first, min(first + size, count))
        yield ensemble.training(
            recipe, names(range(count)[these]), keys[these], SUBSETS[:count][these]
        )


@pytest.fixture(scope="module")
def recipe(plain_model):
    return retrain(plain_model, epochs=2, batch_size=16, learning_rate=0.1)


def stacked(made):
    """The parameters of all models that were made."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *(each.read for each in made))


@pytest.fixture(scope="module")
def trained(recipe, data):
    """The parameters of an ensemble, and its chunks; trained once for each way of spreading it."""

    @functools.cache
    def trained(devices, per_device=1, within="map", count=MODELS):
        chunks = list(
            ensemble.run(
                works(recipe, count, devices * per_device),
                data,
                read=ensemble.whole,
                devices=jax.local_devices()[:devices],
                per_device=per_device,
                within=within,
            )
        )
        return stacked(chunks), chunks

    return trained


def assert_equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.array_equal(one, other)


def assert_close(first, second):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5),
        first,
        second,
    )


def first(tree, count):
    return jax.tree.map(lambda leaf: leaf[:count], tree)


def test_the_devices_are_there():
    assert len(jax.local_devices()) == 8


@pytest.mark.parametrize(
    ("devices", "per_device"), [pytest.param(2, 1, marks=pytest.mark.thorough), (8, 1), (2, 2)]
)
def test_results_are_identical_on_any_number_of_devices(trained, devices, per_device):
    alone, _ = trained(1)
    assert all(len(leaf) == MODELS for leaf in jax.tree.leaves(alone))
    assert_equal(trained(devices, per_device)[0], alone)


@pytest.mark.parametrize(("devices", "per_device"), [(2, 3)])
def test_results_side_by_side_are_those_one_after_another(trained, devices, per_device):
    assert_close(trained(devices, per_device, "vmap")[0], trained(1)[0])


def test_side_by_side_models_that_are_done_rest_to_the_bit(plain_model, data):
    start = plain_model.init(jax.random.key(0), data.images[:1])

    def made(*epochs):
        steps = [
            chain(task(range(6), 60), finetune(plain_model, batch_size=16, epochs=each))
            for each in epochs
        ]
        keys = jax.random.split(KEY, len(epochs))
        work = ensemble.together(names(range(len(epochs))), keys, steps, [start] * len(epochs))
        options = {"devices": jax.local_devices()[:1], "per_device": len(epochs), "within": "vmap"}
        (made,) = ensemble.run([work], data, read=ensemble.whole, **options)
        return made

    found = made(1, 2, 3)
    for model, epochs in enumerate((1, 2)):
        # Of the same programs, stopped when this model is done.
        stopped = made(epochs, epochs, epochs)
        assert_equal(*(jax.tree.map(lambda leaf: leaf[model], x.read) for x in (found, stopped)))  # noqa: B023
        assert found.curves[model] == stopped.curves[model]
    assert not np.array_equal(*(jax.tree.leaves(x.read)[1][2] for x in (found, stopped)))


def test_side_by_side_no_model_has_a_copy_of_the_data(recipe):
    count = 5_000
    images = jax.ShapeDtypeStruct((count, 32, 32, 3), jnp.uint8)
    data = Dataset(images, jax.ShapeDtypeStruct((count,), jnp.int32))
    subsets = np.tile(np.arange(40, dtype=np.int32), (8, 1))
    work = ensemble.training(recipe, names(range(8)), jax.random.split(KEY, 8), subsets)
    lowered = ensemble.lower(
        work,
        data,
        read=ensemble.nothing,
        devices=jax.local_devices()[:1],
        per_device=8,
        within="vmap",
    )
    assert set(lowered) == {"training: start", "training: epoch", "training: finish", "read"}
    memory = lowered["training: epoch"].compile().memory_analysis()
    assert memory.temp_size_in_bytes < images.size < memory.argument_size_in_bytes


def test_data_are_placed_once_and_on_all_devices(monkeypatch, trained, recipe, data):
    wanted, _ = trained(2)
    placed = []
    plain = ensemble.everywhere
    monkeypatch.setattr(
        ensemble, "everywhere", lambda *args: placed.append(plain(*args)) or placed[-1]
    )
    devices = jax.local_devices()[:2]
    # As rows, which say the same.
    rows = Dataset(rows_of(data.images), data.labels)
    chunks = ensemble.run(
        works(recipe, MODELS, 2), rows, read=ensemble.whole, devices=devices, within="map"
    )
    assert_equal(stacked(list(chunks)), wanted)
    (once,) = placed
    for leaf in jax.tree.leaves(once):
        assert leaf.devices() == set(devices)
        assert leaf.is_fully_replicated
    assert once.images.pixels.shape == (60, 16)


def test_devices_are_shared_out_in_either_way_to_the_same_bits(trained, recipe, data):
    chunks = ensemble.run(
        works(recipe, MODELS, 4),
        data,
        read=ensemble.whole,
        devices=jax.local_devices()[:2],
        per_device=2,
        across="pmap",
    )
    assert_equal(stacked(list(chunks)), trained(2, 2)[0])


def test_models_come_as_they_were_asked_for(trained):
    for devices, per_device, lengths in ((1, 1, [1] * 5), (2, 1, [2, 2, 1]), (2, 2, [4, 1])):
        chunks = trained(devices, per_device)[1]
        assert [len(each.names) for each in chunks] == lengths
        assert [name for each in chunks for name in each.names] == names(range(MODELS))
        for each, length in zip(chunks, lengths, strict=True):
            assert all(len(leaf) == length for leaf in jax.tree.leaves(each.read))
            assert len(each.curves) == length
            for curve in each.curves:
                assert [(done["part"], done["epoch"]) for done in curve] == [
                    ("training", 1),
                    ("training", 2),
                ]
                assert all(np.isfinite(done["loss"]) for done in curve)
            assert each.seconds > 0
            assert each.compile_seconds == chunks[0].compile_seconds > 0


def test_work_is_asked_for_when_the_one_before_is_done(recipe, data):
    done, asked = [], []

    def works_on_demand():
        for work in works(recipe, 3, 1):
            asked.append(len(done))
            yield work

    for each in ensemble.run(
        works_on_demand(), data, read=ensemble.nothing, devices=jax.local_devices()[:1]
    ):
        done.append(each)
    assert asked == [0, 1, 2]


def test_each_model_is_a_run_of_the_recipe_on_its_subset(trained, recipe, data):
    found, _ = trained(1)
    nothing = Subset(np.zeros(0, np.int32), np.int32(0))
    for model in (0, 3):
        task = Task(nothing, Subset(SUBSETS[model], np.int32(SEEN)))
        key = jax.random.split(KEY, MODELS)[model]
        alone = run(key, chain(task, recipe), None, data)
        assert_close(jax.tree.map(lambda leaf: leaf[model], found), alone)  # noqa: B023


def test_what_is_watched_is_told_after_every_epoch(recipe, data):
    told = []
    for made in ensemble.run(
        works(recipe, 3, 2),
        data,
        read=ensemble.whole,
        watch=ensemble.whole,
        devices=jax.local_devices()[:2],
        within="map",
        on_epoch=told.append,
    ):
        assert_equal(made.read, told[-1].watched)
    assert [(tuple(each.names), each.epoch) for each in told] == [
        (("model 0", "model 1"), 0),
        (("model 0", "model 1"), 1),
        (("model 2",), 0),
        (("model 2",), 1),
    ]
    assert all(len(each.metrics) == len(each.names) for each in told)


@pytest.mark.parametrize(
    ("count", "wanted"), [(1, 1), (2, 2), (3, 3), (5, 5), (8, 8), (9, 3), (11, 1), (12, 6), (16, 8)]
)
def test_a_few_models_are_spread_so_that_no_device_idles(count, wanted):
    devices, per_device = ensemble.fitting(count, most=4)
    assert len(devices) == wanted
    assert per_device == min(4, count // wanted)


def test_more_models_leave_the_earlier_ones_as_they_were(trained):
    fewer, more = trained(2)[0], trained(2, count=MODELS + 3)[0]
    assert_equal(first(more, MODELS), fewer)


def test_models_differ(trained):
    kernel = trained(1)[0].params["Dense_0"]["kernel"]
    assert len(np.unique(kernel.reshape(MODELS, -1), axis=0)) == MODELS


def test_a_second_call_compiles_nothing(monkeypatch, trained, recipe, plain_model, data):
    trained(2)
    traced = []
    plain = type(recipe).epoch
    monkeypatch.setattr(type(recipe), "epoch", lambda *args: traced.append(1) or plain(*args))
    other = retrain(plain_model, epochs=1, batch_size=16, learning_rate=0.2)
    options = {"devices": jax.local_devices()[:2], "within": "map"}
    made = ensemble.run(works(other, 3, 2), data, read=ensemble.whole, **options)
    assert len(list(made)) == 2
    assert not traced
    # What `read` is has a part in it, so another one does compile: the count can fail.
    list(ensemble.run(works(other, 3, 2), data, read=lambda v, data: v.params, **options))
    assert traced


def test_divergence_names_the_model(plain_model, data):
    wild = retrain(plain_model, epochs=2, batch_size=16, learning_rate=1e30)
    options = {"devices": jax.local_devices()[:2], "within": "map", "read": ensemble.whole}
    with pytest.raises(DivergenceError, match=r"Recipe \(training, model 0\) diverged in epoch"):
        list(ensemble.run(works(wild, 3, 2), data, **options))


@pytest.mark.parametrize("options", [{"within": "together"}, {"across": "mesh"}, {"per_device": 0}])
def test_unknown_ways_of_spreading_are_refused(recipe, data, options):
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        list(ensemble.run(works(recipe, 3, 1), data, read=ensemble.whole, **options))


def test_more_work_than_the_devices_hold_is_refused(recipe, data):
    options = {"devices": jax.local_devices()[:2], "read": ensemble.whole}
    with pytest.raises(InvalidInputError, match="work of 3 models: wanted 1 to 2"):
        list(ensemble.run(works(recipe, 3, 3), data, **options))
