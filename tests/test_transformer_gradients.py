"""Gradients of transformers, whose dense layers are applied to tokens, in bounded memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from rumjax import gradients
from rumjax.models import Model, ViT, build
from rumjax.types import Dataset, Subset

CHOSEN = Subset(jnp.arange(8) % 7, jnp.int32(7))
"""seven examples, and one of them again as padding"""


@pytest.fixture(scope="module")
def transformer(data):
    """A small transformer, variables that are all different, and seven examples' gradients."""
    model = Model(ViT(3, patch=2, dim=4, heads=2, depth=1))
    random = np.random.default_rng(0)
    form = jax.eval_shape(model.init, jax.random.key(0), data.images)
    variables = jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.4, x.shape), x.dtype), form)

    @jax.jit
    def gradient(image, label):
        def loss(params):
            outputs, _ = model.apply(variables._replace(params=params), image[None], train=False)
            return optax.softmax_cross_entropy_with_integer_labels(outputs.logits[0], label)

        return ravel_pytree(jax.grad(loss)(variables.params))[0]

    examples = zip(data.images[:7], data.labels[:7], strict=True)
    return model, variables, np.array([gradient(*each) for each in examples], np.float64)


@pytest.mark.thorough
def test_products_of_gradients_are_those_of_a_loop(transformer, data):
    model, variables, rows = transformer

    def products(variables):
        # The layer after the class token is an outer product, those of tokens are not.
        _, factors = gradients.examples.factored(model, variables, data.images[0], data.labels[0])
        assert list(factors) == [("head", "kernel")]
        return gradients.gram_matrix(model, variables, data, CHOSEN, micro_batch=3)

    found = jax.jit(products)(variables)
    np.testing.assert_allclose(found[:7, :7], rows @ rows.T, rtol=1e-3, atol=1e-4)


@pytest.mark.thorough
def test_means_of_a_few_at_a_time_are_those_of_a_loop(transformer, data, monkeypatch):
    model, variables, rows = transformer
    monkeypatch.setattr(gradients.subsets, "HELD", 2 * 4 * rows.shape[1])

    def means(variables):
        magnitude = gradients.mean_gradient_magnitude(model, variables, data, CHOSEN, batch_size=6)
        square = gradients.mean_squared_gradient(model, variables, data, CHOSEN, micro_batch=6)
        return [ravel_pytree(mean)[0] for mean in (magnitude, square)]

    # No array holds the gradients of six examples, only those of two or three.
    traced = jax.jit(means).trace(variables)
    leading = {int(size) for size in re.findall(r"f32\[(\d),4,12\]", str(traced.jaxpr))}
    assert leading
    assert leading <= {2, 3}
    magnitude, square = traced.lower().compile()(variables)
    np.testing.assert_allclose(magnitude, np.abs(rows).mean(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(square, (rows**2).mean(axis=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("held", "batch_size", "fitting"),
    [(0, 6, 1), (1, 6, 1), (2, 6, 2), (5, 6, 3), (6, 6, 6), (9, 6, 6), (3, 7, 1)],
)
def test_as_many_gradients_are_held_as_fit_and_divide_a_batch(
    monkeypatch, held, batch_size, fitting
):
    params = {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(3)}
    monkeypatch.setattr(gradients.subsets, "HELD", held * 4 * 15)
    assert gradients.subsets.fitting(params, batch_size) == fitting


@pytest.mark.lengthy
@pytest.mark.parametrize("name", ["vit_ti4", "vit_s4"])
@pytest.mark.parametrize(
    "mean",
    [
        functools.partial(gradients.mean_gradient_magnitude, batch_size=256),
        functools.partial(gradients.mean_squared_gradient, micro_batch=256),
    ],
    ids=["magnitudes", "squares"],
)
def test_means_are_compiled_to_bounded_memory(mean, name):
    model, like = build(name, 10), jax.ShapeDtypeStruct
    data = Dataset(like((50_000, 32, 32, 3), jnp.uint8), like((50_000,), jnp.int32))
    variables = jax.eval_shape(model.init, jax.random.key(0), data.images)
    chosen = Subset(like((45_000,), jnp.int32), like((), jnp.int32))

    def of_model(*args):
        return mean(model, *args)

    memory = jax.jit(of_model).lower(variables, data, chosen).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2 * gradients.subsets.HELD
