"""Modules are put into training, whatever they call the flag, or are refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import Model, predict
from rumjax.models.modes import FLAGS


class Body(nn.Module):
    """Batch norm and dropout, by a flag of Linen's own kind."""

    train: bool

    @nn.compact
    def __call__(self, images):
        hidden = nn.Dense(8)(images.reshape(len(images), -1))
        hidden = nn.BatchNorm(use_running_average=not self.train)(hidden)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not self.train)(nn.relu(hidden)))


def network(flag, *, field):
    """A module whose flag is called like that, an argument or a field."""

    def call(module, images, **flags):
        value = getattr(module, flag) if field else flags[flag]
        return Body(train=value == FLAGS[flag], name="body")(images)

    default = not FLAGS[flag]
    names = {"nn": nn, "call": call}
    if field:
        call_with_flag = nn.compact(lambda module, images: call(module, images))
        return type(
            "Network",
            (nn.Module,),
            {"__annotations__": {flag: bool}, flag: default, "__call__": call_with_flag},
        )()
    exec(
        f"def entry(self, images, {flag}={default}): return call(self, images, {flag}={flag})",
        names,
    )
    return type("Network", (nn.Module,), {"__call__": nn.compact(names["entry"])})()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1)).astype(np.uint8)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("field", [False, True])
def test_a_flag_of_any_name_means_the_same(flag, field, images):
    model, like = Model(network(flag, field=field)), Model(network("train", field=False))
    variables = like.init(jax.random.key(0), images)
    assert model.signature(images) == like.signature(images)
    outputs, stats = model.apply(variables, images, train=True, key=jax.random.key(1))
    wanted, wanted_stats = like.apply(variables, images, train=True, key=jax.random.key(1))
    np.testing.assert_array_equal(outputs.logits, wanted.logits)
    jax.tree.map(np.testing.assert_array_equal, stats, wanted_stats)

    # Training draws and moves statistics, prediction does neither.
    calm, _ = model.apply(variables, images, train=False)
    assert not np.allclose(calm.logits, outputs.logits)
    hidden = images.reshape(6, -1) / 255 @ variables.params["body"]["Dense_0"]["kernel"]
    mean = stats["body"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.01 * hidden.mean(axis=0), rtol=1e-4)


class Fixed(nn.Module):
    """Batch norm and dropout of one mode for ever."""

    running: bool | None = None
    calm: bool | None = None

    @nn.compact
    def __call__(self, images, *args):
        hidden = nn.Dense(8)(images.reshape(len(images), -1))
        if self.running is not None:
            hidden = nn.BatchNorm(use_running_average=self.running)(hidden)
        if self.calm is not None:
            hidden = nn.Dropout(0.5)(hidden, deterministic=self.calm)
        return nn.Dense(3)(hidden)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Fixed(running=True), "batch statistics that training does not use"),
        (Fixed(running=False), "changes its batch statistics outside of training"),
        (Fixed(calm=True), "dropout that training does not use"),
        (Fixed(calm=False), "random numbers outside of training"),
        (nn.Dense(3), "must return logits"),
        (nn.Sequential([nn.Conv(3, (9, 9), padding="VALID")]), "must return logits|does not work"),
    ],
)
def test_a_module_that_cannot_be_told_is_refused_at_first_use(module, message, images):
    model = Model(module)
    variables = {"params": {}}
    with pytest.raises(InvalidInputError, match=message):
        predict(model, variables, images)


def test_a_module_without_modes_needs_no_flag_and_may_be_a_list_of_layers(images):
    model = Model(nn.Sequential([lambda images: images.reshape(len(images), -1), nn.Dense(3)]))
    variables = model.init(jax.random.key(0), images)
    assert predict(model, variables, images).logits.shape == (6, 3)
    assert model.signature(jnp.asarray(images)).num_classes == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": nn.Dense}, "instance of a Flax Linen module"),
        ({"module": None}, "instance of a Flax Linen module"),
        ({"module": nn.Dense(3), "std": (0.0,)}, "std"),
        ({"module": nn.Dense(3), "mean": ("a",)}, "mean"),
        ({"module": nn.Dense(3), "mean": ()}, "mean"),
        ({"module": Fixed(running=np.zeros(3))}, "cannot be hashed"),
    ],
)
def test_what_is_no_model_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        Model(**options)
