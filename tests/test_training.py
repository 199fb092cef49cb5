"""The recipe: its schedules with and without warm-up, and smoothed labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rumjax.errors import InvalidInputError
from rumjax.losses import cross_entropy
from rumjax.training import Recipe
from rumjax.types import Batch, record, task
from rumjax.unlearn import chain, retrain, run

KEY = jax.random.key(3)


@record
class Plain(Recipe):
    """A recipe that knows neither warm-up nor smoothed labels."""

    def passes(self, state, data, task):
        def loss(variables, batch):
            outputs, variables = self.forward(variables, batch)
            return cross_entropy(outputs.logits, batch), variables

        return self.descend(state, data, (task.retain,), loss, rate=self.rate)

    def rate(self, progress):
        return (1 + jnp.cos(jnp.pi * progress / self.epochs)) / 2


def test_without_its_options_a_recipe_is_bit_identical_to_one_that_has_none(model, data):
    recipe = retrain(model, epochs=2, batch_size=16)
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    found, plain, smoothed = (
        run(KEY, chain(task([1, 5], 60), each), None, data)
        for each in (recipe, Plain(**fields), dataclasses.replace(recipe, label_smoothing=0.1))
    )
    jax.tree.map(np.testing.assert_array_equal, found, plain)
    assert not np.allclose(found.params["Dense_0"]["kernel"], smoothed.params["Dense_0"]["kernel"])


# Warm-up


def slow_rate(progress, *, epochs, warm_up, schedule, milestones, decay):
    """The factor of the rate, case by case."""
    if progress < warm_up:
        return progress / warm_up
    if schedule == "cosine":
        return (1 + np.cos(np.pi * (progress - warm_up) / (epochs - warm_up))) / 2
    if schedule == "steps":
        return decay ** len([one for one in milestones if progress >= one])
    return 1.0


@pytest.mark.parametrize("warm_up", [0, 1.5, 4])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "steps"])
def test_the_rate_rises_and_then_follows_its_schedule(model, schedule, warm_up):
    options = {
        "epochs": 8,
        "warm_up": warm_up,
        "schedule": schedule,
        "milestones": (3, 6) if schedule == "steps" else (),
        "decay": 0.5,
    }
    progress = np.arange(0, 8, 0.25, np.float32)
    found = jax.vmap(retrain(model, **options).rate)(jnp.asarray(progress))
    wanted = [slow_rate(float(one), **options) for one in progress]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


# Smoothed labels


def batch_of(labels, weights):
    images, indices = jnp.zeros((len(labels), 1, 1, 1)), jnp.arange(len(labels))
    return Batch(images, jnp.asarray(labels), jnp.asarray(weights, jnp.float32), None, indices)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_cross_entropy_is_that_with_mixed_targets(smoothing):
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(0, 3, (5, 4)), jnp.float32)
    labels, weights = np.array([0, 3, 1, 1, 2]), np.array([1, 1, 0, 1, 1])
    batch = batch_of(labels, weights)
    targets = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    wanted = weights @ optax.softmax_cross_entropy(logits, jnp.asarray(targets)) / 4
    np.testing.assert_allclose(cross_entropy(logits, batch, smoothing=smoothing), wanted, rtol=1e-5)


def test_no_smoothing_is_exact_and_so_is_its_gradient():
    random = np.random.default_rng(1)
    logits = jnp.asarray(random.normal(0, 30, (64, 10)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 10, 64))
    batch = batch_of(labels, np.ones(64))
    plain = jax.jit(jax.value_and_grad(lambda z: cross_entropy(z, batch)))
    smoothed = jax.jit(jax.value_and_grad(lambda z, s: cross_entropy(z, batch, smoothing=s)))
    jax.tree.map(np.testing.assert_array_equal, smoothed(logits, 0.0), plain(logits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up": 5}, r"warm_up: wanted finite numbers in 0…4, got 5"),
        ({"warm_up": -1}, "warm_up: wanted"),
        ({"label_smoothing": 1.1}, "label_smoothing: wanted finite numbers in 0…1"),
    ],
)
def test_options_out_of_range_are_refused(model, options, message):
    with pytest.raises(InvalidInputError, match=message):
        retrain(model, epochs=4, **options)
