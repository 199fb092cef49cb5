"""AMUN: its adversaries, and that it descends on them as its twin in NumPy does."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.types import Batch, Dataset, subset, task
from rumjax.unlearn import Step, base, finetune, run
from rumjax.unlearn.adversarial import VARIANTS, adversaries, amun, mixed
from tests.references import adversarial
from tests.references.descent import sgd
from tests.references.network import Network, softmax

KEY = jax.random.key(11)
FORGET = np.arange(1, 60, 5)
RETAIN = np.setdiff1d(np.arange(60), FORGET)
TASK = task(FORGET, 60)
SETTING = {"radius": 0.04, "steps": 50, "radii": 12}
attacked = jax.jit(adversaries, static_argnames=("model", "batch_size"))


@functools.partial(jax.jit, static_argnums=0)
def seen(model, variables, images):
    return model.apply(variables, images, train=False)[0].logits.argmax(-1)


@dataclasses.dataclass(frozen=True)
class Negative:
    def __call__(self, key, images):
        return 255 - images


def doubles(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), tree)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.fixture(scope="module")
def made(model, original, data):
    """The adversaries of S, made a few at a time."""
    return attacked(model, original, data, TASK.forget, batch_size=5, **SETTING)


@pytest.fixture(scope="module")
def twins(original, data):
    images = np.asarray(data.images, np.float64) / 255
    variables = doubles(tuple(original))
    return [
        adversarial.attack(variables, images[i], int(data.labels[i]), **SETTING) for i in FORGET
    ]


def test_adversaries_are_those_of_the_slow_twin(made, twins):
    assert bool(made.found.all())
    for pixels, label, (point, seen, _) in zip(made.pixels, made.labels, twins, strict=True):
        np.testing.assert_allclose(pixels, point.ravel(), atol=1e-4)
        assert label == seen


def test_the_original_takes_adversaries_for_what_they_are_labelled(
    model, original, data, made, twins
):
    images = made.pixels.reshape(-1, 4, 4, 1)
    np.testing.assert_array_equal(seen(model, original, images), made.labels)
    assert (made.labels != data.labels[FORGET]).all()
    assert images.min() >= 0
    assert images.max() <= 1
    far = np.linalg.norm(made.pixels - data.images[FORGET].reshape(12, -1) / 255, axis=1)
    assert (far <= np.array([radius for _, _, radius in twins]) * (1 + 1e-5)).all()
    # One radius was not enough for all.
    assert far.max() > SETTING["radius"]


def test_adversaries_do_not_depend_on_what_else_is_attacked(model, original, data, made):
    other = original._replace(params=jax.tree.map(lambda leaf: 0.5 * leaf, original.params))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), original, other)
    attack = functools.partial(adversaries, model, batch_size=5, **SETTING)
    mapped = jax.jit(jax.vmap(attack, in_axes=(0, None, None)))(both, data, TASK.forget)
    alone = attacked(model, other, data, TASK.forget, batch_size=5, **SETTING)
    for place, one in enumerate((made, alone)):
        np.testing.assert_allclose(mapped.pixels[place], one.pixels, atol=1e-5)
        assert_equal((mapped.labels[place], mapped.found[place]), (one.labels, one.found))
    assert (alone.pixels != made.pixels).any()


def test_mistake_15_what_resists_the_attack_is_left_out(model, original, data):
    # All logits are equal: class 0 is predicted, and no step leads anywhere.
    constant = original._replace(params=jax.tree.map(jnp.zeros_like, original.params))
    found = attacked(model, constant, data, TASK.forget, batch_size=5, **SETTING)
    np.testing.assert_array_equal(found.found, data.labels[FORGET] != 0)
    assert (found.labels[found.found] == 0).all()
    assert 0 < found.found.sum() < 12


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(2)(images.reshape(len(images), -1))


@pytest.fixture(scope="module")
def linear():
    """A linear model of two classes, images of middle grey, their distances and adversaries."""
    random = np.random.default_rng(0)
    images = random.integers(90, 160, (40, 4, 4, 1)).astype(np.uint8)
    kernel = random.normal(0, 1, (16, 2))
    logits = images.reshape(40, -1) / 255 @ kernel
    bias = np.array([0, np.median(logits[:, 0] - logits[:, 1])])
    logits = logits + bias
    labels = logits.argmax(1).astype(np.int32)
    distances = np.abs(logits[:, 0] - logits[:, 1]) / np.linalg.norm(kernel[:, 0] - kernel[:, 1])
    variables = {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}
    variables = jax.tree.map(jnp.float32, variables)
    data = Dataset(jnp.asarray(images), jnp.asarray(labels))
    model = Model(Linear())
    found = attacked(model, variables, data, subset(range(40)), batch_size=16, **SETTING)
    return model, variables, data, distances, found


def test_adversaries_of_a_linear_model_lie_a_tenth_of_the_radius_behind_the_boundary(linear):
    _, _, data, distances, found = linear
    assert found.found.all()
    far = np.linalg.norm(found.pixels - data.images.reshape(40, -1) / 255, axis=1)
    radii = 0.04 * 2 ** np.maximum(0, np.ceil(np.log2(distances / 0.04)))
    assert (radii <= np.maximum(0.04, 2 * distances)).all()
    assert len(set(radii)) > 2
    assert (far >= distances - 1e-6).all()
    assert (far <= distances + radii / 10 + 1e-6).all()


def test_a_confident_model_is_attacked_in_the_right_direction(linear):
    # In float32, CE and its gradient are 0.
    model, variables, data, _, found = linear
    sure = jax.tree.map(lambda leaf: 1e4 * leaf, variables)
    again = attacked(model, sure, data, subset(range(40)), batch_size=16, **SETTING)
    np.testing.assert_allclose(again.pixels, found.pixels, atol=1e-5)


def test_mistake_22_the_network_is_given_adversaries_as_they_are(linear):
    model, variables, data, _, found = linear
    indices = jnp.arange(40) + 40
    batch = Batch(data.images, found.labels, jnp.ones(40), KEY, indices)
    given = mixed(batch, found.pixels, indices - 40).images
    np.testing.assert_array_equal(given.reshape(40, -1), found.pixels)
    np.testing.assert_array_equal(seen(model, variables, given), found.labels)
    assert (seen(model, variables, jnp.round(given * 255) / 255) != found.labels).any()


def unlearner_of(model, variant):
    """Five epochs of one batch each."""
    return amun(
        model,
        variant=variant,
        epochs=5,
        learning_rate=0.05,
        decay=0.5,
        decay_every=2,
        batch_size={"full": 72, "without_retain": 24, "adversarial_only": 60}[variant],
        momentum=0.8,
        weight_decay=0.02,
        augmentation=Negative(),
    )


@pytest.fixture(scope="module")
def start(model, original, data):
    """The state before the first epoch, which is the same for all variants."""
    return base._start(unlearner_of(model, "full"), KEY, original, data, TASK)


def advanced(unlearner, start, data, task=TASK):
    state = jax.tree.map(jnp.copy, start)
    for _ in range(unlearner.epochs):
        state, finite, metrics = base._advance(unlearner, state, data, task)
        assert finite
    return state, metrics


@pytest.mark.parametrize("variant", VARIANTS)
def test_descent_is_that_of_the_slow_twin(variant, model, original, data, start, made):
    np.testing.assert_allclose(start.memory.pixels, made.pixels, atol=1e-5)
    assert_equal(start.memory[1:], made[1:])
    unlearner = unlearner_of(model, variant)
    last, metrics = advanced(unlearner, start, data)
    assert_equal(start.memory, last.memory)
    assert metrics["adversaries"] == 12

    # Natural images are augmented, adversaries are not.
    parts = {"full": [RETAIN, FORGET], "without_retain": [FORGET], "adversarial_only": [RETAIN]}
    natural = np.concatenate(parts[variant])
    images = 255 - np.asarray(data.images, np.float64)[natural]
    added = np.asarray(start.memory.pixels, np.float64).reshape(-1, 4, 4, 1)
    images = np.concatenate([images, 255 * added])
    labels = np.concatenate([data.labels[natural], start.memory.labels])
    params, stats = doubles(tuple(original))
    network = Network(stats, update=True)

    def gradient(params):
        logits, pullback = network(params, images)
        return pullback((softmax(logits) - np.eye(3)[labels]) / len(labels))

    rates = 0.05 * 0.5 ** np.array([0, 0, 1, 1, 2])
    wanted = sgd(params, [gradient] * 5, learning_rate=rates, momentum=0.8, weight_decay=0.02)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        tuple(last.variables),
        (wanted, network.stats),
    )

    # What it does not look at may be anything.
    if variant == "without_retain":
        other = Dataset(data.images.at[RETAIN].set(7), data.labels.at[RETAIN].set(0))
        assert_equal(advanced(unlearner, start, other)[0].variables, last.variables)


def test_of_an_empty_forget_set_it_is_finetune(model, original, data):
    empty = task([], 60, capacity=12)
    unlearner = dataclasses.replace(unlearner_of(model, "full"), decay=jnp.float32(1))
    # The key that `run` gives to its first step.
    state = base._start(unlearner, jax.random.fold_in(KEY, 0), original, data, empty)
    found, metrics = advanced(unlearner, state, data, empty)
    assert metrics["adversaries"] == 0
    same = {name: getattr(unlearner, name) for name in ("batch_size", "augmentation", "epochs")}
    rates = {name: getattr(unlearner, name) for name in ("learning_rate", "momentum")}
    wanted = run(
        KEY,
        (Step("all", finetune(model, weight_decay=0.02, **same, **rates), empty),),
        original,
        data,
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        found.variables,
        wanted,
    )


def test_gradients_are_counted(model, data):
    def count(variant):
        return amun(model, variant=variant, epochs=3, steps=7).gradients(12, 48, data)

    assert [count(variant) for variant in VARIANTS] == [
        12 * 7 + 3 * 72,
        12 * 7 + 3 * 24,
        12 * 7 + 3 * 60,
    ]


@pytest.mark.parametrize(
    "options", [{"variant": "retain"}, {"radius": 0.0}, {"steps": 0}, {"radii": 0}, {"decay": 2.0}]
)
def test_options_out_of_range_are_refused(model, options):
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        amun(model, **options)
