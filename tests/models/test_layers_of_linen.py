"""Linen's convolutions inside `Model`: by products, with Linen's parameters and Linen's outputs."""

import contextlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rumjax import gradients
from rumjax.models import Cnn, Model
from rumjax.models.conv import OVERRIDE
from rumjax.models.layers import quick_convolutions

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 5, 4)), jnp.float32)


class Doubled(nn.Conv):
    """A layer that adds to Linen's."""

    @nn.compact
    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


class Alone(nn.Conv):
    """A layer that takes nothing of Linen's but the fields."""

    @nn.compact
    def __call__(self, inputs):
        assert self.conv_general_dilated is None
        kernel = self.param("kernel", self.kernel_init, (3, 3, 4, self.features))
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=numbers)


class Net(nn.Module):
    """A layer inside a network, declared in `setup`."""

    layer: nn.Module
    flat: bool = True

    def setup(self):
        self.inner = self.layer.clone()

    def __call__(self, images):
        ours = self.inner(images)
        return ours.reshape(len(ours), -1) if self.flat else ours


class Step(nn.Module):
    """One of several layers of a scan."""

    @nn.compact
    def __call__(self, carry, _):
        return nn.Conv(4, (3, 3))(carry), None


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, images):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 2}
        return nn.scan(Step, **axes)()(images, None)[0]


def masked():
    return jnp.asarray(np.random.default_rng(1).integers(0, 2, (3, 3, 4, 2)), jnp.float32)


BY_PRODUCTS = {
    "defaults": (lambda: nn.Conv(2, (3, 3)), IMAGES),
    "strides": (lambda: nn.Conv(2, (3, 2), strides=(2, 1), padding="VALID"), IMAGES),
    "one stride": (lambda: nn.Conv(2, [3, 3], strides=2, padding=1, use_bias=False), IMAGES),
    "pads": (lambda: nn.Conv(2, (3, 3), padding=((0, 2), 1)), IMAGES),
    "circular": (lambda: nn.Conv(2, (3, 3), padding="CIRCULAR"), IMAGES),
    "ones": (lambda: nn.Conv(2, (1, 1), kernel_dilation=1, input_dilation=None), IMAGES),
    "mask": (lambda: nn.Conv(2, (3, 3), mask=masked()), IMAGES),
    "bfloat16": (lambda: nn.Conv(2, (3, 3), dtype=jnp.bfloat16), IMAGES),
    "one image": (lambda: nn.Conv(2, (3, 3)), IMAGES[0]),
    "more batches": (lambda: nn.Conv(2, (3, 3)), IMAGES[None, :, None]),
    "subclass": (lambda: Doubled(2, (3, 3)), IMAGES),
    "setup": (lambda: Net(nn.Conv(2, (3, 3))), IMAGES),
    "remat": (lambda: nn.remat(nn.Conv)(2, (3, 3)), IMAGES),
    "jit": (lambda: nn.jit(nn.Conv)(2, (3, 3)), IMAGES),
    "scan": (Scanned, IMAGES),
}
BY_LINEN = {
    "dilation": (lambda: nn.Conv(2, (3, 3), kernel_dilation=2), IMAGES),
    "input dilation": (lambda: nn.Conv(2, (3, 3), input_dilation=(2, 1), padding=1), IMAGES),
    "groups": (lambda: nn.Conv(2, (3, 3), feature_group_count=2), IMAGES),
    "precision": (lambda: nn.Conv(2, (3, 3), precision="highest"), IMAGES),
    "a kernel too large": (lambda: nn.Conv(2, (7, 3), padding="VALID"), IMAGES),
    "no images": (lambda: nn.Conv(2, (3, 3)), IMAGES[:0]),
    "float16": (lambda: nn.Conv(2, (3, 3), dtype=jnp.float16), IMAGES),
    "one dimension": (lambda: nn.Conv(2, (3,), padding="CAUSAL"), IMAGES[0]),
    "another function": (
        lambda: nn.Conv(2, (3, 3), conv_general_dilated=lax.conv_general_dilated),
        IMAGES,
    ),
    "another call": (lambda: Alone(2, (3, 3)), IMAGES),
    "local": (lambda: nn.ConvLocal(2, (3, 3)), IMAGES),
}


def program(layer, images, inside):
    """The text of initialization and forward pass."""
    with quick_convolutions() if inside else contextlib.nullcontext():
        return str(jax.make_jaxpr(lambda: layer.init_with_output(KEY, images))())


@pytest.mark.parametrize("name", BY_LINEN)
def test_what_products_cannot_express_is_left_to_linen(name):
    make, images = BY_LINEN[name]
    layer = make()
    before = vars(layer).copy()
    inside = program(layer, images, inside=True)
    assert vars(layer).get("conv_general_dilated") is before.get("conv_general_dilated")
    assert "conv_general_dilated" in inside
    # Functions are printed with their addresses.
    address = re.compile("0x[0-9a-f]+")
    assert address.sub("", inside) == address.sub("", program(layer, images, inside=False))


@pytest.mark.parametrize("name", BY_PRODUCTS)
def test_parameters_are_linens_and_outputs_are_up_to_rounding(name):
    make, images = BY_PRODUCTS[name]
    layer = make()

    def everything(inside):
        def forward(variables):
            with quick_convolutions() if inside else contextlib.nullcontext():
                return layer.apply(variables, images)

        with quick_convolutions() if inside else contextlib.nullcontext():
            variables = jax.jit(layer.init)(KEY, images)
        gradient = jax.grad(lambda each: jnp.sum(jnp.sin(forward(each).astype(jnp.float32))))
        return variables, jax.jit(lambda each: (forward(each), gradient(each)))(variables)

    assert "conv_general_dilated" not in program(layer, images, inside=True)
    variables, ours = everything(inside=True)
    with_linen, wanted = everything(inside=False)
    jax.tree.map(np.testing.assert_array_equal, variables, with_linen)
    assert jax.tree.map(jnp.result_type, ours) == jax.tree.map(jnp.result_type, wanted)
    # bfloat16 keeps 8 bits.
    near = 0.05 if name == "bfloat16" else 1e-4
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=near, atol=near
        ),
        ours,
        wanted,
    )


def test_padding_that_crops_is_left_to_linen():
    # Only the program: on CPU, XLA of jax 0.10.2 reads beyond the image.
    layer = nn.Conv(2, (3, 3), padding=((-1, 1), (0, 0)))
    with quick_convolutions():
        program = jax.make_jaxpr(lambda: layer.init_with_output(KEY, IMAGES)[0])()
    assert "conv_general_dilated" in str(program)


@pytest.fixture
def theirs():
    """Someone's network of Linen's layers."""

    class Theirs(nn.Module):
        @nn.compact
        def __call__(self, images):
            hidden = nn.relu(nn.Conv(4, (3, 3), strides=2)(images))
            return nn.Dense(3)(hidden.reshape(len(hidden), -1))

    return Model(Theirs())


def forward_text(model):
    variables = model.init(KEY, IMAGES)
    return str(jax.make_jaxpr(lambda: model.apply(variables, IMAGES, train=True)[0])())


def test_a_model_computes_them_by_products_unless_the_environment_forbids(theirs, monkeypatch):
    assert "conv_general_dilated" not in forward_text(theirs)
    monkeypatch.setenv(OVERRIDE, "lax")
    assert "conv_general_dilated" in forward_text(theirs)


def test_own_networks_are_traced_as_ever():
    model = Model(Cnn(3, widths=(4,), hidden=8))
    variables = model.init(KEY, IMAGES)
    ours = jax.make_jaxpr(lambda: model.apply(variables, IMAGES, train=True)[0].logits)()
    by_linen = jax.make_jaxpr(
        lambda: model.module.apply(
            {"params": variables.params}, model.normalize(IMAGES), train=True
        ).logits.astype(jnp.float32)
    )()
    assert str(ours) == str(by_linen)


def test_per_example_gradients_record_dense_layers_beside_them(theirs):
    variables, labels = theirs.init(KEY, IMAGES), jnp.arange(3)

    def loss(params, image, label):
        outputs, _ = theirs.apply(variables._replace(params=params), image[None], train=False)
        return -nn.log_softmax(outputs.logits)[0, label]

    wanted = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(variables.params, IMAGES, labels)
    ours = gradients.per_example_gradients(theirs, variables, IMAGES, labels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, wanted)
