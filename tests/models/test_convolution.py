import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.models import Conv, convolution
from rumjax.models.convolution import OVERRIDE, method_for_backend
from tests.references import convolutions

# Kernel, stride, padding and channels of every convolution in rumjax, on even and odd sizes; of
# the products' two forms, thin windows and strides take one, 16 channels at stride 1 the other.
IN_USE = [
    (3, 1, "SAME", 1),
    (3, 2, "SAME", 1),
    (3, 2, "SAME", 16),
    (3, 1, ((1, 1), (1, 1)), 16),
    (3, 2, ((1, 1), (1, 1)), 4),
    (1, 1, "VALID", 4),
    (1, 2, "VALID", 16),
    (3, 1, "VALID", 16),
]


def example(size, taps, channels, features=3, batch=2, seed=0):
    random = np.random.default_rng(seed)
    images = random.normal(size=(batch, size, size + 1, channels)).astype(np.float32)
    kernel = random.normal(size=(taps, taps, channels, features)).astype(np.float32)
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


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize(("taps", "stride", "padding", "channels"), IN_USE)
def test_values_and_gradients_are_those_of_xla(size, taps, stride, padding, channels):
    images, kernel = example(size, taps, channels)

    @jax.jit
    def both(images, kernel):
        derive = [
            jax.value_and_grad(loss(each, stride, padding), (0, 1)) for each in ("dot", "lax")
        ]
        return [each(images, kernel) for each in derive]

    assert_close(*both(images, kernel))


@pytest.mark.parametrize(("stride", "channels"), [(1, 16), (2, 16)])
def test_transformations_commute_with_the_form(stride, channels):
    images, kernel = example(5, 3, channels)
    kernels = jnp.stack([kernel, kernel + 1, -kernel])

    def transformed(method):
        of = loss(method, stride, "SAME")
        gradient = jax.grad(of, (0, 1))

        def step(kernel, image):
            return kernel - 0.01 * jax.grad(of, 1)(image[None], kernel), of(image[None], kernel)

        return {
            "over kernels": jax.vmap(gradient, (None, 0))(images, kernels),
            "map": jax.lax.map(lambda each: gradient(images, each), kernels),
            "per example": jax.vmap(lambda image: gradient(image[None], kernel))(images),
            "scan": jax.lax.scan(step, kernel, images),
            "forward mode": jax.jvp(of, (images, kernel), (images, kernel)),
        }

    found, wanted = jax.jit(lambda: [transformed(each) for each in ("dot", "lax")])()
    assert_close(found, wanted)


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


def test_the_environment_overrides_the_choice(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert method_for_backend() == "dot"
    monkeypatch.setenv(OVERRIDE, "lax")
    assert method_for_backend() == "lax"
    images, kernel = example(4, 3, 1)
    assert "conv_general_dilated" in str(jax.make_jaxpr(convolution)(images, kernel))
    monkeypatch.setenv(OVERRIDE, "dots")
    with pytest.raises(InvalidInputError, match=r"RUMJAX_CONVOLUTION 'dots'.*did you mean 'dot'"):
        method_for_backend()


def test_an_unknown_method_is_an_error():
    with pytest.raises(InvalidInputError, match="convolution method 'fft'"):
        convolution(*example(4, 3, 1), method="fft")


def test_module_is_the_function_and_a_bias():
    images, kernel = example(5, 3, 2)
    bias = jnp.arange(3.0)
    module = Conv(3, strides=(2, 2), use_bias=True)
    found = module.apply({"params": {"kernel": kernel, "bias": bias}}, images)
    np.testing.assert_allclose(found, convolution(images, kernel, (2, 2)) + bias, rtol=1e-6)


def test_kernels_start_he_normal_by_fan_out_and_biases_at_zero():
    params = jax.jit(Conv(64, use_bias=True).init)(jax.random.key(0), jnp.zeros((1, 3, 3, 64)))[
        "params"
    ]
    count = params["kernel"].size
    # A sample's standard deviation has a relative standard error of 1/√(2n).
    assert abs(params["kernel"].std() / np.sqrt(2 / (9 * 64)) - 1) < 4 / np.sqrt(2 * count)
    assert not params["bias"].any()
