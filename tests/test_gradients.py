"""Gradients per example, their means and the Fisher's solve, against loops."""

import functools

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import rumjax
from rumjax import gradients
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.types import Subset, Variables
from tests.references.network import softmax

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


class Unusual(nn.Module):
    """Dense layers whose gradients are no outer products of what one call sees, and one that is."""

    @nn.compact
    def __call__(self, images):
        shared, rows = nn.Dense(16), images.reshape(*images.shape[:2], -1)
        found = nn.Dense(4)(rows).reshape(len(images), -1)
        found = nn.relu(shared(nn.relu(shared(found))))
        found = nn.relu(nn.remat(nn.Dense)(5)(found))
        found = nn.relu(nn.WeightNorm(nn.Dense(6))(found))
        return nn.Dense(3)(found)


@pytest.fixture(scope="module")
def unusual(data):
    model = Model(Unusual())
    return model, jax.jit(lambda key: model.init(key, data.images))(jax.random.key(0))


def factor_shapes(model, variables, data):
    rows = jax.eval_shape(
        lambda: gradients.gradient_rows(model, variables, data, jnp.arange(5), micro_batch=2)
    )
    return [(a.shape, b.shape) for a, b in rows.factors]


def test_only_gradients_that_are_outer_products_are_held_as_factors(model, original, unusual, data):
    assert factor_shapes(model, original, data) == [((5, 16), (5, 8)), ((5, 8), (5, 3))]
    assert factor_shapes(*unusual, data) == [((5, 6), (5, 3))]


def test_shared_and_wrapped_dense_layers_have_the_gradients_of_a_loop(unusual, data):
    model, variables = unusual

    @jax.jit
    def together(images, labels):
        found = gradients.per_example_gradients(model, variables, images, labels)
        return found, gradients.self_influence(model, variables, images, labels, batch_size=3)

    @jax.jit
    def alone(image, label):
        def loss(params):
            return gradients.example_losses(model, params, variables, image[None], label[None])[0]

        return jax.grad(loss)(variables.params)

    found, influences = together(data.images[:4], data.labels[:4])
    for i in range(4):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], found)
        wanted = alone(data.images[i], data.labels[i])
        jax.tree.map(assert_close, one, wanted)
        assert_close(influences[i], (flat(wanted) ** 2).sum())


@pytest.mark.parametrize("held", [1, 4 * 4 * 250, 4 * 8 * 250])
def test_the_gram_matrix_does_not_depend_on_how_many_gradients_are_held(
    model, original, data, rows, monkeypatch, held
):
    monkeypatch.setattr(gradients.fisher, "HELD", held)
    indices, subset = chosen(9)
    wanted = np.zeros((CAPACITY, CAPACITY))
    wanted[:9, :9] = rows[indices[:9]] @ rows[indices[:9]].T
    gram = jax.jit(
        lambda subset: gradients.gram_matrix(model, original, data, subset, micro_batch=2)
    )
    assert_close(gram(subset), wanted)


@pytest.mark.parametrize(
    ("examples_held", "block"), [(0, 4), (8, 4), (10, 4), (20, 8), (50, 24), (100, 100)]
)
def test_blocks_are_as_large_as_two_of_them_may_be_held(
    model, original, data, monkeypatch, examples_held, block
):
    size = 4 * (16 + 8 + 8 + 3 + 8 + 8 + 8 + 3)  # factors; biases, and scale and bias of batch norm
    monkeypatch.setattr(gradients.fisher, "HELD", examples_held * size)
    shapes = jax.eval_shape(lambda: original)
    assert gradients.fisher._block_size(model, shapes, data, 100, 4) == block


SCORES = (gradients.loss_curvature, gradients.self_influence)


class Linear(nn.Module):
    """Softmax regression on flattened images."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


@pytest.fixture
def linear(data):
    """A linear model of channels that are normalized, two of whose pixels count for nothing."""
    model = Model(Linear(), mean=(0.3,), std=(0.5,))
    kernel = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    kernel[[2, 11]] = 0
    dense = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([0.1, 0.0, -0.2])}
    return model, Variables({"Dense_0": dense}, {})


def linear_slopes(variables, inputs, labels):
    """p − e_y in float64[N, K] of images in 0…1 that are flat."""
    dense = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables.params["Dense_0"])
    probabilities = softmax((inputs - 0.3) / 0.5 @ dense["kernel"] + dense["bias"])
    return probabilities - np.eye(3)[np.asarray(labels)]


@pytest.mark.parametrize("step", [0.01, 0.3])
def test_the_curvature_of_a_linear_model_is_that_of_its_probabilities(linear, data, step):
    # ∇_x CE = W(p − e_y)/σ, of which only p changes with x.
    model, variables = linear
    inputs = np.asarray(data.images, np.float64).reshape(60, -1) / 255
    kernel = np.asarray(variables.params["Dense_0"]["kernel"], np.float64)
    before = linear_slopes(variables, inputs, data.labels)
    sign = np.sign(before @ kernel.T)
    assert (np.abs(sign).sum(1) == 14).all()
    after = linear_slopes(variables, inputs + step * sign / np.sqrt(14), data.labels)
    wanted = np.linalg.norm((after - before) @ kernel.T / 0.5, axis=1)
    found = gradients.loss_curvature(model, variables, data.images, data.labels, step=step)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert wanted.min() > 1e-4


def test_the_self_influence_of_a_linear_model_is_its_error_times_its_input(linear, data):
    model, variables = linear
    inputs = np.asarray(data.images, np.float64).reshape(60, -1) / 255
    error = linear_slopes(variables, inputs, data.labels)
    wanted = (error**2).sum(1) * ((((inputs - 0.3) / 0.5) ** 2).sum(1) + 1)
    found = gradients.self_influence(model, variables, data.images, data.labels)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_self_influence_is_the_squared_norm_of_the_gradients_of_a_loop(model, original, data, rows):
    found = gradients.self_influence(model, original, data.images, data.labels, batch_size=7)
    assert (found.shape, found.dtype) == ((60,), jnp.float32)
    np.testing.assert_allclose(found, (rows**2).sum(1), rtol=1e-4, atol=1e-7)


def test_curvature_is_that_of_each_example_alone(model, original, data):
    @jax.jit
    def alone(image, label):
        def loss(inputs):
            return gradients.example_losses(
                model, original.params, original, inputs[None], label[None]
            )[0]

        inputs = image / 255
        sign = jnp.sign(jax.grad(loss)(inputs))
        moved = inputs + 0.1 * sign / jnp.linalg.norm(sign)
        return jnp.linalg.norm(jax.grad(loss)(moved) - jax.grad(loss)(inputs))

    wanted = [alone(*each) for each in zip(data.images, data.labels, strict=True)]
    found = gradients.loss_curvature(
        model, original, data.images, data.labels, step=0.1, batch_size=7
    )
    assert (found.shape, found.dtype) == ((60,), jnp.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert max(wanted) > 0.01


@pytest.mark.parametrize("score", SCORES)
def test_an_example_without_a_gradient_scores_zero(linear, data, score):
    model, variables = linear
    # So certain of what is true that the softmax rounds to it, and certain of nothing else.
    sure = variables._replace(
        params={"Dense_0": {"kernel": jnp.zeros((16, 3)), "bias": jnp.asarray([200.0, 0.0, 0.0])}}
    )
    found = np.asarray(score(model, sure, data.images, data.labels))
    right = np.asarray(data.labels) == 0
    assert right.any()
    assert not right.all()
    np.testing.assert_array_equal(found[right], 0)
    # Without weights no image has a gradient, while the bias still has.
    assert (found[~right] > 0).all() == (score is gradients.self_influence)


@pytest.mark.parametrize("score", SCORES)
def test_neither_order_nor_batches_nor_the_kind_of_pixels_matter(model, original, data, score):
    wanted = np.asarray(score(model, original, data.images, data.labels))
    order = np.random.default_rng(0).permutation(60)
    scaled = data.images.astype(jnp.float32) / 255
    found = score(model, original, scaled[order], data.labels[order], batch_size=11)
    np.testing.assert_allclose(found, wanted[order], rtol=1e-3, atol=1e-5)
    assert len(np.unique(wanted)) > 50


@pytest.mark.parametrize("score", SCORES)
def test_of_no_examples_there_are_no_scores(model, original, data, score):
    assert score(model, original, data.images[:0], data.labels[:0]).shape == (0,)


@pytest.mark.parametrize("score", SCORES)
def test_several_models_may_be_scored_at_once(model, original, data, score):
    halved = original._replace(params=jax.tree.map(lambda leaf: leaf / 2, original.params))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), original, halved)

    def one(variables):
        return score(model, variables, data.images[:9], data.labels[:9], batch_size=4)

    alone = jax.jit(one)
    wanted = [alone(original), alone(halved)]
    mapped = functools.partial(jax.lax.map, one)
    for several in (jax.jit(jax.vmap(one)), jax.pmap(one), jax.jit(mapped)):
        np.testing.assert_allclose(several(both), wanted, rtol=1e-3, atol=1e-5)


def test_coefficients_and_labels_are_checked(plain_model, plain_original, data):
    chosen = rumjax.subset([1, 2])
    with pytest.raises(InvalidInputError, match="coefficients: 1 of 2 are not finite"):
        gradients.weighted_gradient(
            plain_model, plain_original, data, chosen, np.array([1, np.nan]), batch_size=2
        )
    with pytest.raises(InvalidInputError, match="the subset is empty"):
        gradients.mean_gradient(
            plain_model, plain_original, data, rumjax.subset([], capacity=3), batch_size=2
        )
    with pytest.raises(InvalidInputError, match="the first is 9 of example 1"):
        gradients.examples.example_losses(
            plain_model, plain_original.params, plain_original, data.images[:2], np.array([0, 9])
        )
