"""The influence step, against a dense solve with gradients by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rumjax.gradients import fisher_solve
from rumjax.types import Subset, task
from rumjax.unlearn import influence
from tests.references import fisher, small
from tests.references.network import Network, softmax

KEY = jax.random.key(5)
ALPHA, DAMPING = 0.3, 0.02
advance = jax.jit(lambda unlearner, state, data, task: unlearner.epoch(state, data, task))
ALL_OF_R = 1000
"""More examples for the Fisher than there are: all of R make it, and the rest is padding."""


def loss_gradients(variables, data):
    """∇ CE of every example with running statistics, by hand, float64[60, d]."""
    params, stats = jax.tree.map(lambda leaf: np.array(leaf, np.float64), variables)
    network, rows = Network(stats, update=False), []
    for image, label in zip(np.asarray(data.images), np.asarray(data.labels), strict=True):
        logits, pullback = network(params, image[None].astype(float))
        gradient = pullback(softmax(logits) - np.eye(3)[[label]])
        rows.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]))
    return np.array(rows)


@pytest.fixture(scope="module")
def rows(original, data):
    return loss_gradients(original, data)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0], np.float64)


def step(unlearner, variables, data, chosen):
    """What is added to the parameters, the batch statistics after, and the metrics."""
    state = unlearner.init(KEY, variables, data, chosen)
    after, metrics = advance(unlearner, state, data, chosen)
    moved = flat(after.variables.params) - flat(variables.params)
    return moved, after.variables.batch_stats, metrics


def dense_step(rows, forget, examples=None, alpha=ALPHA, damping=DAMPING):
    retain = np.setdiff1d(np.arange(len(rows)), forget)
    share = len(forget) / len(rows)
    vector = share * rows[forget].mean(0) - share * rows[retain].mean(0)
    return alpha * fisher.solve(rows[retain if examples is None else examples], vector, damping)


def assert_close(found, wanted):
    assert np.linalg.norm(found - wanted) <= 2e-3 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("forget", "alpha", "damping"),
    [(small.FORGET, ALPHA, DAMPING), ([7], 2.0, DAMPING), (small.FORGET[:4], ALPHA, 1.0)],
)
def test_the_step_is_that_of_a_dense_solve(model, original, data, rows, forget, alpha, damping):
    unlearner = influence(model, alpha=alpha, damping=damping, fisher_examples=ALL_OF_R)
    chosen = task(forget, small.SIZE, capacity=len(small.FORGET))
    found, batch_stats, metrics = step(unlearner, original, data, chosen)
    wanted = dense_step(rows, forget, alpha=alpha, damping=damping)
    assert_close(found, wanted)
    assert metrics["step_norm"] == pytest.approx(np.linalg.norm(wanted), rel=2e-3)
    jax.tree.map(np.testing.assert_array_equal, batch_stats, original.batch_stats)


def test_without_batch_norm_too(plain_model, plain_original, data):
    unlearner = influence(plain_model, alpha=ALPHA, damping=DAMPING, fisher_examples=ALL_OF_R)
    found, batch_stats, _ = step(unlearner, plain_original, data, task(small.FORGET, small.SIZE))
    assert_close(found, dense_step(loss_gradients(plain_original, data), small.FORGET))
    assert batch_stats == {}


def test_the_fisher_is_that_of_a_sample_of_the_retain_set(model, original, data, rows):
    unlearner = influence(
        model, alpha=ALPHA, damping=DAMPING, fisher_examples=20, batch_size=8, micro_batch=8
    )
    chosen = task(small.FORGET, small.SIZE)
    sample = unlearner.sample(KEY, chosen.retain)
    examples = np.asarray(sample.indices)
    assert int(sample.size) == len(np.unique(examples)) == 20
    assert not np.intersect1d(examples, small.FORGET).size
    found, _, _ = step(unlearner, original, data, chosen)
    assert_close(found, dense_step(rows, small.FORGET, examples))
    assert np.linalg.norm(found - dense_step(rows, small.FORGET)) > 0.01 * np.linalg.norm(found)


@pytest.mark.parametrize("micro_batch", [1, 7, 32])
@pytest.mark.parametrize("size", [13, 20])
def test_the_solve_does_not_depend_on_the_micro_batch_nor_on_padding(
    solvers, original, rows, micro_batch, size
):
    indices = np.random.default_rng(0).permutation(small.SIZE)[:20]
    vector, unravel = ravel_pytree(original.params)
    chosen = Subset(jnp.asarray(indices, jnp.int32), jnp.int32(size))
    found = flat(solvers(micro_batch)(chosen, unravel(vector)))
    wanted = fisher.solve(rows[indices[:size]], np.asarray(vector, np.float64), DAMPING)
    assert_close(found, wanted)


@pytest.fixture(scope="module")
def solvers(model, original, data):
    """`fisher_solve` by micro-batch, compiled once each."""

    @functools.cache
    def solver(micro_batch):
        return jax.jit(
            lambda chosen, vector: fisher_solve(
                model, original, data, chosen, vector, damping=DAMPING, micro_batch=micro_batch
            )
        )

    return solver


@pytest.mark.parametrize("count", [1, 5, 40])
def test_woodbury_is_the_recursion_over_examples(count):
    random = np.random.default_rng(count)
    rows, vector = random.normal(size=(count, 12)), random.normal(size=12)
    gram = rows @ rows.T + DAMPING * count * np.eye(count)
    woodbury = (vector - rows.T @ np.linalg.solve(gram, rows @ vector)) / DAMPING
    recursive = fisher.recursion(rows, DAMPING) @ vector
    np.testing.assert_allclose(woodbury, recursive, rtol=1e-8)
    np.testing.assert_allclose(woodbury, fisher.solve(rows, vector, DAMPING), rtol=1e-8)


def test_the_solve_is_the_recursion_over_examples(solvers, original, rows):
    indices = np.arange(20)
    vector, unravel = ravel_pytree(original.params)
    chosen = Subset(jnp.asarray(indices, jnp.int32), jnp.int32(20))
    found = flat(solvers(7)(chosen, unravel(vector)))
    wanted = fisher.recursion(rows[:20], DAMPING) @ np.asarray(vector, np.float64)
    assert_close(found, wanted)


def test_the_step_goes_up_the_loss_of_what_is_forgotten(model, original, data, rows):
    unlearner = influence(model, alpha=1e-3, damping=DAMPING, fisher_examples=ALL_OF_R)
    found, _, _ = step(unlearner, original, data, task(small.FORGET, small.SIZE))
    retain = np.setdiff1d(np.arange(small.SIZE), small.FORGET)
    assert found @ (rows[small.FORGET].mean(0) - rows[retain].mean(0)) > 0
