"""Transposed kernels and fresh entries, before and after the fine-tuning that follows them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.models import Cnn, Model
from rumjax.models.conv import Conv
from rumjax.models.transposing import transposed
from rumjax.sampling import sample
from rumjax.types import Outputs, task
from rumjax.unlearn import base, chain, run
from rumjax.unlearn.perturbing import ct, kernels, msg, smallest
from tests.references import perturbing as twins
from tests.references.descent import sgd

KEY = jax.random.key(5)
FORGET = np.arange(0, 60, 4)
RETAIN = np.setdiff1d(np.arange(60), FORGET)
EPOCHS = 5
OPTIONS = {"epochs": EPOCHS, "learning_rate": 0.05, "weight_decay": 0.02, "momentum": 0.8}


class Pooled(nn.Module):
    """A convolution, a 1×1 convolution and positions if asked, and global pooling."""

    pointwise: bool = False
    positions: bool = False

    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(Conv(4)(images))
        if self.pointwise:
            hidden = nn.relu(Conv(4, (1, 1))(hidden))
        if self.positions:
            first = nn.initializers.normal(1.0)
            hidden = hidden * self.param("positions", first, (1, *hidden.shape[1:]))
        hidden = hidden.mean((1, 2))
        return Outputs(nn.Dense(3)(hidden), hidden)


@pytest.fixture(scope="module")
def network(data):
    model = Model(Pooled())
    return model, model.init(jax.random.key(0), data.images)


def as_numpy(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def close(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), first, second)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def slopes(data, kept=None):
    """The gradient on all of R for each step; entries outside `kept` are scaled to a tenth."""
    gradient = functools.partial(
        twins.mean_gradient,
        twins.ConvolutionalNetwork(),
        images=np.asarray(data.images, np.float64)[RETAIN],
        labels=np.asarray(data.labels)[RETAIN],
    )

    def scaled(params):
        found = gradient(params)
        if kept is not None:
            found["Conv_0"]["kernel"] = found["Conv_0"]["kernel"] * np.where(kept, 0.1, 1)
        return found

    return [scaled] * EPOCHS


# CT


def test_ct_is_its_twin(network, data):
    model, variables = network
    found = run(KEY, chain(task(FORGET, 60), ct(model, **OPTIONS)), variables, data)
    params = as_numpy(variables.params)
    params["Conv_0"]["kernel"] = params["Conv_0"]["kernel"].transpose(1, 0, 2, 3)
    rates = 0.05 * (1 + np.cos(np.pi * np.arange(EPOCHS) / EPOCHS)) / 2
    wanted = sgd(params, slopes(data), learning_rate=rates, momentum=0.8, weight_decay=0.02)
    close(found.params, wanted)


@pytest.mark.parametrize(
    "module", [Pooled(pointwise=True), Cnn(3, widths=(4,), hidden=8)], ids=["pooled", "flattened"]
)
def test_a_transposed_network_sees_transposed_images_as_it_saw_images(module):
    model = Model(module)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 2)).astype(np.uint8)
    variables = jax.jit(lambda: model.init(KEY, images))()

    # Inside of a compiled function, as unlearners do it.
    turn = jax.jit(lambda params: transposed(model, params, images))
    predict = jax.jit(
        lambda params, images: model.apply(variables._replace(params=params), images, train=False)[
            0
        ]
    )
    turned, mirrored = turn(variables.params), images.transpose(0, 2, 1, 3)
    before, after = predict(variables.params, images), predict(turned, mirrored)
    np.testing.assert_allclose(after.logits, before.logits, rtol=0, atol=1e-5)
    other = predict(variables.params, mirrored)
    assert np.abs(other.logits - before.logits).max() > 1e-3
    assert_equal(turn(turned), variables.params)
    for name, layer in variables.params.items():
        if layer["kernel"].shape[:2] == (1, 1):
            assert_equal(turned[name], layer)


@pytest.mark.parametrize(
    ("module", "shape", "what"),
    [
        (Cnn(3, widths=(), hidden=4), (8, 8), "no convolution larger than 1×1"),
        (Cnn(3, widths=(4,), hidden=4), (8, 16), "tells height from width"),
        (Pooled(positions=True), (8, 8), "tells height from width"),
    ],
    ids=["dense", "oblong", "positions"],
)
def test_networks_that_cannot_be_transposed_are_refused(module, shape, what):
    model, images = Model(module), jax.ShapeDtypeStruct((1, *shape, 1), np.uint8)
    params = model.signature(images).variables.params
    with pytest.raises(InvalidInputError, match=what):
        jax.eval_shape(lambda params: transposed(model, params, images), params)


# MSG


@pytest.fixture(scope="module")
def redrawn(network, data):
    """The state of MSG before its first epoch, and its result."""
    model, variables = network
    unlearner, chosen = msg(model, fraction=0.4, **OPTIONS), task(FORGET, 60)
    start = base._start(unlearner, jax.random.fold_in(KEY, 0), variables, data, chosen)
    return start, run(KEY, chain(chosen, unlearner), variables, data)


def test_msg_is_its_twin(network, data, redrawn):
    _, variables = network
    start, found = redrawn

    # Which entries of the kernel are drawn anew.
    sample_key, *_ = jax.random.split(jax.random.fold_in(KEY, 0), 3)
    drawn = sample(sample_key, task(FORGET, 60).retain, len(FORGET))
    chosen = np.asarray(drawn.indices[: len(FORGET)])
    assert set(chosen) < set(RETAIN)
    of_retain, of_forget = (
        twins.mean_gradient(
            twins.ConvolutionalNetwork(),
            as_numpy(variables.params),
            np.asarray(data.images, np.float64)[some],
            np.asarray(data.labels)[some],
        )["Conv_0"]["kernel"]
        for some in (chosen, FORGET)
    )
    kernel, old = (each.params["Conv_0"]["kernel"] for each in (start.variables, variables))
    mask = twins.smallest(of_retain - of_forget, round(0.4 * kernel.size))
    assert_equal(start.memory["Conv_0"]["kernel"], mask)

    # Others stay as they are, the dense layer too.
    assert_equal(np.asarray(kernel)[~mask], np.asarray(old)[~mask])
    assert (kernel != old)[mask].all()
    assert_equal(start.variables.params["Dense_0"], variables.params["Dense_0"])

    # Fine-tuning; the rate rises and falls.
    rates = 0.05 * np.array([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    wanted = sgd(
        as_numpy(start.variables.params),
        slopes(data, kept=~mask),
        learning_rate=rates,
        momentum=0.8,
        weight_decay=0.02,
    )
    close(found.params, wanted)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.5, 0.5, 1.0, -2.0, 1e-3]), min_size=12, max_size=12),
    st.integers(0, 12),
)
def test_the_smallest_entries_are_those_of_a_stable_sort(values, room):
    values = np.array(values, np.float32).reshape(3, 4)
    assert_equal(smallest(jnp.asarray(values), jnp.int32(room)), twins.smallest(values, room))


def test_a_fraction_of_0_redraws_nothing_and_ties_fall_in_order(network, data):
    model, variables = network
    images = data.images[:1]
    nothing = jax.tree.map(jnp.zeros_like, variables.params)
    names = kernels(model, images, "kernels")
    assert len(names) == 2
    assert not any(
        leaf.any() for leaf in jax.tree.leaves(msg(model, fraction=0).redrawn(nothing, names))
    )
    # Where S is R₀, their gradients are equal.
    tied = msg(model, fraction=0.5, layers="kernels").redrawn(nothing, names)
    for name in ("Conv_0", "Dense_0"):
        kernel = np.asarray(tied[name]["kernel"]).ravel()
        assert_equal(kernel, np.arange(kernel.size) < kernel.size // 2)


def test_fresh_entries_are_he_normal_by_fan_out(network, data):
    module = Model(Cnn(3, widths=(40,), hidden=60))
    variables = module.init(KEY, data.images)
    start = base._start(
        msg(module, fraction=1.0, layers="kernels"), KEY, variables, data, task(FORGET, 60)
    )
    for name, fan_out in (("Conv_0", 9 * 40), ("Dense_0", 60)):
        kernel = np.asarray(start.variables.params[name]["kernel"])
        # Five standard errors of a standard deviation.
        error = 5 / np.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx((2 / fan_out) ** 0.5, rel=error)


def test_msg_refuses_networks_without_convolutions(model, data):
    with pytest.raises(InvalidInputError, match=r'no convolutions.*layers="kernels"'):
        kernels(model, data.images[:1], "convolutions")


def test_no_rate_of_msg_is_0():
    for epochs in range(1, 9):
        rates = [float(msg(Model(Pooled()), epochs=epochs).rate(epoch)) for epoch in range(epochs)]
        assert max(rates) == 1
        assert min(rates) > 0
        assert np.argmax(rates) == (epochs - 1) // 2
