"""UNSIR: its noise and its sample, and that it descends on them as its twin in NumPy does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.types import subset, task
from rumjax.unlearn import base, chain, run
from rumjax.unlearn.impairing import sample_of_each, unsir
from tests.references import adversarial
from tests.references.descent import adam, sgd
from tests.references.network import Network, softmax

KEY = jax.random.key(11)


def doubles(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), tree)


def unlearner_of(model, **options):
    """Five epochs of one batch each: noise comes three times, and 2 · 9 images are retained."""
    settings = {"noise_images": 6, "repeats": 3, "retained": 9, "penalty": 0.02, "repair": 0.25}
    rates = {"learning_rate": 0.08, "momentum": 0.8, "weight_decay": 0.02}
    return unsir(model, epochs=5, batch_size=36, batch_norm="freeze", **settings | rates | options)


@pytest.fixture(scope="module")
def chosen(data):
    """All of class 1 is forgotten."""
    return task(np.flatnonzero(data.labels == 1), 60)


@pytest.fixture(scope="module")
def start(model, original, data, chosen):
    return base._start(unlearner_of(model), KEY, original, data, chosen)


def test_noise_is_that_of_the_slow_twin_and_raises_the_loss(model, original, data, chosen, start):
    still = unlearner_of(model, noise_steps=0)
    drawn = base._start(still, KEY, original, data, chosen).memory.pixels
    variables = doubles(tuple(original))
    labels = np.ones(6, int)
    np.testing.assert_array_equal(start.memory.labels, labels)
    before = np.asarray(drawn, np.float64).reshape(6, 4, 4, 1)
    assert abs(before.mean()) < 0.5
    assert 0.7 < before.std() < 1.3

    def gradient(noise):
        return adversarial.noise_slope(variables, noise, labels, 0.02)

    wanted = adam(before, [gradient] * 40, learning_rate=0.1, weight_decay=0, decoupled=False)
    found = np.asarray(start.memory.pixels, np.float64).reshape(before.shape)
    np.testing.assert_allclose(found, wanted, atol=2e-3)

    def loss(noise):
        logits = adversarial.predictions(variables, noise)[0]
        return -np.log(softmax(logits)[:, 1]).mean()

    assert loss(found) > loss(before) + 1


def test_descent_is_that_of_the_slow_twin(model, original, data, chosen, start):
    unlearner, state = unlearner_of(model), jax.tree.map(jnp.copy, start)
    for _ in range(5):
        state, finite, _ = base._advance(unlearner, state, data, chosen)
        assert finite
    params, stats = doubles(tuple(original))
    network = Network(stats, update=False)
    kept = np.asarray(start.memory.kept.indices)[: int(start.memory.kept.size)]
    images = np.asarray(data.images, np.float64)[kept]
    noise = 255 * np.asarray(start.memory.pixels, np.float64).reshape(-1, 4, 4, 1)
    impaired = np.concatenate([images, *[noise] * 3])

    def step(images, labels):
        def gradient(params):
            logits, pullback = network(params, images)
            return pullback((softmax(logits) - np.eye(3)[labels]) / len(labels))

        return gradient

    labels = np.asarray(data.labels)[kept]
    steps = [step(impaired, np.append(labels, [1] * 18)), *[step(images, labels)] * 4]
    rates = 0.08 * np.array([1, 0.25, 0.25, 0.25, 0.25])
    wanted = sgd(params, steps, learning_rate=rates, momentum=0.8, weight_decay=0.02)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        state.variables.params,
        wanted,
    )


def test_the_sample_has_at_most_so_many_of_each_class(data, chosen, start):
    labels = np.asarray(data.labels)
    kept = np.asarray(start.memory.kept.indices)[: int(start.memory.kept.size)]
    assert len(np.unique(kept)) == len(kept)
    np.testing.assert_array_equal(np.bincount(labels[kept]), [9, 0, 9])
    few = subset(np.flatnonzero(labels == 0)[:4].tolist() + np.flatnonzero(labels == 2).tolist())
    drawn = jax.jit(sample_of_each)(KEY, data.labels, few, 9)
    again = np.asarray(drawn.indices)[: int(drawn.size)]
    np.testing.assert_array_equal(np.bincount(labels[again]), [4, 0, 9])
    assert set(again) < set(np.asarray(few.indices))


def test_what_is_no_whole_class_is_refused(model, original, data, chosen):
    forget = np.asarray(chosen.forget.indices)[:-2]
    with pytest.raises(InvalidInputError, match="and 2 examples of class 1 are retained"):
        run(KEY, chain(task(forget, 60), unsir(model)), original, data)
    with pytest.raises(InvalidInputError, match="raise epochs to 2"):
        unsir(model, epochs=1)


def test_gradients_are_counted(model, data):
    assert unlearner_of(model).gradients(20, 40, data) == 6 * (40 + 3) + 5 * 18
