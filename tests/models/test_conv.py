"""Convolutions as matrix products, against XLA's own, and the modules made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.models import Conv, conv, convolution
from rumjax.models.conv import OVERRIDE, method_for_backend, product
from rumjax.platforms import compiling_for
from tests.references import convolutions

# Kernel, stride, padding and channels of every convolution in rumjax.
IN_USE = [
    (3, 1, "SAME", 1),
    (3, 2, "SAME", 1),
    (3, 2, "SAME", 16),
    (3, 1, ((1, 1), (1, 1)), 16),
    (3, 2, ((1, 1), (1, 1)), 4),
    (5, 2, ((2, 2), (2, 2)), 4),
    (1, 1, "VALID", 4),
    (1, 2, "VALID", 16),
    (3, 1, "VALID", 16),
]


@pytest.fixture(params=["whole", "in groups"])
def groups(request, monkeypatch):
    """Small batches as large ones are done: a few images at a time."""
    if request.param == "in groups":
        monkeypatch.setattr(conv, "GROUP", 6_000)


def example(size, taps, channels, features=3, batch=2, seed=0):
    random = np.random.default_rng(seed)
    images = random.normal(size=(batch, size, size + 1, channels)).astype(np.float32)
    # Outputs of order 1, whose rounding errors a loss does not amplify.
    kernel = random.normal(size=(taps, taps, channels, features)) / (taps * channels**0.5)
    kernel = kernel.astype(np.float32)
    return jnp.asarray(images), jnp.asarray(kernel)


def loss(method, stride, padding):
    """A scalar whose gradient depends on every output in its own way."""

    def of(images, kernel):
        found = convolution(images, kernel, (stride, stride), padding, method=method)
        return jnp.sum(jnp.sin(found))

    return of


def assert_close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, wanted)


@settings(deadline=None, max_examples=10)
@given(
    size=st.integers(3, 6),
    taps=st.sampled_from([(1, 1), (3, 3), (3, 1)]),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    pads=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    channels=st.sampled_from([1, 4]),
    seed=st.integers(0, 99),
)
def test_products_are_the_definition(size, taps, strides, pads, channels, seed):
    images, kernel = example(size, 3, channels, seed=seed)
    kernel = kernel[: taps[0], : taps[1]]
    found = convolution(images, kernel, strides, pads, method="dot")
    wanted = convolutions.convolution(images, kernel, strides, pads)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


TRANSFORMED = {
    "grad": lambda of, images, kernels: jax.grad(of, (0, 1))(images, kernels[0]),
    "vmap over kernels": lambda of, images, kernels: jax.vmap(
        jax.grad(of, (0, 1)), in_axes=(None, 0)
    )(images, kernels),
    "map over kernels": lambda of, images, kernels: jax.lax.map(
        lambda kernel: jax.grad(of, (0, 1))(images, kernel), kernels
    ),
    "per example": lambda of, images, kernels: jax.vmap(
        lambda image: jax.grad(of, 1)(image[None], kernels[0])
    )(images),
    "scan": lambda of, images, kernels: jax.lax.scan(
        lambda kernel, image: (
            kernel - 0.01 * jax.grad(of, 1)(image[None], kernel),
            of(image[None], kernel),
        ),
        kernels[0],
        images,
    ),
    "scan of vmap": lambda of, images, kernels: jax.lax.scan(
        lambda each, _: (each - 0.01 * jax.vmap(jax.grad(of, 1), (None, 0))(images, each), None),
        kernels,
        length=2,
    ),
    "forward mode": lambda of, images, kernels: jax.jvp(
        of, (images, kernels[0]), (images, kernels[1])
    ),
    "forward over reverse": lambda of, images, kernels: jax.jvp(
        lambda kernel: jax.grad(of, 1)(images, kernel), (kernels[0],), (kernels[1],)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.usefixtures("groups")
@settings(
    deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.sampled_from([4, 7]),
    used=st.sampled_from(IN_USE),
    features=st.sampled_from([2, 5]),
    batch=st.sampled_from([3, 8]),
    seed=st.integers(0, 99),
)
def test_transformed_values_and_gradients_are_those_of_xla(name, size, used, features, batch, seed):
    taps, stride, padding, channels = used
    images, kernel = example(size, taps, channels, features, batch, seed)
    kernels = jnp.stack([kernel, kernel[::-1], -kernel])
    found, wanted = jax.jit(
        lambda: [
            TRANSFORMED[name](loss(method, stride, padding), images, kernels)
            for method in ("dot", "lax")
        ]
    )()
    assert_close(found, wanted)


@pytest.mark.parametrize(("batch", "group"), [(12, 4), (12, 5), (7, 4), (8, 100)])
def test_groups_divide_the_batch_and_fit(monkeypatch, batch, group):
    images, kernel = example(5, 3, 16, batch=batch)
    windows = 4 * 5 * 6 * 9 * 16
    monkeypatch.setattr(conv, "GROUP", group * windows)
    found = conv._group_size(images, kernel, (1, 1))
    assert batch % found == 0
    if batch * windows <= 2 * conv.GROUP:
        assert found == batch
    else:
        assert found == max(each for each in range(1, group + 1) if batch % each == 0)


def test_windows_of_a_group_are_not_kept_for_the_gradient(monkeypatch):
    images, kernel = example(6, 3, 16, batch=8)

    def largest(group):
        monkeypatch.setattr(conv, "GROUP", group)
        of = jax.grad(lambda kernel: loss("dot", 1, "SAME")(images, kernel))
        jaxpr = jax.make_jaxpr(of)(kernel).jaxpr
        return max(each.aval.size for equation in jaxpr.eqns for each in equation.outvars)

    windows = images.size * 9
    assert largest(10**9) >= windows
    assert largest(6_000) < windows


def test_products_are_those_of_numpy_in_every_shape_and_derivative():
    random = np.random.default_rng(0)
    left = random.normal(size=(2, 3, 5)).astype(np.float32)
    right = random.normal(size=(5, 4)).astype(np.float32)
    weights = random.normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(product(left, right), left @ right, rtol=1e-5)
    by_left, by_right = jax.grad(lambda *both: jnp.sum(weights * product(*both)), argnums=(0, 1))(
        jnp.asarray(left), jnp.asarray(right)
    )
    np.testing.assert_allclose(by_left, weights @ right.T, rtol=1e-5)
    wanted = np.einsum("abk,abf->kf", left, weights)
    np.testing.assert_allclose(by_right, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["dot", "lax"])
def test_bfloat16_in_and_out(method):
    images, kernel = (each.astype(jnp.bfloat16) for each in example(4, 3, 16))

    def of(images, kernel):
        return jnp.sum(convolution(images, kernel, method=method).astype(jnp.float32))

    found = convolution(images, kernel, method=method)
    assert found.dtype == jnp.bfloat16
    exact = convolutions.convolution(images, kernel, (1, 1), ((1, 1), (1, 1)))
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=0.02, atol=0.05)
    assert jax.grad(of)(images, kernel).dtype == jnp.bfloat16


def test_products_of_bfloat16_are_summed_in_float32():
    # 256 + 1 is 256 in bfloat16: a sum kept there would lose every 1, a float32 sum none.
    images = jnp.ones((1, 3, 3, 288), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 288, 1), jnp.bfloat16)
    found = convolution(images, kernel, padding="VALID", method="dot")
    assert float(found[0, 0, 0, 0]) == 9 * 288


def test_a_gpu_prefers_products_for_small_convolutions_and_a_tpu_does_not(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    # 0.075e9 operations for each image: three images are fewer than a GPU wants, five are not.
    cases = ("gpu", 1, False), ("gpu", 3, False), ("gpu", 5, True), ("tpu", 1, True)
    for target, count, own in cases:
        images = jax.ShapeDtypeStruct((count, 32, 32, 64), jnp.float32)
        with compiling_for(target):
            program = str(jax.make_jaxpr(lambda *both: convolution(*both))(images, kernel))
        assert ("conv_general_dilated" in program) == own


def test_the_environment_overrides_the_choice(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert method_for_backend() == "dot"
    monkeypatch.setenv(OVERRIDE, "lax")
    assert method_for_backend() == "lax"
    images, kernel = example(4, 3, 1)
    assert "conv_general_dilated" in str(jax.make_jaxpr(convolution)(images, kernel))
    with compiling_for("gpu"):
        assert method_for_backend(1.0) == "lax"
    monkeypatch.setenv(OVERRIDE, "dots")
    with pytest.raises(InvalidInputError, match=r"RUMJAX_CONVOLUTION 'dots'.*did you mean 'dot'"):
        method_for_backend()


def test_an_unknown_method_is_an_error():
    with pytest.raises(InvalidInputError, match="convolution method 'fft'"):
        convolution(*example(4, 3, 1), method="fft")


def test_module_is_the_function_and_a_bias():
    images, kernel = example(5, 3, 2)
    bias = jnp.arange(3.0)
    conv = Conv(3, strides=(2, 2), use_bias=True)
    found = conv.apply({"params": {"kernel": kernel, "bias": bias}}, images)
    np.testing.assert_allclose(
        found, convolution(images, kernel, (2, 2)) + bias[None, None, None], rtol=1e-6
    )


def test_kernels_start_he_normal_by_fan_out_and_biases_at_zero():
    params = jax.jit(Conv(64, use_bias=True).init)(jax.random.key(0), jnp.zeros((1, 3, 3, 64)))[
        "params"
    ]
    count = params["kernel"].size
    # A sample's standard deviation has a relative standard error of 1/√(2n).
    assert abs(params["kernel"].std() / np.sqrt(2 / (9 * 64)) - 1) < 4 / np.sqrt(2 * count)
    assert not params["bias"].any()
