"""Numbers, seeds and tasks of equal capacity share one compilation; vmap makes grids of them.

Traces are counted rather than compilations: each distinct trace is what would be compiled.
"""

import dataclasses
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.data.augment import Augmentation
from rumjax.refine import rum
from rumjax.types import task
from rumjax.unlearn import base, chain, finetune, run, scrub
from tests.references import small

NUMBERS = {
    "learning_rate": 0.123,
    "momentum": 0,
    "weight_decay": 1e-3,
    "epochs": 7,
    "decay": 0.5,
    "warm_up": 2,
    "label_smoothing": 0.1,
    "penalty": 1,
    "beta": 0.25,
    "gamma": 0.1,
    "temperature": 2,
    "max_epochs": 3,
    "forget_loss_cap": 2.5,
    "mask_fraction": 0.7,
    "alpha": 3.0,
    "damping": 0.5,
}
"""other values, some of them of other Python types, of everything that is a number"""
OTHER = np.arange(1, 60, 9)
TASKS = [task(each, small.SIZE, capacity=len(small.FORGET)) for each in (small.FORGET, OTHER, [3])]
EVERY_EPOCH = [name for name in small.NAMES if name != "original"]


def variants(name, model):
    """The algorithm as it is, with each number changed, and with all of them changed."""
    taken = inspect.signature(small.ALGORITHMS[name]).parameters
    options = set(taken) | ({"momentum", "weight_decay"} if name in small.DESCENDING else set())
    changes = {key: value for key, value in NUMBERS.items() if key in options}
    assert changes
    # More epochs, or else some of the other numbers would be refused.
    epochs = {"epochs": 6} if "epochs" in taken else {}
    for each in ({}, *({key: value} for key, value in changes.items()), changes):
        yield (
            small.unlearner(name, model, **{**epochs, "augmentation": Augmentation(), **each})
            if name in small.DESCENDING
            else small.unlearner(name, model, **each)
        )


@pytest.mark.parametrize("name", EVERY_EPOCH)
def test_epochs_seeds_numbers_and_tasks_share_one_trace(monkeypatch, model, original, data, name):
    unlearners = list(variants(name, model))
    cls = type(unlearners[0])
    chex.clear_trace_counter()
    for method in ("init", "epoch"):
        once = chex.assert_max_traces(getattr(cls, method), n=1)
        monkeypatch.setattr(cls, method, lambda *args, once=once: once(*args))
    # Functions of this test's own, whose caches are empty.
    start = jax.jit(lambda *args: base._start.__wrapped__(*args))
    advance = jax.jit(lambda *args: base._advance.__wrapped__(*args))
    for seed, unlearner in enumerate(unlearners):
        given = (original, data, TASKS[seed % len(TASKS)])
        state = start.trace(unlearner, jax.random.key(seed), *given).out_info
        for _ in range(2):
            state, _, _ = advance.trace(unlearner, state, *given[1:]).out_info
    # Another batch size is another program, so the count can fail.
    with pytest.raises(AssertionError, match="traced"):
        start.trace(dataclasses.replace(unlearner, batch_size=11), jax.random.key(0), *given)


def entries():
    return np.array([base._start._cache_size(), base._advance._cache_size()])


@pytest.mark.parametrize("steps_of", ["chain", "rum"])
def test_a_run_of_rum_or_a_chain_compiles_an_unlearner_once(model, original, data, steps_of):
    # A batch size of their own, so that no other test has compiled them.
    options = {"batch_size": 9 if steps_of == "rum" else 10, "epochs": 2}
    before = entries()
    for seed, rate in enumerate((0.01, 0.02)):
        unlearner = finetune(model, learning_rate=rate, **options)
        if steps_of == "chain":
            steps = [step for each in TASKS for step in chain(each, unlearner)]
        else:
            retain = np.setdiff1d(np.arange(small.SIZE), small.FORGET)
            parts = {"a": small.FORGET[:2], "b": small.FORGET[2:9], "c": small.FORGET[9:]}
            steps = rum(small.FORGET, retain, refine=lambda _, p=parts: p, select=unlearner)
            assert [int(step.task.retain.size) for step in steps] == [58, 51, 47]
        run(jax.random.key(seed), steps, original, data)
        assert (entries() - before).tolist() == [1, 1]


def test_warming_up_leaves_nothing_to_compile(plain_model, plain_original, data):
    unlearner = finetune(plain_model, learning_rate=0.01, batch_size=9, epochs=2)
    steps = chain(TASKS[0], unlearner)
    base.warm_up(steps, plain_original, data)
    before = entries()
    run(jax.random.key(0), steps, plain_original, data)
    assert (entries() == before).all()


def unlearned(unlearner, key, variables, data, chosen):
    """A whole run of two epochs as one pure function."""
    state = unlearner.init(key, variables, data, chosen)
    state, _ = jax.lax.scan(lambda state, _: unlearner.epoch(state, data, chosen), state, length=2)
    return unlearner.finish(state)


def assert_grid_is_single_runs(grid, singles):
    assert len(singles) == len(jax.tree.leaves(grid)[0])
    for i, single in enumerate(singles):
        jax.tree.map(
            lambda many, one: np.testing.assert_allclose(many[i], one, rtol=1e-4, atol=1e-5),  # noqa: B023
            grid,
            single,
        )
    first, second = (jax.tree.leaves(each.params)[0] for each in singles[:2])
    assert np.abs(first - second).max() > 1e-3


@pytest.fixture(scope="module")
def single(plain_original, data):
    def of(unlearner, key, chosen):
        return run(key, chain(chosen, unlearner), plain_original, data)

    return of


KEY = jax.random.key(2)
# `run` uses fold_in(key, 0) for its first step.
FOLDED = jax.random.fold_in(KEY, 0)


def options(**changes):
    return {"batch_size": 20, "epochs": 2, "learning_rate": 0.05, **changes}


def test_vmap_over_records_is_a_grid_search(plain_model, plain_original, data, single):
    rates, decays = [0.01, 0.1, 0.2], [0.0, 0.1, 0.01]
    grid = finetune(
        plain_model, **options(learning_rate=np.array(rates), weight_decay=np.array(decays))
    )
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, grid)
    found = jax.jit(jax.vmap(unlearned, in_axes=(axes, None, None, None, None)))(
        grid, FOLDED, plain_original, data, TASKS[0]
    )
    singles = [
        single(
            finetune(plain_model, **options(learning_rate=rate, weight_decay=decay)), KEY, TASKS[0]
        )
        for rate, decay in zip(rates, decays, strict=True)
    ]
    assert_grid_is_single_runs(found, singles)


def test_vmap_over_keys_is_a_set_of_seeds(plain_model, plain_original, data, single):
    unlearner = finetune(plain_model, **options())
    keys = jax.random.split(KEY, 3)
    folded = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)
    found = jax.jit(jax.vmap(unlearned, in_axes=(None, 0, None, None, None)))(
        unlearner, folded, plain_original, data, TASKS[0]
    )
    assert_grid_is_single_runs(found, [single(unlearner, key, TASKS[0]) for key in keys])


def test_vmap_over_tasks_is_many_forget_sets(plain_model, plain_original, data, single):
    unlearner = finetune(plain_model, **options())
    tasks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *TASKS)
    found = jax.jit(jax.vmap(unlearned, in_axes=(None, None, None, None, 0)))(
        unlearner, FOLDED, plain_original, data, tasks
    )
    assert_grid_is_single_runs(found, [single(unlearner, KEY, each) for each in TASKS])


def test_records_are_equal_by_value_and_show_their_numbers(model):
    assert scrub(model, max_epochs=1) == scrub(model, max_epochs=1)
    assert "max_epochs=Array(1" in repr(scrub(model, max_epochs=1))
