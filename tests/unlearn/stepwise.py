"""Runs for tests that compare a few steps with twins: S and R are a batch each, unfilled."""

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.types import task
from rumjax.unlearn import base
from tests.references.network import Network

EPOCHS = 5
FORGET = np.arange(0, 60, 2)
TASK = task(FORGET, 60)
OPTIONS = {"epochs": EPOCHS, "batch_size": 30, "momentum": 0.8, "weight_decay": 0.02}
KEY = jax.random.key(5)


def states_of(unlearner, variables, data, chosen=TASK):
    """The states before the first epoch, and after each."""
    states = [base._start(unlearner, KEY, variables, data, chosen)]
    for _ in range(unlearner.epochs):
        given = jax.tree.map(jnp.copy, states[-1])
        state, finite, _ = base._advance(unlearner, given, data, chosen)
        assert finite
        states.append(state)
    return states


def result_of(unlearner, variables, data, chosen=TASK):
    return unlearner.finish(states_of(unlearner, variables, data, chosen)[-1])


def twin_of(variables, *, update=True):
    """The network in NumPy, and its parameters."""
    params = jax.tree.map(lambda leaf: np.array(leaf, np.float64), variables.params)
    return Network(variables.batch_stats, update=update), params


def examples(data, indices):
    return np.asarray(data.images, np.float64)[indices], np.asarray(data.labels)[indices]


def sets(data):
    """Images and labels of S, and of R."""
    return examples(data, FORGET), examples(data, np.setdiff1d(np.arange(60), FORGET))


def assert_close(found, wanted, atol=1e-5):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol),
        found,
        wanted,
    )


def assert_identical(found, wanted):
    """Bit by bit, so that -0.0 is not 0.0."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def moved(found, wanted):
    """Whether any number differs."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return any(bool(np.any(one != other)) for one, other in pairs)
