"""Wide residual networks and ResNet-9 are what slow twins in NumPy make of the same variables."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.models import Model, ResNet9, WideResNet, resnet
from rumjax.models.resnet9 import global_max
from rumjax.models.vgg import max_pool
from tests.references import residual


def drawn(form):
    """Variables as training might have left them, in the place of shapes."""
    random = np.random.default_rng(0)

    def draw(leaf):
        if leaf.ndim == 1:
            return random.uniform(0.3, 1, leaf.shape).astype(np.float32)
        inputs = np.prod(leaf.shape[:-1])
        return random.normal(0, (2 / inputs) ** 0.5, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, form)


@pytest.mark.parametrize(
    ("module", "twin"),
    [
        (WideResNet(3, depth=10, widen=1), partial(residual.wide_resnet, depth=10)),
        (ResNet9(3, width=4), residual.resnet9),
    ],
)
def test_outputs_statistics_and_slopes_are_those_of_the_slow_twin(module, twin):
    model = Model(module)
    random = np.random.default_rng(1)
    images = random.normal(size=(6, 13, 12, 2)).astype(np.float32)
    weights = random.normal(size=(6, 3)).astype(np.float32)
    variables = drawn(model.signature(images).variables)
    direction = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), variables.params)

    def total(params):
        apply = partial(model.apply, variables._replace(params=params), images)
        outputs, stats = apply(train=True)
        return jnp.sum(weights * outputs.logits), (apply(train=False)[0], outputs, stats)

    def slow(step, train=True):
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, variables.params, direction)
        layers = residual.Layers(variables._replace(params=moved), train)
        return twin(layers, images), layers.means

    # What it returns in training and out of it, and the running means after it.
    slope, (frozen, outputs, stats) = jax.jit(jax.grad(total, has_aux=True))(variables.params)
    wanted, means = slow(0)
    np.testing.assert_allclose(outputs.logits, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(frozen.logits, slow(0, train=False)[0], rtol=1e-4, atol=1e-4)
    assert len(means) == len(jax.tree.leaves(stats)) / 2
    for path, mean in means.items():
        found = stats
        for name in path:
            found = found[name]
        np.testing.assert_allclose(found["mean"], mean, rtol=1e-4, atol=1e-5)

    # Its gradient along a direction, as a difference in float64.
    step = 1e-6
    difference = np.sum(weights * (slow(step)[0] - slow(-step)[0])) / (2 * step)
    along = jax.tree.map(lambda leaf, way: np.sum(leaf * way), slope, direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(along)), difference, rtol=1e-3)


def test_the_maximum_over_all_pixels_passes_its_gradient_to_the_first_place():
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    images[0, 1, 2, 3] = images[0, 2, 1, 3] = 9
    weights = np.arange(10, dtype=np.float32).reshape(2, 5)
    value, back = jax.vjp(global_max, jnp.asarray(images))
    np.testing.assert_array_equal(value, images.max((1, 2)))
    wanted = np.zeros_like(images)
    for i, c in np.ndindex(2, 5):
        place = np.unravel_index(images[i, :, :, c].argmax(), (3, 4))
        wanted[(i, *place, c)] = weights[i, c]
    np.testing.assert_array_equal(back(jnp.asarray(weights))[0], wanted)
    # Not by comparing with a maximum, which XLA may round otherwise than the pixels.
    assert "reduce_max" not in str(jax.make_jaxpr(global_max)(images))


def test_pooling_passes_its_gradient_to_the_first_of_a_window_and_hides_no_nan():
    images = np.random.default_rng(0).normal(size=(1, 5, 4, 2)).astype(np.float32)
    images[0, :2, :2, 0] = 7
    value, back = jax.vjp(max_pool, jnp.asarray(images))
    whole = (
        images[:, :4].reshape(1, 2, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 2, 2, 2, 4)
    )
    np.testing.assert_array_equal(value, whole.max(-1))
    slope = np.asarray(back(jnp.ones_like(value))[0])
    assert slope[0, 0, 0, 0] == 1
    assert slope.sum() == value.size
    assert images[slope == 1].sum() == pytest.approx(float(value.sum()), rel=1e-6)
    for place in np.ndindex(2, 2):
        assert np.isnan(max_pool(jnp.asarray(images).at[(0, *place, 1)].set(np.nan))[0, 0, 0, 1])
    for pool in (max_pool, resnet.max_pool):
        compiled = str(jax.make_jaxpr(jax.grad(lambda x, pool=pool: pool(x).sum()))(images))
        assert " eq " not in compiled
