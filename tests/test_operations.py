"""Operations of a training step, counted in what is traced."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rumjax.ensemble.operations import largest_step, operations_of, step_operations
from rumjax.ensemble.works import training
from rumjax.models import Model, build
from rumjax.types import Dataset
from rumjax.unlearn import ALGORITHMS, fisher_noise, original, retrain

IMAGES = Dataset(jax.ShapeDtypeStruct((9, 32, 32, 3), jnp.uint8), None)


def operations_in(function, *shapes):
    return operations_of(jax.make_jaxpr(function)(*map(jnp.zeros, shapes)))


def of_layer(layer, shape):
    return operations_in(lambda inputs: layer.init_with_output(jax.random.key(0), inputs)[0], shape)


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (nn.Dense(3), (4, 5), 2 * 4 * 5 * 3),
        (nn.Conv(6, (3, 5)), (2, 8, 8, 4), 2 * (2 * 8 * 8 * 6) * (3 * 5 * 4)),
        # Strides leave fewer results, and groups fewer channels for each.
        (
            nn.Conv(6, (3, 3), strides=2, feature_group_count=2),
            (1, 8, 8, 4),
            2 * (4 * 4 * 6) * (3 * 3 * 2),
        ),
    ],
)
def test_layers_take_two_operations_for_each_weight_of_each_result(layer, shape, wanted):
    assert of_layer(layer, shape) == wanted


def product(x):
    return x @ x


def test_products_count_wherever_they_are():
    once = 2 * 5**3
    assert operations_in(jax.jit(product), (5, 5)) == once
    assert operations_in(jax.checkpoint(lambda x: nn.relu(product(x))), (5, 5)) == once
    assert operations_in(jax.vmap(product), (3, 5, 5)) == 3 * once

    # A loop counts its turns where they are known, a choice its largest branch.
    def turns(x):
        return lax.scan(lambda carry, _: (lax.map(product, carry), None), x, length=7)[0]

    def choice(x):
        branches = [lambda x: x, lambda x: product(product(x)), product]
        return lax.switch(jnp.int32(x[0, 0]), branches, x)

    assert operations_in(turns, (3, 5, 5)) == 7 * 3 * once
    assert operations_in(choice, (5, 5)) == 2 * once
    assert (
        operations_in(lambda x: lax.while_loop(lambda x: x[0, 0] < 1, product, x), (5, 5)) == once
    )


def test_what_is_differentiated_by_hand_counts():
    @jax.custom_vjp
    def by_hand(x):
        return product(x)

    by_hand.defvjp(lambda x: (product(x), x), lambda x, slope: (slope @ x,))
    assert operations_in(by_hand, (5, 5)) == 2 * 5**3

    other = jax.custom_jvp(product)
    other.defjvps(lambda slope, answer, x: slope @ x)
    assert operations_in(other, (5, 5)) == 2 * 5**3


def test_a_step_takes_three_passes_of_a_network_on_a_batch(monkeypatch):
    # Clients by plugin, as those of GPU and TPU, have no analysis of what is not compiled.
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda self: None)
    passes = 3 * 128 * 2
    resnet = retrain(build("resnet18", 10), epochs=1, batch_size=128)
    assert step_operations(resnet, IMAGES) == pytest.approx(passes * 0.5554e9, rel=1e-3)
    linear = retrain(Model(Linear()), epochs=1, batch_size=128)
    assert step_operations(linear, IMAGES) == passes * 32 * 32 * 3 * 10

    # The largest step of a work counts.
    work = training(linear, ["model"], jax.random.split(jax.random.key(0), 1), np.array([[0, 1]]))
    (step,) = work.steps
    both = work._replace(steps=[step, step._replace(unlearner=resnet)])
    assert largest_step(work, IMAGES) == step_operations(linear, IMAGES)
    assert largest_step(both, IMAGES) == step_operations(resnet, IMAGES)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


def test_what_takes_no_steps_takes_none_and_what_is_unknown_is_endless():
    assert step_operations(original(build("cnn", 10)), IMAGES) == 0
    assert step_operations(object(), IMAGES) == np.inf


def test_every_algorithm_says_how_large_its_steps_are():
    model = Model(Linear())
    classes = {"random_label": {"num_classes": 10}, "salun": {"num_classes": 10}}
    for name, factory in ALGORITHMS.items():
        options = {"epochs": 1} if name == "retrain" else classes.get(name, {})
        assert step_operations(factory(model, **options), IMAGES) < np.inf, name
    assert step_operations(fisher_noise(model, micro_batch=4), IMAGES) == 3 * 4 * 2 * 3072 * 10
