"""Networks that are two functions: by hand, of Haiku, of Equinox."""

import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax.errors import InvalidInputError
from rumjax.models import Model, build, from_functions, predict
from rumjax.types import Variables

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (7, 4, 4, 2), np.uint8))
LABELS = jnp.arange(7) % 3


def init(key, images):
    first, second = jax.random.split(key)
    layers = [
        {"w": 0.3 * jax.random.normal(first, (images[0].size, 8))},
        {"w": 0.3 * jax.random.normal(second, (8, 3)), "b": jnp.zeros(3)},
    ]
    return layers, {"mean": jnp.zeros(8)}


def apply(variables, images, *, train, key):
    (first, second), state = variables
    hidden = images.reshape(len(images), -1) @ first["w"]
    mean = hidden.mean(axis=0) if train else state["mean"]
    hidden = jax.nn.relu(hidden - mean[None])
    if key is not None:
        hidden = hidden * jax.random.bernoulli(key, 0.9, hidden.shape)
    outputs = hidden @ second["w"] + second["b"][None], hidden
    return outputs, {"mean": 0.9 * state["mean"] + 0.1 * mean}


class Twin(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        hidden = nn.Dense(8, use_bias=False, name="first")(images.reshape(len(images), -1))
        state = self.variable("batch_stats", "mean", jnp.zeros, 8)
        mean = hidden.mean(axis=0) if train else state.value
        if train:
            state.value = 0.9 * state.value + 0.1 * mean
        hidden = nn.relu(hidden - mean[None])
        return nn.Dense(3, name="second")(hidden), hidden


def twin_of(variables):
    first, second = (variables.params[name] for name in "01")
    layers = {
        "first": {"kernel": first["w"]},
        "second": {"kernel": second["w"], "bias": second["b"]},
    }
    return Variables(layers, variables.batch_stats)


def assert_close(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def test_a_pair_by_hand_is_what_its_twin_is():
    model, twin = Model(from_functions(init, apply), num_classes=3), Model(Twin())
    assert model == Model(from_functions(init, apply), num_classes=3)
    variables = model.init(KEY, IMAGES)
    variables = variables._replace(batch_stats={"mean": jnp.full(8, 0.1)})
    twins = twin_of(variables)
    assert jax.tree.map(jnp.shape, twins) == jax.tree.map(
        lambda leaf: leaf.shape, twin.signature(IMAGES).variables
    )
    assert model.signature(IMAGES)[1:] == (3, 8)
    assert_close(predict(model, variables, IMAGES), predict(twin, twins, IMAGES))
    for train in (False, True):
        found = model.apply(variables, IMAGES, train=train)
        assert_close(found, twin.apply(twins, IMAGES, train=train))
    drawn = [model.apply(variables, IMAGES, train=True, key=KEY)[0].logits for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert not np.allclose(drawn[0], found[0].logits)


def test_it_is_trained():
    model = Model(from_functions(init, apply))
    steps = rumjax.chain(rumjax.task([1, 2], 7), rumjax.retrain(model, epochs=1, batch_size=4))
    after = rumjax.run(KEY, steps, None, rumjax.Dataset(IMAGES, LABELS))
    before = model.init(KEY, IMAGES)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert np.any(after.batch_stats["mean"])


@pytest.mark.parametrize(
    "pair",
    [
        (lambda key, images: {"params": jnp.ones(3), "state": {"n": jnp.zeros(())}}, "form"),
        (lambda key, images: (jnp.ones(3), {"n": jnp.zeros(())}), "apart"),
    ],
)
def test_a_state_is_handed_on_as_it_was_made_or_apart(pair):
    made, order = pair

    def outputs(params, images, training):
        return images.reshape(len(images), -1)[:, :3] * params[None] + (0.0 if training else 1.0)

    def in_form(variables, images, training):
        assert set(variables) == {"params", "state"}
        new = {"n": variables["state"]["n"] + 1}
        return outputs(variables["params"], images, training), new

    def apart(params, state, rng, images, training):
        return outputs(params, images, training), {"n": state["n"] + 1}

    model = Model(from_functions(made, in_form if order == "form" else apart))
    variables = model.init(KEY, IMAGES)
    assert set(variables.params) == {"value"}
    assert model.signature(IMAGES)[1:] == (3, 0)
    for train, count in ((True, 1), (False, 0)):
        found, state = model.apply(variables, IMAGES, train=train)
        assert state["n"] == count
        wanted = outputs(jnp.ones(3), np.asarray(IMAGES) / 255, train)
        np.testing.assert_allclose(found.logits, wanted, rtol=1e-6)


def network(num_classes, scale=1.0):
    """A function that makes a pair, anew each time."""

    def begin(key, images):
        return {"w": scale * jax.random.normal(key, (images[0].size, num_classes))}

    return begin, lambda params, images: images.reshape(len(images), -1) @ params["w"]


PAIR = network(3)
OBJECT = types.SimpleNamespace(init=PAIR[0], apply=PAIR[1])
LINEN = Twin()


def test_models_of_a_factory_are_equal_by_value_and_compile_once():
    name, traces = f"{__name__}:network", []

    def logits(model, variables):
        traces.append(model)
        return model.apply(variables, IMAGES, train=False)[0].logits

    models = [build(name, 3, options={"scale": 2.0}) for _ in range(2)]
    assert models[0] == models[1] != build(name, 3)
    compiled = jax.jit(logits, static_argnums=0)
    for model in models:
        compiled(model, models[0].init(KEY, IMAGES))
    assert len(traces) == 1


@pytest.mark.parametrize("attribute", ["PAIR", "OBJECT", "LINEN"])
def test_names_lead_to_what_is_made_already(attribute):
    name = f"{__name__}:{attribute}"
    assert build(name, 3) == build(name, 3)
    assert build(name, 3).signature(IMAGES).num_classes == 3
    with pytest.raises(InvalidInputError, match="the data has 4"):
        build(name, 4).signature(IMAGES)
    with pytest.raises(InvalidInputError, match="made already and takes no options, got scale"):
        build(name, 3, options={"scale": 1.0})


def params_only(key, images):
    return {"w": jnp.ones((32, 3))}


def with_state(key, images):
    return params_only(key, images), {"n": jnp.zeros(())}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((params_only, lambda params, images, k: images), "wanted init.*missing.*'k'"),
        ((lambda key: {}, lambda params, images: images), "wanted init.*too many positional"),
        ((with_state, lambda variables, images: None), "nothing tells it whether it trains"),
        (
            (with_state, lambda variables, images, train: images.reshape(len(images), -1)),
            r"must return \(outputs, new state\)",
        ),
        (
            (lambda key, images: {"f": jax.nn.relu}, lambda params, images: images),
            "not a valid JAX",
        ),
        ((params_only, lambda params, images: params), "must return logits"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(pair, message):
    with pytest.raises(InvalidInputError, match=message):
        Model(from_functions(*pair)).signature(IMAGES)


def test_missing_variables_are_named():
    model = Model(from_functions(init, apply))
    variables = model.init(KEY, IMAGES)
    wrong = variables._replace(params={**variables.params, "1": {}})
    with pytest.raises(InvalidInputError, match=r"1/. is missing"):
        model.apply(wrong, IMAGES, train=False)


# Libraries


def haiku_network(num_classes, width=4):
    import haiku as hk

    def forward(images, is_training):
        hidden = hk.Conv2D(width, 3)(images)
        hidden = hk.BatchNorm(True, True, 0.9)(hidden, is_training)
        hidden = jax.nn.relu(hidden).mean(axis=(1, 2))
        if is_training:
            hidden = hk.dropout(hk.next_rng_key(), 0.5, hidden)
        return hk.Linear(num_classes)(hidden), hidden

    return hk.transform_with_state(forward)


def test_haiku_needs_nothing_more():
    hk = pytest.importorskip("haiku")
    model = build(f"{__name__}:haiku_network", 3, options={"width": 5})
    assert model == build(f"{__name__}:haiku_network", 3, options={"width": 5})
    assert model.signature(IMAGES)[1:] == (3, 5)
    variables = model.init(KEY, IMAGES)
    transformed = haiku_network(3, 5)
    inputs = model.normalize(IMAGES)
    state = jax.tree.map(jnp.asarray, variables.batch_stats)
    wanted, _ = transformed.apply(variables.params, state, None, inputs, is_training=False)
    assert_close(model.apply(variables, IMAGES, train=False)[0].logits, wanted[0])
    outputs, moved = model.apply(variables, IMAGES, train=True, key=KEY)
    again, _ = model.apply(variables, IMAGES, train=True, key=KEY)
    np.testing.assert_array_equal(outputs.logits, again.logits)
    assert np.any(moved["batch_norm/~/mean_ema"]["average"])

    # Without a state, and without random numbers, and trained.
    plain = hk.transform(lambda images: hk.Linear(3)(hk.Flatten()(images)))
    for pair in (plain, hk.without_apply_rng(plain)):
        model = Model(from_functions(*pair))
        variables = model.init(KEY, IMAGES)
        outputs, _ = model.apply(variables, IMAGES, train=False)
        assert_close(outputs.logits, plain.apply(variables.params, None, model.normalize(IMAGES)))


def equinox_network(num_classes):
    import equinox as eqx

    class Net(eqx.Module):
        layers: list

        def __init__(self, num_classes, *, key):
            first, second = jax.random.split(key)
            self.layers = [
                eqx.nn.Linear(32, 8, key=first),
                eqx.nn.Linear(8, num_classes, key=second),
            ]

        def __call__(self, image):
            return self.layers[1](jax.nn.relu(self.layers[0](image.ravel())))

    make = lambda key: Net(num_classes, key=key)  # noqa: E731
    skeleton = eqx.filter_eval_shape(make, jax.random.key(0))
    init = lambda key, images: eqx.filter(make(key), eqx.is_inexact_array)  # noqa: E731
    apply = lambda params, images: jax.vmap(eqx.combine(params, skeleton))(images)  # noqa: E731
    return init, apply


def test_equinox_comes_by_two_functions():
    pytest.importorskip("equinox")
    model = build(f"{__name__}:equinox_network", 3)
    variables = model.init(KEY, IMAGES)
    assert variables.params["layers"]["0"]["weight"].shape == (8, 32)
    layers = [variables.params["layers"][name] for name in "01"]
    hidden = model.normalize(IMAGES).reshape(7, -1)
    for layer, after in zip(layers, (jax.nn.relu, lambda x: x), strict=True):
        hidden = after(hidden @ layer["weight"].T + layer["bias"][None])
    assert_close(predict(model, variables, IMAGES).logits, hidden)


def test_many_are_made_side_by_side():
    model = build(f"{__name__}:network", 3)
    together = jax.vmap(functools.partial(model.init, images=IMAGES))(jax.random.split(KEY, 2))
    assert together.params["w"].shape == (2, 32, 3)
    assert np.any(together.params["w"][0] != together.params["w"][1])
