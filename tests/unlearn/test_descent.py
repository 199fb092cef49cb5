"""Optimizers by name, gradients transformed, and turns of two steps, against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.descent import Sgd, clipped
from rumjax.errors import InvalidInputError
from rumjax.losses import cross_entropy
from rumjax.sampling import membership, sample, share, union
from rumjax.types import Subset, record, subset, task
from rumjax.unlearn import chain, finetune, run
from tests.references.descent import adam, sgd
from tests.references.network import Network

KEY = jax.random.key(3)
FORGET = np.arange(0, 60, 5)
TASK = task(FORGET, 60)
STEPS = 5


def double(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), tree)


def slope(data, chosen, factor=1.0, limit=np.inf):
    """From parameters to the gradient of the mean CE of some examples, scaled down to a norm."""
    images, labels = (np.asarray(part)[chosen] for part in data)

    def gradient(params):
        logits, pullback = Network({}, update=False)(params, images)
        grown = np.exp(logits - logits.max(1, keepdims=True))
        wanted = grown / grown.sum(1, keepdims=True) - np.eye(3)[labels]
        tree = pullback(factor * wanted / len(chosen))
        size = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))
        return jax.tree.map(lambda leaf: leaf * min(1.0, limit / size), tree)

    return gradient


def assert_close(found, wanted):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
        found,
        wanted,
    )


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_is_that_of_pytorch(data, plain_model, plain_original, optimizer):
    """One batch an epoch, so that the order of the examples does not matter."""
    options = {"learning_rate": 0.01, "weight_decay": 0.1, "batch_size": 48, "epochs": STEPS}
    unlearner = finetune(plain_model, optimizer=optimizer, momentum=0.8, **options)
    found = run(KEY, chain(TASK, unlearner), plain_original, data)
    retain = np.setdiff1d(np.arange(60), FORGET)
    wanted = adam(
        double(plain_original.params),
        [slope(data, retain)] * STEPS,
        learning_rate=0.01,
        weight_decay=0.1,
        decoupled=optimizer == "adamw",
        betas=(0.8, 0.999),
    )
    assert_close(found.params, wanted)


def test_an_unknown_optimizer_is_refused(plain_model):
    with pytest.raises(InvalidInputError, match=r"optimizer.*adamw"):
        finetune(plain_model, optimizer="adamm")


@record
class TwoSteps(Sgd):
    """Ascends on S with a clipped gradient and a mask, then descends on R at half the rate."""

    def init(self, key, variables, data, task):
        states = tuple(super(TwoSteps, self).init(key, variables, data, task) for _ in range(2))
        return states[0]._replace(optimizer=tuple(state.optimizer for state in states))

    def passes(self, state, data, task):
        def ascent(variables, batch):
            outputs, variables = self.forward(variables, batch)
            return -cross_entropy(outputs.logits, batch), variables

        def descent(variables, batch):
            outputs, variables = self.forward(variables, batch)
            return cross_entropy(outputs.logits, batch), variables

        def turn(moment, variables, optimizers, retain, forget):
            mask = jax.tree.map(lambda leaf: jnp.full(leaf.shape, leaf.ndim == 2), variables.params)
            variables, first, _ = self.step(
                variables,
                optimizers[0],
                ascent,
                forget,
                transform=lambda gradient: clipped(gradient, 0.1),
                mask=mask,
            )
            variables, second, loss = self.step(variables, optimizers[1], descent, retain, rate=0.5)
            return variables, (first, second), loss

        return self.turns(state, data, (task.retain, task.forget), turn)


def test_a_turn_takes_steps_with_states_masks_and_rates_of_their_own(
    data, plain_model, plain_original
):
    options = {"learning_rate": 0.2, "momentum": 0.9, "weight_decay": 0.0}
    base = finetune(plain_model, batch_size=64, epochs=STEPS, **options)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    found = run(KEY, chain(TASK, TwoSteps(**fields)), plain_original, data)

    # Two velocities, each of them the sum of its own gradients.
    retain = np.setdiff1d(np.arange(60), FORGET)
    params = double(plain_original.params)
    ascent, descent = slope(data, FORGET, -1.0, limit=0.1), slope(data, retain)
    kernels = jax.tree.map(lambda leaf: np.full(leaf.shape, leaf.ndim == 2), params)
    first, second = (jax.tree.map(np.zeros_like, params) for _ in range(2))
    for _ in range(STEPS):
        first = jax.tree.map(lambda v, g: 0.9 * v + g, first, ascent(params))
        params = jax.tree.map(lambda p, v, m: p - 0.2 * v * m, params, first, kernels)
        second = jax.tree.map(lambda v, g: 0.9 * v + g, second, descent(params))
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, second)
    assert_close(found.params, params)


def test_the_twin_of_sgd_agrees_too(data, plain_model, plain_original):
    options = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02}
    unlearner = finetune(plain_model, batch_size=64, epochs=STEPS, **options)
    found = run(KEY, chain(TASK, unlearner), plain_original, data)
    retain = np.setdiff1d(np.arange(60), FORGET)
    wanted = sgd(double(plain_original.params), [slope(data, retain)] * STEPS, **options)
    assert_close(found.params, wanted)


subsets = st.lists(st.integers(0, 11), unique=True, max_size=12)


@settings(max_examples=30, deadline=None)
@given(chosen=subsets, count=st.integers(0, 14), seed=st.integers(0, 100))
def test_samples_unions_and_memberships_are_those_of_sets(chosen, count, seed):
    key, whole = jax.random.key(seed), subset(chosen, capacity=12)
    assert set(np.flatnonzero(membership(whole, 12))) == set(chosen)
    drawn = sample(key, whole, count)
    names = np.asarray(drawn.indices)[: int(drawn.size)]
    assert len(names) == len(set(names)) == min(count, len(chosen))
    assert set(names) <= set(chosen)
    rest = subset(sorted(set(range(12)) - set(chosen)), capacity=12)
    both = union(whole, rest)
    assert sorted(np.asarray(both.indices)[: int(both.size)]) == list(range(12))


@pytest.mark.parametrize(("fraction", "size", "wanted"), [(0.3, 10, 3), (0.3, 11, 4), (0, 9, 0)])
def test_a_share_is_rounded_up(fraction, size, wanted):
    whole = Subset(jnp.arange(20), jnp.int32(size))
    assert int(share(KEY, whole, fraction).size) == wanted
    assert int(share(KEY, whole, 1).size) == size
