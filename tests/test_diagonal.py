"""Diagonals of the Fisher and their like, against loops over examples and closed forms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rumjax import gradients, subset
from rumjax.errors import InvalidInputError
from rumjax.models import Model, from_functions
from rumjax.rows import rows_of
from rumjax.types import Dataset, Subset, Variables
from tests.references.network import Network, softmax

CAPACITY = 11
INDICES = np.random.default_rng(0).permutation(60)[:CAPACITY]
MEANS = (
    gradients.mean_squared_gradient,
    gradients.true_fisher_diagonal,
    gradients.mean_output_sensitivity,
)
EVERY = (*MEANS, gradients.batch_squared_gradient)


def of_size(size, indices=INDICES):
    return Subset(jnp.asarray(indices, jnp.int32), jnp.int32(size))


def options(function, batch=4):
    return {"batch_size" if function in EVERY[3:] else "micro_batch": batch}


@pytest.fixture(scope="module")
def compiled(model, original, data):
    """All four of a subset, compiled once for all sizes."""
    calls = {f: functools.partial(f, model, **options(f)) for f in EVERY}

    @jax.jit
    def together(chosen, variables, data):
        return {f.__name__: call(variables, data, chosen) for f, call in calls.items()}

    def bound(chosen, variables=original, data=data):
        return together(chosen, variables, data)

    return bound


@pytest.fixture(scope="module")
def jacobians(original, data):
    """∂z_k/∂θ of every chosen example in float64[11, K, d], worked out by hand; and z."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), original.params)
    network = Network(original.batch_stats, update=False)
    logits, jacobians = [], []
    for image in np.asarray(data.images, np.float64)[INDICES]:
        z, pullback = network(params, image[None])
        found = [pullback(row[None]) for row in np.eye(3)]
        logits.append(z[0])
        jacobians.append(
            [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(row)]) for row in found]
        )
    return np.array(jacobians), np.array(logits)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("size", [1, 4, 7, CAPACITY])
def test_all_are_those_of_a_loop_over_the_examples_of_the_subset(compiled, jacobians, data, size):
    found = compiled(of_size(size))
    jacobian, logits = (array[:size] for array in jacobians)
    errors = softmax(logits) - np.eye(3)[np.asarray(data.labels)[INDICES[:size]]]
    rows = np.einsum("nk,nkd->nd", errors, jacobian)
    assert_close(flat(found["mean_squared_gradient"]), (rows**2).mean(0))

    # Every label, weighed by its probability.
    wanted = 0
    for label in range(3):
        row = np.einsum("nk,nkd->nd", softmax(logits) - np.eye(3)[label], jacobian)
        wanted += (softmax(logits)[:, [label]] * row**2).mean(0)
    assert_close(flat(found["true_fisher_diagonal"]), wanted)

    norms = np.einsum("nk,nkd->nd", 2 * logits, jacobian)
    assert_close(flat(found["mean_output_sensitivity"]), np.abs(norms).mean(0))

    # Batches of 4, the last one as it is.
    batches = [rows[start : start + 4].mean(0) ** 2 for start in range(0, size, 4)]
    assert_close(flat(found["batch_squared_gradient"]), np.mean(batches, axis=0))


def test_they_are_like_the_parameters_and_zero_over_nothing(compiled, original):
    for found in compiled(of_size(0)).values():
        assert jax.tree.structure(found) == jax.tree.structure(original.params)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
        assert not flat(found).any()


def test_order_and_padding_matter_to_squares_of_batches_alone(compiled):
    order = np.random.default_rng(1).permutation(8)
    found = compiled(of_size(8))
    turned = compiled(of_size(8, np.concatenate([INDICES[:8][order], INDICES[8:]])))
    padded = compiled(of_size(8, np.concatenate([INDICES[:8], [0, 0, 0]])))
    for name, tree in found.items():
        np.testing.assert_array_equal(flat(padded[name]), flat(tree))
        if name != "batch_squared_gradient":
            assert_close(flat(turned[name]), flat(tree))
    wanted, other = (flat(each["batch_squared_gradient"]) for each in (found, turned))
    assert np.abs(other - wanted).max() > 0.01 * wanted.max()


def test_batches_of_one_are_the_examples_and_larger_ones_fade(model, original, data):
    @functools.partial(jax.jit, static_argnames="size")
    def squares(size):
        return gradients.batch_squared_gradient(
            model, original, data, of_size(CAPACITY), batch_size=size
        )

    @jax.jit
    def alone():
        return gradients.mean_squared_gradient(model, original, data, of_size(CAPACITY))

    each = flat(alone())
    assert_close(flat(squares(1)), each)
    full = jax.jit(
        lambda: gradients.mean_gradient(model, original, data, of_size(CAPACITY), batch_size=64)
    )()
    assert_close(flat(squares(CAPACITY)), flat(full) ** 2)
    assert flat(squares(CAPACITY)).sum() < 0.7 * each.sum()


class Linear(nn.Module):
    """Softmax regression on flattened images."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


def apply(params, images):
    return images.reshape(len(images), -1) @ params["kernel"] + params["bias"][None]


@pytest.mark.parametrize("kind", ["dense layer", "functions"])
def test_softmax_regression_has_closed_forms(data, kind):
    random = np.random.default_rng(0)
    weights = {"kernel": random.normal(size=(16, 3)), "bias": np.array([0.1, 0.0, -0.2])}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), weights)
    module = Linear() if kind == "dense layer" else from_functions(lambda *_: params, apply)
    variables = Variables({"Dense_0": params} if kind == "dense layer" else params, {})
    model = Model(module)

    inputs = np.asarray(data.images, np.float64).reshape(60, -1) / 255
    logits = inputs @ weights["kernel"] + weights["bias"]
    p = softmax(logits)
    errors = p - np.eye(3)[np.asarray(data.labels)]
    wanted = {
        "mean_squared_gradient": ("nd,nk->dk", inputs**2, errors**2),
        # Σ_y p_y (p_k − 1[k = y])² = p_k (1 − p_k).
        "true_fisher_diagonal": ("nd,nk->dk", inputs**2, p * (1 - p)),
        "mean_output_sensitivity": ("nd,nk->dk", inputs, np.abs(2 * logits)),
    }
    for function in MEANS:
        tree = jax.jit(functools.partial(function, model, micro_batch=16))(
            variables, Dataset(rows_of(data.images), data.labels), subset(np.arange(60))
        )
        found = tree.get("Dense_0", tree)
        form, left, right = wanted[function.__name__]
        assert_close(found["kernel"], np.einsum(form, left, right) / 60)
        assert_close(found["bias"], right.mean(0))


def test_labels_matter_to_gradients_of_the_loss_alone(compiled, original, data):
    found = compiled(of_size(8), original)
    other = compiled(of_size(8), original, data._replace(labels=(data.labels + 1) % 3))
    for name, tree in found.items():
        same = name in ("true_fisher_diagonal", "mean_output_sensitivity")
        assert same == np.array_equal(flat(tree), flat(other[name]))


def test_several_models_and_subsets_at_once_are_each_alone(compiled, original):
    halved = original._replace(params=jax.tree.map(lambda leaf: leaf / 2, original.params))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), original, halved)
    sizes = jax.tree.map(lambda *leaves: jnp.stack(leaves), of_size(3), of_size(9))
    found = jax.jit(jax.vmap(compiled))(sizes, both)
    alone = [compiled(of_size(3)), compiled(of_size(9), halved)]
    jax.tree.map(assert_close, found, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone))


@pytest.mark.parametrize("function", EVERY)
def test_what_cannot_be_is_refused(plain_model, plain_original, data, function):
    call = functools.partial(function, plain_model, plain_original)
    with pytest.raises(InvalidInputError, match="the subset is empty"):
        call(data, subset([], capacity=3), **options(function))
    with pytest.raises(InvalidInputError, match="index 60 is outside"):
        call(data, subset([60]), **options(function))
    with pytest.raises(InvalidInputError, match=next(iter(options(function)))):
        call(data, subset([1]), **options(function, 0))
