"""Networks by name, with options, and modules from elsewhere."""

import sys
import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.models import MODELS, Cnn, build, channel_statistics, normalization_of


class Mine(nn.Module):
    num_classes: int
    widths: tuple[int, ...] = (4,)

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(images.shape[0], -1))


@pytest.fixture
def own(monkeypatch):
    """A package of someone's own that can be imported."""
    package = types.ModuleType("own_networks")
    package.Mine = Mine
    package.factory = lambda num_classes, widths=(2,): Mine(num_classes, tuple(widths))
    package.number = 3
    package.wrong = lambda num_classes: num_classes
    monkeypatch.setitem(sys.modules, "own_networks", package)


def test_names_lead_to_equal_models():
    for name in MODELS:
        assert build(name, 10, mean=(0.5,), std=(0.2,)) == build(name, 10, mean=[0.5], std=[0.2])
        assert hash(build(name, 10)) == hash(build(name, 10))
        assert build(name, 10) != build(name, 11) != build(name, 11, bfloat16=True)


def test_options_reach_the_module_and_lists_become_tuples():
    model = build("cnn", 10, bfloat16=True, options={"widths": [4, 8]})
    assert model.module == Cnn(10, widths=(4, 8), dtype=jnp.bfloat16)


@pytest.mark.parametrize("name", ["own_networks:Mine", "own_networks:factory"])
def test_own_modules_come_by_class_or_factory(own, name):
    model = build(name, 3, options={"widths": [7]})
    assert model.module == Mine(3, (7,))
    assert model.num_classes == 3
    hash(model)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet81", {}, r"unknown model 'resnet81'; did you mean 'resnet18'\? There are: cnn"),
        ("no_such_package:Net", {}, "No module named 'no_such_package'"),
        (":Net", {}, "wanted 'package.module:attribute'"),
        ("own_networks:Other", {}, "has no attribute 'Other'"),
        ("own_networks:number", {}, "wanted a Flax module class, a function .*got int"),
        ("own_networks:wrong", {}, "int is no Flax Linen module"),
        ("own_networks:Mine", {"bfloat16": True}, "unexpected keyword argument 'dtype'"),
        ("cnn", {"options": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ("cnn", {"std": (0.1, 0.0)}, "model.std: wanted finite numbers of at least"),
        ("cnn", {"mean": (np.nan,)}, "model.mean: wanted finite numbers"),
    ],
)
def test_what_cannot_be_built_is_explained(own, name, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        build(name, 3, **arguments)


def test_a_type_error_inside_a_factory_keeps_its_traceback(own):
    sys.modules["own_networks"].broken = lambda num_classes: len(num_classes)
    with pytest.raises(TypeError, match="has no len"):
        build("own_networks:broken", 3)


@settings(deadline=None, max_examples=20)
@given(
    count=st.sampled_from([1, 5, 1001]), channels=st.integers(1, 3), seed=st.integers(0, 2**32 - 1)
)
def test_channel_statistics_are_those_of_a_float_copy(count, channels, seed):
    images = np.random.default_rng(seed).integers(0, 256, (count, 2, 3, channels), np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-9)
    assert {type(number) for number in mean + std} == {float}


def test_a_constant_channel_normalizes_to_zero():
    images = np.zeros((2, 3, 3, 2), np.uint8)
    images[..., 1] = 51
    assert channel_statistics(images) == ((0.0, 0.2), (1.0, 1.0))


@pytest.mark.parametrize(
    "images", [np.zeros((1, 2, 2, 1)), np.zeros((0, 2, 2, 1), np.uint8), np.zeros((2, 2), np.uint8)]
)
def test_statistics_of_something_else_are_refused(images):
    with pytest.raises(InvalidInputError, match=r"wanted some of uint8\[N, H, W, C\]"):
        channel_statistics(images)


# Normalization of one's own


def test_given_numbers_win_over_those_of_the_images():
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    assert normalization_of(images) == {"mean": (0.5,), "std": (0.5,), "pixels": "0-1"}
    assert normalization_of(images, std=2) == {"mean": (0.5,), "std": 2, "pixels": "0-1"}
    raw = normalization_of(images, mean=[127.5], pixels="0-255")
    assert raw == {"mean": [127.5], "std": None, "pixels": "0-255"}
    model = build("cnn", 3, **raw)
    np.testing.assert_allclose(model.normalize(images).ravel(), [-127.5, 127.5], rtol=1e-6)


def test_pixels_may_be_given_as_they_are():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    model = build("cnn", 3, pixels="0-255")
    np.testing.assert_allclose(model.normalize(images), images, rtol=1e-6)
    same = [
        build("cnn", 3, mean=mean, std=std, pixels=pixels)
        for mean, std, pixels in ((51, (25.5,), "0-255"), (0.2, 0.1, "0-1"))
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.1, 0.2)}, "model.mean: wanted one number, or one for each of the 3 channels"),
        ({"std": (1.0,) * 4}, "model.std: wanted one number.*got 4"),
        ({"std": 0}, "model.std: wanted finite numbers of at least"),
        ({"mean": "half"}, "model.mean: wanted a number"),
        ({"mean": ()}, "model.mean"),
        ({"pixels": "0-256"}, "unknown model.pixels '0-256'; did you mean '0-255'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        normalization_of(np.zeros((2, 2, 2, 3), np.uint8), **options)
