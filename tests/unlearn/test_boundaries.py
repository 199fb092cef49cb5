"""Boundary unlearning descends as its twin in NumPy does; its labels are never the true ones."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.types import Dataset, task
from rumjax.unlearn import base, chain, run
from rumjax.unlearn.boundaries import boundary_expand, boundary_shrink, neighbours
from tests.references import adversarial
from tests.references.descent import sgd
from tests.references.network import Network, softmax

KEY = jax.random.key(11)
FORGET = np.arange(1, 60, 5)
RETAIN = np.setdiff1d(np.arange(60), FORGET)
TASK = task(FORGET, 60, capacity=14)
OPTIONS = {"epochs": 5, "batch_size": 12, "learning_rate": 0.05, "momentum": 0.8}
named = jax.jit(neighbours, static_argnames=("model", "batch_size"))


def doubles(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), tree)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def assert_close(first, second):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), first, second)


def advanced(unlearner, original, data):
    first = base._start(unlearner, KEY, original, data, TASK)
    state = jax.tree.map(jnp.copy, first)
    for _ in range(unlearner.epochs):
        state, finite, _ = base._advance(unlearner, state, data, TASK)
        assert finite
    return first, state


@pytest.mark.parametrize("bound", [0.0, 0.1, 0.6])
def test_mistake_15_labels_are_those_of_the_slow_twin_and_never_the_true_ones(
    model, original, data, bound
):
    variables, images = doubles(tuple(original)), np.asarray(data.images, np.float64) / 255
    found = named(model, original, data, TASK.forget, bound=bound, batch_size=5)
    own = np.asarray(data.labels)[FORGET]
    assert (found[:12] != own).all()
    wanted = [
        adversarial.neighbour(variables, images[i], y, bound)
        for i, y in zip(FORGET, own, strict=True)
    ]
    np.testing.assert_array_equal(found, [*wanted, 0, 0])
    if bound == 0:
        logits = adversarial.predictions(variables, images[FORGET])[0]
        second = np.argsort(logits, axis=1)[:, -2]
        right = logits.argmax(1) == own
        assert right.sum() > 6
        np.testing.assert_array_equal(found[:12][right], second[right])


def test_shrinking_is_descent_of_the_slow_twin_and_does_without_the_retain_set(
    model, original, data
):
    unlearner = boundary_shrink(model, bound=0.1, **OPTIONS)
    first, last = advanced(unlearner, original, data)
    assert_equal(first.memory, named(model, original, data, TASK.forget, bound=0.1, batch_size=5))
    assert_equal(first.memory, last.memory)
    params, stats = doubles(tuple(original))
    network = Network(stats, update=True)
    images, labels = np.asarray(data.images, np.float64)[FORGET], np.asarray(first.memory)[:12]

    def gradient(params):
        logits, pullback = network(params, images)
        return pullback((softmax(logits) - np.eye(3)[labels]) / 12)

    wanted = sgd(params, [gradient] * 5, learning_rate=0.05, momentum=0.8, weight_decay=0)
    assert_close(tuple(last.variables), (wanted, network.stats))
    other = Dataset(data.images.at[RETAIN].set(7), data.labels.at[RETAIN].set(0))
    assert_equal(advanced(unlearner, original, other)[1].variables, last.variables)
    assert unlearner.gradients(12, 48, data) == 12 + 5 * 12


def test_expanding_is_descent_of_the_slow_twin_and_keeps_the_logits(model, original, data):
    unlearner = boundary_expand(model, **OPTIONS)
    first, last = advanced(unlearner, original, data)
    assert_equal(unlearner.finish(first), original)
    params, stats = doubles(tuple(original))
    network = Network(stats, update=True)
    images = np.asarray(data.images, np.float64)[FORGET]

    # The classifier has another row, of which all examples are.
    row = np.asarray(first.variables.params["row"], np.float64)
    assert 0 < np.abs(row).max() < 8**-0.5
    head = params["Dense_1"]
    head["kernel"] = np.column_stack([head["kernel"], row])
    head["bias"] = np.append(head["bias"], 0)

    def gradient(params):
        logits, pullback = network(params, images)
        return pullback((softmax(logits) - np.eye(4)[3]) / 12)

    wanted = sgd(params, [gradient] * 5, learning_rate=0.05, momentum=0.8, weight_decay=0)
    np.testing.assert_allclose(
        last.variables.params["row"], wanted["Dense_1"]["kernel"][:, 3], atol=1e-5
    )
    wanted["Dense_1"] = {name: leaf[..., :3] for name, leaf in wanted["Dense_1"].items()}
    assert_close(tuple(unlearner.finish(last)), (wanted, network.stats))
    other = Dataset(data.images.at[RETAIN].set(7), data.labels.at[RETAIN].set(0))
    assert_equal(advanced(unlearner, original, other)[1].variables, last.variables)
    assert unlearner.gradients(12, 48, data) == 5 * 12


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


def test_expanding_needs_embeddings(data):
    model = Model(Linear())
    variables = {"params": {"Dense_0": {"kernel": np.zeros((16, 3)), "bias": np.zeros(3)}}}
    variables = jax.tree.map(np.float32, variables)
    with pytest.raises(InvalidInputError, match="Linear returns no embeddings"):
        run(KEY, chain(TASK, boundary_expand(model)), variables, data)


@pytest.mark.parametrize("unlearner", [boundary_expand, boundary_shrink])
def test_there_must_be_something_to_forget(unlearner, model, original, data):
    with pytest.raises(InvalidInputError, match="nothing is to be forgotten"):
        run(KEY, chain(task([], 60), unlearner(model)), original, data)
