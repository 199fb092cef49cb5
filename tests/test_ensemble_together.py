"""Several seeds of chains, and several settings, as one work: the same as one by one."""

import jax
import numpy as np
import pytest

from rumjax import ensemble, unlearn
from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.refine import rum
from rumjax.types import task
from rumjax.unlearn import chain, finetune, run, salun, scrub

KEY = jax.random.key(3)


def names(models):
    return [f"model {model}" for model in models]


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


# Seeds: chains of steps from models of their own


@pytest.fixture(scope="module")
def seeds(model, data, original):
    """Three seeds of RUM, each with a forget set and an original model of its own."""
    retain = np.arange(20, 60)
    select = {
        "a": finetune(model, epochs=2, batch_size=16),
        "b": scrub(model, epochs=2, max_epochs=1, batch_size=16),
        "c": salun(model, num_classes=3, epochs=1, batch_size=16),
    }
    steps, originals = [], []
    for seed in range(3):
        chosen = np.random.default_rng(seed).permutation(20)[:15].reshape(3, 5)
        parts = dict(zip("abc", chosen, strict=True))
        forget = np.sort(np.concatenate(list(parts.values())))
        rest = np.setdiff1d(np.arange(20), forget)
        steps.append(
            rum(forget, np.concatenate([rest, retain]), refine=lambda _, p=parts: p, select=select)
        )
        originals.append(jax.tree.map(lambda leaf: leaf * (1 + 0.01 * seed), original))  # noqa: B023
    keys = jax.random.split(KEY, 3)
    alone = [
        run(key, each, theta, data) for key, each, theta in zip(keys, steps, originals, strict=True)
    ]
    return keys, steps, originals, alone


@pytest.mark.parametrize(
    ("devices", "per_device", "within"), [(1, 3, "map"), (3, 1, "map"), (2, 2, "vmap")]
)
def test_seeds_at_once_are_seeds_one_by_one(seeds, data, devices, per_device, within):
    keys, steps, originals, alone = seeds
    work = ensemble.together(["seed 0", "seed 1", "seed 2"], keys, steps, originals)
    (made,) = ensemble.run(
        [work],
        data,
        read=ensemble.whole,
        devices=jax.local_devices()[:devices],
        per_device=per_device,
        within=within,
    )
    for seed in range(3):
        found = jax.tree.map(lambda leaf: leaf[seed], made.read)  # noqa: B023
        assert_close(found, alone[seed])
        assert [done["part"] for done in made.curves[seed]] == ["a", "a", "b", "b", "c"]


def test_an_algorithm_without_numbers_leaves_its_models_as_they_are(model, data, original):
    work = ensemble.together(
        ["seed 0"],
        jax.random.split(KEY, 1),
        [chain(task([1, 2], 60), unlearn.original(model))],
        [original],
    )
    (made,) = ensemble.run([work], data, read=ensemble.whole, devices=jax.local_devices()[:1])
    assert_equal(jax.tree.map(lambda leaf: leaf[0], made.read), original)
    assert made.curves == [[]]


def test_seeds_whose_tasks_differ_in_size_are_refused(seeds):
    keys, steps, originals, _ = seeds
    shorter = steps[1][:1] + steps[1][2:3] + steps[1][2:]
    with pytest.raises(InvalidInputError, match=r"seed 0, seed 1.*differ in size"):
        ensemble.together(["seed 0", "seed 1"], keys[:2], [steps[0], shorter], originals[:2])


# Settings


def test_settings_side_by_side_are_those_one_after_another(plain_model, plain_original, data):
    options = [(0.01, 1), (0.1, 3), (0.05, 2)]
    each = [
        chain(task(range(6), 60), finetune(plain_model, learning_rate=rate, epochs=epochs))
        for rate, epochs in options
    ]
    keys = jax.random.split(KEY, len(each))
    work = ensemble.together(names(range(3)), keys, each, [plain_original] * 3)
    for within in ensemble.WITHIN:
        (made,) = ensemble.run(
            [work],
            data,
            read=ensemble.whole,
            devices=jax.local_devices()[:2],
            per_device=2,
            within=within,
        )
        assert [len(curve) for curve in made.curves] == [epochs for _, epochs in options]
        for position, steps in enumerate(each):
            alone = run(keys[position], steps, plain_original, data)
            assert_close(jax.tree.map(lambda leaf, m=position: leaf[m], made.read), alone)


def test_of_settings_only_those_that_diverge_are_noted(plain_model, plain_original, data):
    rates = (0.01, 1e30, 0.1)
    each = [
        chain(task(range(6), 60), finetune(plain_model, learning_rate=rate, epochs=2))
        for rate in rates
    ]
    keys = jax.random.split(KEY, len(each))
    work = ensemble.together(names(range(3)), keys, each, [plain_original] * 3)
    options = {"read": ensemble.whole, "devices": jax.local_devices()[:3]}
    told = []
    (made,) = ensemble.run([work], data, diverging="noted", on_epoch=told.append, **options)
    assert told[-1].names == ["model 0", "model 2"]
    assert [error is None for error in made.diverged] == [True, False, True]
    assert "model 1" in str(made.diverged[1])
    assert "learning_rate below 1e+30" in str(made.diverged[1])
    for position in (0, 2):
        alone = run(keys[position], each[position], plain_original, data)
        assert_close(jax.tree.map(lambda leaf, m=position: leaf[m], made.read), alone)
    with pytest.raises(DivergenceError, match="model 1"):
        list(ensemble.run([work], data, **options))


def test_algorithms_that_differ_in_more_than_numbers_are_not_one_program(
    plain_model, plain_original
):
    work = task(range(6), 60)
    each = [chain(work, finetune(plain_model, epochs=1, batch_size=size)) for size in (16, 32)]
    with pytest.raises(InvalidInputError, match="more than their numbers"):
        ensemble.together(names(range(2)), jax.random.split(KEY, 2), each, [plain_original] * 2)
