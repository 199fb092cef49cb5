import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from rumjax import gradients
from rumjax.types import Subset

CAPACITY = 11
few = hypothesis.settings(deadline=None, max_examples=12)
sizes = st.integers(1, CAPACITY)


@pytest.fixture(scope="module")
def rows(model, original, data):
    """∇ CE of every example by a loop of `jax.grad`, float64[60, d]."""

    @jax.jit
    def gradient(image, label):
        def loss(params):
            outputs, _ = model.apply(original._replace(params=params), image[None], train=False)
            return optax.softmax_cross_entropy_with_integer_labels(outputs.logits[0], label)

        return ravel_pytree(jax.grad(loss)(original.params))[0]

    found = [gradient(*each) for each in zip(data.images, data.labels, strict=True)]
    return np.array(found, np.float64)


@pytest.fixture(scope="module")
def compiled(model, original, data):
    """The functions of `gradients` on a subset, compiled once for all sizes."""

    def bound(function, **options):
        return jax.jit(functools.partial(function, model, original, data, **options))

    return {
        "mean": bound(gradients.mean_gradient, batch_size=4),
        "magnitude": bound(gradients.mean_gradient_magnitude, batch_size=4),
        "weighted": bound(gradients.weighted_gradient, batch_size=4),
        "gram": bound(gradients.gram_matrix, micro_batch=4),
    }


def chosen(size, seed=0):
    """A random subset of that size, with padding that points at examples outside of it."""
    indices = np.random.default_rng(seed).permutation(60)[:CAPACITY]
    return indices, Subset(jnp.asarray(indices, jnp.int32), jnp.int32(size))


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_per_example_gradients_are_those_of_a_loop(model, original, data, rows):
    found = gradients.per_example_gradients(model, original, data.images[:7], data.labels[:7])
    assert jax.tree.structure(found) == jax.tree.structure(original.params)
    assert all(leaf.shape[0] == 7 for leaf in jax.tree.leaves(found))
    assert_close(jax.vmap(lambda each: ravel_pytree(each)[0])(found), rows[:7])
    assert np.abs(rows[:7]).max() > 0.01


@few
@hypothesis.given(sizes, st.integers(0, 5))
def test_means_are_over_the_subset_whatever_its_size(compiled, rows, size, seed):
    indices, subset = chosen(size, seed)
    assert_close(flat(compiled["mean"](subset)), rows[indices[:size]].mean(0))
    assert_close(flat(compiled["magnitude"](subset)), np.abs(rows[indices[:size]]).mean(0))


def test_the_mean_gradient_is_that_of_the_full_batch(model, original, data, compiled):
    indices, subset = chosen(CAPACITY)

    def loss(params):
        outputs, _ = model.apply(
            original._replace(params=params), data.images[indices], train=False
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, data.labels[indices]
        ).mean()

    assert_close(flat(compiled["mean"](subset)), flat(jax.jit(jax.grad(loss))(original.params)))


@few
@hypothesis.given(sizes, st.integers(0, 5))
def test_a_weighted_gradient_is_the_weighted_sum_and_padding_weighs_nothing(
    compiled, rows, size, seed
):
    indices, subset = chosen(size, seed)
    weights = np.random.default_rng(seed).normal(size=CAPACITY)
    found = flat(compiled["weighted"](subset, jnp.asarray(weights, jnp.float32)))
    assert_close(found, weights[:size] @ rows[indices[:size]])


@few
@hypothesis.given(sizes, st.integers(0, 5))
def test_the_gram_matrix_is_that_of_the_rows_and_zero_at_the_padding(compiled, rows, size, seed):
    indices, subset = chosen(size, seed)
    wanted = np.zeros((CAPACITY, CAPACITY))
    wanted[:size, :size] = rows[indices[:size]] @ rows[indices[:size]].T
    found = np.asarray(compiled["gram"](subset))
    assert_close(found, wanted)
    np.testing.assert_array_equal(found, found.T)


def test_over_nothing_sums_are_zero(compiled):
    _, subset = chosen(0)
    assert not flat(compiled["mean"](subset)).any()
    assert not np.asarray(compiled["gram"](subset)).any()
