"""Many models at once are the same models as one at a time, however they are spread."""

import functools

import jax
import numpy as np
import pytest

from rumjax import ensemble
from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.scores import random_subset
from rumjax.types import Subset, Task
from rumjax.unlearn import chain, retrain, run

KEY = jax.random.key(3)
MODELS, SEEN = 5, 42
SUBSETS = np.stack([random_subset(0, model, 60, SEEN / 60) for model in range(MODELS + 3)])


def parameters(variables, data):
    del data
    return variables


def keys_for(count):
    """What `run` makes of a key for each model, in its first step."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 0))(jax.random.split(KEY, count))


@pytest.fixture(scope="module")
def recipe(plain_model):
    return retrain(plain_model, epochs=2, batch_size=16, learning_rate=0.1)


@pytest.fixture(scope="module")
def trained(recipe, data):
    """The parameters of an ensemble, and its chunks; trained once for each way of spreading it."""

    @functools.cache
    def trained(devices, per_device=1, within="map", count=MODELS):
        chunks = list(
            ensemble.train(
                recipe,
                keys_for(count),
                data,
                SUBSETS[:count],
                read=parameters,
                devices=jax.local_devices()[:devices],
                per_device=per_device,
                within=within,
            )
        )
        read = jax.tree.map(lambda *parts: np.concatenate(parts), *(each.read for each in chunks))
        return read, chunks

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


@pytest.mark.parametrize(("devices", "per_device"), [(2, 1), (8, 1), (2, 2)])
def test_results_are_identical_on_any_number_of_devices(trained, devices, per_device):
    alone, _ = trained(1)
    assert all(len(leaf) == MODELS for leaf in jax.tree.leaves(alone))
    assert_equal(trained(devices, per_device)[0], alone)


@pytest.mark.parametrize(("devices", "per_device"), [(2, 3)])
def test_results_side_by_side_are_those_one_after_another(trained, devices, per_device):
    assert_close(trained(devices, per_device, "vmap")[0], trained(1)[0])


def test_models_come_in_chunks_that_cover_them_once(trained):
    for devices, per_device, lengths in ((1, 1, [1] * 5), (2, 1, [2, 2, 1]), (2, 2, [4, 1])):
        chunks = trained(devices, per_device)[1]
        assert [each.models.stop - each.models.start for each in chunks] == lengths
        assert np.concatenate([np.r_[each.models] for each in chunks]).tolist() == [*range(MODELS)]
        for each, length in zip(chunks, lengths, strict=True):
            assert all(len(leaf) == length for leaf in jax.tree.leaves(each.read))
            assert each.seconds > 0


def test_each_model_is_a_run_of_the_recipe_on_its_subset(trained, recipe, data):
    found, _ = trained(1)
    nothing = Subset(np.zeros(0, np.int32), np.int32(0))
    for model in (0, 3):
        task = Task(nothing, Subset(SUBSETS[model], np.int32(SEEN)))
        key = jax.random.split(KEY, MODELS)[model]
        alone = run(key, chain(task, recipe), None, data)
        assert_close(jax.tree.map(lambda leaf: leaf[model], found), alone)  # noqa: B023


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
    arguments = (other, jax.random.split(KEY, 3), data, SUBSETS[:3])
    assert len(list(ensemble.train(*arguments, read=parameters, **options))) == 2
    assert not traced
    # What `read` is has a part in it, so another one does compile: the count can fail.
    list(ensemble.train(*arguments, read=lambda variables, data: variables.params, **options))
    assert traced


def test_progress_is_told_after_every_epoch(recipe, data):
    told = []
    chunks = ensemble.train(
        recipe,
        jax.random.split(KEY, 3),
        data,
        SUBSETS[:3],
        read=parameters,
        devices=jax.local_devices()[:2],
        within="map",
        on_epoch=lambda *done: told.append(done),
    )
    list(chunks)
    assert told == [(0, 1), (0, 2), (2, 1), (2, 2)]


def test_divergence_names_the_model(plain_model, data):
    wild = retrain(plain_model, epochs=2, batch_size=16, learning_rate=1e30)
    options = {"devices": jax.local_devices()[:2], "within": "map", "read": parameters}
    with pytest.raises(DivergenceError, match="model 0 of the bank"):
        list(ensemble.train(wild, jax.random.split(KEY, 3), data, SUBSETS[:3], **options))


@pytest.mark.parametrize("options", [{"within": "together"}, {"per_device": 0}])
def test_unknown_ways_of_spreading_are_refused(recipe, data, options):
    keys = jax.random.split(KEY, 3)
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        list(ensemble.train(recipe, keys, data, SUBSETS[:3], read=parameters, **options))
