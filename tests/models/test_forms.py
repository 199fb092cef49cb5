"""Layers in the form that suits another platform compute what they do in their own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.models import Model, build, convolution, vgg
from rumjax.models.norm import BatchNorm
from rumjax.models.vgg import max_pool
from rumjax.platforms import compiling_for

KEY = jax.random.key(0)
TARGETS = ("cpu", "gpu", "tpu")


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(1, 2, shape), dtype)


def assert_close(found, wanted, tolerance=1e-5):
    chosen = {"rtol": tolerance, "atol": tolerance}
    as_float = lambda leaf: np.asarray(leaf, np.float32)  # noqa: E731
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(as_float(a), as_float(b), **chosen), found, wanted
    )


def assert_equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


# Pooling


def gradient(function, images):
    """The gradient of a sum in which every output has its own weight."""
    weights = normal(*jax.eval_shape(function, images).shape, seed=1)
    return jax.grad(lambda images: jnp.sum(weights * function(images)))(images)


def test_pooling_for_tpu_is_linen_s_and_without_ties_that_for_cpu():
    linen = lambda images: nn.max_pool(images, (2, 2), (2, 2))  # noqa: E731
    images = normal(2, 5, 4, 3)
    tied = jnp.maximum(jnp.round(images), 0)
    for_cpu = max_pool(images), gradient(max_pool, images)
    with compiling_for("tpu"):
        assert_equal((max_pool(images), gradient(max_pool, images)), for_cpu)
        assert_equal(max_pool(tied), linen(tied))
        assert_equal(gradient(max_pool, tied), gradient(linen, tied))
    # On CPU those that tie share it, so the forms can be told apart.
    assert not np.array_equal(gradient(max_pool, tied), gradient(linen, tied))


# Batch norm


def normed(layer, images, variables=None):
    """Variables, outputs, statistics and gradients of a layer, in training or not."""
    if variables is None:
        variables = layer.init(KEY, images)
    weights = normal(*images.shape, seed=1)

    def loss(params, images):
        outputs, updated = layer.apply(
            {**variables, "params": params}, images, mutable=["batch_stats"]
        )
        return jnp.sum(weights * outputs.astype(jnp.float32)), (outputs, updated)

    slopes, found = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], images)
    return variables, found, slopes


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_norm_is_linen_s_on_gpu_closely_and_elsewhere_to_the_bit(dtype, train):
    options = {"use_running_average": not train, "momentum": 0.9, "epsilon": 1e-5, "dtype": dtype}
    images = normal(6, 3, 2, 4, dtype=dtype)
    start = {
        "params": {"scale": normal(4, seed=2), "bias": normal(4, seed=3)},
        "batch_stats": {"mean": normal(4, seed=4), "var": 1 + normal(4, seed=5) ** 2},
    }
    linen = nn.BatchNorm(**options)
    wanted = normed(linen, images, start)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (linen.init(KEY, images), wanted))
    for target in TARGETS:
        with compiling_for(target):
            layer = BatchNorm(**options)
            found, made = normed(layer, images, start), layer.init(KEY, images)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (made, found)) == shapes
        assert_equal(made, linen.init(KEY, images))
        if target == "gpu":
            assert_close(found, wanted, 2e-5 if dtype == jnp.float32 else 0.05)
        else:
            assert_equal(found, wanted)
    # Linen's takes the mean away first, so the forms can be told apart.
    with compiling_for("gpu"):
        applied = [
            lambda *args, layer=layer: layer.apply(*args, mutable=["batch_stats"])
            for layer in (BatchNorm(**options), linen)
        ]
        ours, theirs = (str(jax.make_jaxpr(each)(start, images)) for each in applied)
    assert ours != theirs


def test_networks_have_the_same_variables_on_every_platform():
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
    for name in ("resnet18", "vgg16"):
        model = build(name, 3, options={"width": 8})
        shapes = []
        for target in TARGETS:
            with compiling_for(target):
                shapes.append(jax.eval_shape(model.init, KEY, images))
        assert shapes[0] == shapes[1] == shapes[2]


# Convolutions


def test_biases_before_batch_norm_learn_where_the_batch_does_not_cancel_them(monkeypatch):
    monkeypatch.setattr(vgg, "CONVOLUTIONS", ((64, 1),))
    model = Model(vgg.Vgg16(3, width=4))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8))
    variables = model.init(KEY, images)

    def loss(params, train):
        logits = model.apply(variables._replace(params=params), images, train=train)[0].logits
        return jnp.sum(logits * normal(2, 3, seed=1))

    for train in (True, False):
        slopes = jax.jit(jax.grad(loss), static_argnums=1)(variables.params, train)
        assert np.any(slopes["Conv_0"]["kernel"])
        assert np.any(slopes["Conv_0"]["bias"]) != train


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 0), (0, 0)), ((1, 2), (0, 1))])
def test_a_convolution_of_one_pixel_is_the_same_on_tpu(padding):
    kernel = normal(1, 1, 3, 2, seed=1)

    def everything(size):
        images = normal(2, size, 5, 3)
        function = lambda *args: convolution(*args, (2, 2), padding, method="lax")  # noqa: E731
        found, back = jax.vjp(function, images, kernel)
        return found, back(normal(*found.shape, seed=2))

    for size in (4, 5):
        wanted = everything(size)
        with compiling_for("tpu"):
            assert_close(everything(size), wanted)
            strided = jax.make_jaxpr(
                lambda images: convolution(images, kernel, (2, 2), padding, method="lax")
            )(normal(2, size, 5, 3))
        padded = not isinstance(padding, str) and np.any(padding)
        assert ("window_strides=(2, 2)" in str(strided)) == padded
