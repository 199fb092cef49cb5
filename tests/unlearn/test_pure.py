"""Running as a pure function does what `run` does, under `jax.vmap` too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax.errors import InvalidInputError

TASKS = [rumjax.task([1, 5], 60), rumjax.task([2, 9], 60)]
RATES, EPOCHS = (0.01, 0.1), (1, 2)


@pytest.fixture(scope="module")
def factory(plain_model):
    return partial(rumjax.neggrad_plus, plain_model, forget_loss_cap=2.0, batch_size=16)


@pytest.fixture(scope="module")
def one_by_one(factory, plain_original, data):
    """What `run` makes of every key, setting and task on their own, and how often it was asked."""

    def make(key=0, rate=RATES[0], epochs=EPOCHS[0], task=TASKS[0]):
        steps = rumjax.chain(task, factory(learning_rate=rate, epochs=epochs))
        return rumjax.run(jax.random.key(key), steps, plain_original, data)

    return make


def assert_close(stacked, singles):
    for position, single in enumerate(singles):
        jax.tree.map(
            lambda many, one, position=position: np.testing.assert_allclose(
                many[position], one, rtol=1e-4, atol=1e-5
            ),
            stacked,
            single,
        )
    first, second = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(s)]) for s in singles[:2])
    assert not np.allclose(first, second, rtol=1e-3)


@pytest.mark.thorough
def test_steps_of_several_algorithms_are_those_of_run(model, original, data):
    options = {"batch_size": 16}
    steps = rumjax.chain(
        TASKS[0],
        rumjax.scrub(model, epochs=2, max_epochs=1, **options),
        rumjax.original(model),
        rumjax.salun(model, num_classes=3, epochs=1, **options),
    )
    wanted = rumjax.run(jax.random.key(3), steps, original, data)
    pure = jax.jit(lambda key, variables: rumjax.run_pure(key, steps, variables, data))
    result = pure(jax.random.key(3), original)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), result, wanted)
    moved = jax.tree.map(lambda new, old: bool(np.any(new != old)), result, original)
    assert all(jax.tree.leaves(moved))


def test_keys_are_seeds(factory, one_by_one, plain_original, data):
    steps = rumjax.chain(TASKS[0], factory(learning_rate=RATES[0], epochs=1))
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
    seeds = jax.vmap(lambda key: rumjax.run_pure(key, steps, plain_original, data))(keys)
    assert_close(seeds, [one_by_one(key=seed) for seed in (0, 1)])


def test_a_grid_is_every_setting_on_its_own(factory, one_by_one, plain_original, data):
    settings = rumjax.grid(factory, learning_rate=RATES, epochs=EPOCHS)

    def unlearn(setting):
        steps = rumjax.chain(TASKS[0], setting)
        return rumjax.run_pure(jax.random.key(0), steps, plain_original, data)

    singles = [one_by_one(rate=rate, epochs=epochs) for rate in RATES for epochs in EPOCHS]
    assert_close(jax.vmap(unlearn)(settings), singles)


def test_numbers_and_tasks_may_be_mapped_where_steps_are_made(
    factory, one_by_one, plain_original, data
):
    def unlearn(rate, task):
        steps = rumjax.chain(task, factory(learning_rate=rate, epochs=1))
        return rumjax.run_pure(jax.random.key(0), steps, plain_original, data)

    tasks = jax.tree.map(lambda *parts: jnp.stack(parts), *TASKS)
    pairs = list(zip(RATES, TASKS, strict=True))
    mapped = jax.vmap(unlearn)(jnp.array(RATES), tasks)
    assert_close(mapped, [one_by_one(rate=rate, task=task) for rate, task in pairs])


def test_a_model_that_diverges_is_not_a_number_and_leaves_the_others_alone(
    factory, one_by_one, plain_original, data
):
    settings = rumjax.grid(factory, learning_rate=[RATES[0], 1e30], epochs=[1])

    def unlearn(setting):
        steps = rumjax.chain(TASKS[0], setting)
        return rumjax.run_pure(jax.random.key(0), steps, plain_original, data)

    mapped = jax.vmap(unlearn)(settings)
    jax.tree.map(
        lambda many, one: np.testing.assert_allclose(many[0], one, rtol=1e-4, atol=1e-5),
        mapped,
        one_by_one(),
    )
    assert all(np.isnan(leaf[1]).all() for leaf in jax.tree.leaves(mapped.params))


def test_run_inside_a_transformation_names_the_pure_function(factory, plain_original, data):
    steps = rumjax.chain(TASKS[0], factory(learning_rate=0.1, epochs=1))
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(InvalidInputError, match="run_pure"):
        jax.vmap(lambda key: rumjax.run(key, steps, plain_original, data))(keys)


def test_a_grid_that_is_none_is_refused(factory, plain_original, data):
    for values in ({"learning_rate": []}, {"learning_rate": 0.1}, {"batch_size": [8, 16]}):
        with pytest.raises(InvalidInputError, match="grid"):
            rumjax.grid(partial(factory, epochs=1), **values)
    with pytest.raises(InvalidInputError, match="learning_rate"):
        rumjax.grid(partial(factory, epochs=1), learning_rate=[0.1, -1.0])
    steps = rumjax.chain(TASKS[0], rumjax.grid(factory, learning_rate=RATES, epochs=[1]))
    with pytest.raises(InvalidInputError, match=r"has shape \[2\].*run_pure"):
        rumjax.run(jax.random.key(0), steps, plain_original, data)
