"""A process that makes models of the same shapes on the same data compiles and places them once."""

import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax import ensemble
from rumjax.ensemble import warming
from rumjax.types import Dataset, task
from rumjax.unlearn import chain, finetune, retrain

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def warmed(monkeypatch):
    """The works that programs were compiled for, from nothing remembered on."""
    works, plain = [], warming.run_empty
    monkeypatch.setattr(
        warming,
        "run_empty",
        lambda programs, work, *args: works.append(work) or plain(programs, work, *args),
    )
    monkeypatch.setattr(warming, "_compiled", type(warming._compiled)())
    monkeypatch.setattr(warming, "_placed", [])
    return works


@pytest.fixture
def pretended(monkeypatch, warmed):
    """The same, without programs and models: those are made up."""
    monkeypatch.setattr(warming, "run_empty", lambda programs, work, *args: warmed.append(work))
    monkeypatch.setattr(ensemble, "_make", lambda *args: (None, [], []))
    return warmed


@pytest.fixture
def compiled():
    """The programs that JAX compiles, as seconds."""
    heard = []

    def hear(event, seconds, **_):
        if event == COMPILED:
            heard.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(hear)
    yield heard
    jax.monitoring.unregister_event_duration_listener(hear)


def made(recipe, data, *, seed=0, count=2, seen=20, devices=1, read=ensemble.whole):
    """Models trained on the first examples."""
    keys = jax.random.split(jax.random.key(seed), count)
    names = [f"model {model}" for model in range(count)]
    work = ensemble.training(recipe, names, keys, np.tile(np.arange(seen), (count, 1)))
    options = {"read": read, "devices": jax.local_devices()[:devices], "within": "map"}
    (result,) = ensemble.run([work], data, per_device=count // devices, **options)
    return result


@pytest.fixture(scope="module")
def recipe(plain_model):
    return retrain(plain_model, epochs=1, batch_size=8, learning_rate=0.1)


def changed(recipe, data):
    """What is compiled for, by name: a recipe, data and options of `made`."""
    half = Dataset(data.images[:30], data.labels[:30])
    floats = Dataset(data.images.astype(jnp.float32) / 255, data.labels)
    return {
        "fewer examples of each": (recipe, data, {"seen": 16}),
        "fewer models": (recipe, data, {"count": 1}),
        "two devices": (recipe, data, {"devices": 2}),
        "other results": (recipe, data, {"read": ensemble.nothing}),
        "another batch size": (dataclasses.replace(recipe, batch_size=4), data, {}),
        "no epochs": (dataclasses.replace(recipe, epochs=0), data, {}),
        "less data": (recipe, half, {}),
        "floats": (recipe, floats, {}),
    }


def test_whatever_is_compiled_for_is_warmed_up_once(pretended, recipe, data):
    made(recipe, data)
    for name, (own, examples, options) in changed(recipe, data).items():
        before = len(pretended)
        for _ in range(2):
            made(own, examples, **options)
            assert len(pretended) == before + 1, name
    made(recipe, data)
    assert len(pretended) == 1 + len(changed(recipe, data))


def test_settings_of_jax_and_emptied_caches_are_noticed(pretended, recipe, data):
    made(recipe, data)
    with jax.default_matmul_precision("highest"):
        made(recipe, data)
        made(recipe, data)
    assert len(pretended) == 2
    made(recipe, data)
    assert len(pretended) == 2
    jax.clear_caches()
    made(recipe, data)
    assert len(pretended) == 3


def test_a_warm_up_that_fails_is_made_again(monkeypatch, pretended, recipe, data):
    def fails(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    with monkeypatch.context() as patch:
        patch.setattr(warming, "run_empty", fails)
        with pytest.raises(jax.errors.JaxRuntimeError):
            made(recipe, data)
    made(recipe, data)
    assert len(pretended) == 1


def test_no_more_is_remembered_than_a_bound(monkeypatch, pretended, recipe, data):
    monkeypatch.setattr(warming, "REMEMBERED", 1)
    for seen in (20, 16, 20):
        made(recipe, data, seen=seen)
    assert len(pretended) == 3
    assert len(warming._compiled) == 1


def test_a_second_call_is_warm_gives_the_same_and_no_call_compiles_while_it_is_timed(
    monkeypatch, warmed, compiled, plain_model, data
):
    jax.clear_caches()  # of what other tests have compiled
    timed, plain = [], ensemble._make

    def make(*args):
        compiled.clear()
        result = plain(*args)
        timed.append(len(compiled))
        return result

    # Training twice, and with other numbers and keys.
    monkeypatch.setattr(ensemble, "_make", make)
    recipe = retrain(plain_model, epochs=2, batch_size=8, learning_rate=0.1)
    first, second = made(recipe, data), made(recipe, data)
    made(dataclasses.replace(recipe, learning_rate=0.2), data, seed=1)
    assert len(warmed) == 1
    assert second.compile_seconds < min(first.compile_seconds, 0.1)
    for one, other in zip(*(jax.tree.leaves(x.read) for x in (first, second)), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    assert first.curves == second.curves

    # Unlearning, watched, on two devices.
    start, heard = plain_model.init(jax.random.key(0), data.images[:1]), []
    tuned = chain(task(range(6), 60), finetune(plain_model, epochs=2, batch_size=16))
    jobs = [ensemble.Job(str(seed), jax.random.key(seed), tuned, start) for seed in range(2)]
    list(ensemble.make(jobs, data, watch=ensemble.whole, on_epoch=heard.append))
    assert (len(warmed), len(heard)) == (2, 2)
    assert timed == [0] * 4

    # Arrays of a model are not held.
    kept = weakref.ref(jax.tree.leaves(start)[0])
    warmed.clear()
    del start, jobs
    gc.collect()
    assert kept() is None


# Data on the devices


def test_data_are_placed_once_for_all_calls(monkeypatch, warmed, data):
    devices, puts, plain = jax.local_devices()[:2], [], jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda *args: puts.append(1) or plain(*args))
    first = warming.everywhere(data, devices)
    assert warming.everywhere(Dataset(*data), devices) is first
    assert len(puts) == 1

    # On other devices, and other arrays, they are others.
    assert warming.everywhere(data, devices[:1]) is not first
    other = Dataset(data.images + 1, data.labels)
    np.testing.assert_array_equal(warming.everywhere(other, devices).images, data.images + 1)
    np.testing.assert_array_equal(warming.everywhere(data, devices).images, data.images)
    assert len(puts) == 4
    assert len(warming._placed) == 1


def test_arrays_of_numpy_may_change_and_are_placed_each_time(warmed, data):
    images, devices = np.array(data.images), jax.local_devices()[:2]
    mine = Dataset(images, data.labels)
    warming.everywhere(mine, devices)
    assert not warming._placed
    images[:] = 7
    np.testing.assert_array_equal(warming.everywhere(mine, devices).images, images)


@pytest.mark.parametrize("count", [1, 2])
def test_what_was_placed_goes_with_its_data(warmed, data, count):
    devices = jax.local_devices()[:count]
    mine = Dataset(data.images + 1, data.labels + 0)
    placed = warming.everywhere(mine, devices)
    # Data that lie there already are not held either.
    again = warming.everywhere(placed, devices)
    assert again.images is placed.images or count == 1
    warming.everywhere(mine, devices)
    kept = [weakref.ref(leaf) for leaf in jax.tree.leaves((mine, placed, again))]
    del mine, placed, again
    gc.collect()
    assert not warming._placed
    assert [ref() for ref in kept] == [None] * len(kept)
