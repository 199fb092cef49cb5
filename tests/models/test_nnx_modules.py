"""NNX networks are what their twins in Linen are, in every use that a model has."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rumjax
from rumjax.errors import InvalidInputError
from rumjax.gradients import per_example_gradients
from rumjax.models import Model, build, from_nnx, predict
from rumjax.types import Variables

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (7, 6, 6, 2), np.uint8))
LABELS = jnp.arange(7) % 3


class Net(nnx.Module):
    """Someone's network, which knows nothing of rumjax."""

    def __init__(self, num_classes, width=4, rate=0.0, *, rngs):
        self.conv = nnx.Conv(2, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs)])
        self.head = nnx.Linear(width, num_classes, rngs=rngs)
        self.steps = jnp.arange(width) * 0.5

    def __call__(self, images):
        hidden = nnx.relu(self.norm(self.conv(images))).mean(axis=(1, 2)) + self.steps[None]
        for layer in self.layers:
            hidden = nnx.relu(layer(hidden))
        return self.head(self.dropout(hidden)), hidden


class Twin(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, images, train):
        hidden = nn.Conv(self.width, (3, 3), name="conv")(images)
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")
        hidden = nn.relu(norm(hidden)).mean(axis=(1, 2)) + 0.5 * jnp.arange(self.width)[None]
        hidden = nn.relu(nn.Dense(self.width, name="layer")(hidden))
        return nn.Dense(3, name="head")(hidden), hidden


def as_twin(variables):
    params = {name: tree for name, tree in variables.params.items() if name != "layers"}
    return Variables(params | {"layer": variables.params["layers"]["0"]}, variables.batch_stats)


@pytest.fixture(scope="module")
def pair():
    """An NNX model, its twin, and the variables of both, as training might have left them."""
    model, twin = Model(from_nnx(Net, num_classes=3)), Model(Twin())
    form = model.signature(IMAGES).variables
    assert as_twin(form) == twin.signature(IMAGES).variables
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: jnp.float32(random.uniform(-0.5, 1, leaf.shape)), form)
    variables = variables._replace(batch_stats=jax.tree.map(jnp.abs, variables.batch_stats))
    return model, variables, twin, as_twin(variables)


def assert_close(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def test_outputs_and_statistics_are_those_of_the_twin(pair):
    model, variables, twin, twins = pair
    assert model.signature(IMAGES)[1:] == (3, 4)
    assert_close(predict(model, variables, IMAGES), predict(twin, twins, IMAGES))
    for train in (False, True):
        found = model.apply(variables, IMAGES, train=train)
        assert_close(found, twin.apply(twins, IMAGES, train=train))
        kept = [
            a is b for a, b in zip(*map(jax.tree.leaves, (found[1], variables[1])), strict=True)
        ]
        assert all(kept) != train


def test_gradients_of_single_examples_are_those_of_the_twin(pair):
    model, variables, twin, twins = pair
    found = per_example_gradients(model, variables, IMAGES, LABELS)
    wanted = per_example_gradients(twin, twins, IMAGES, LABELS)
    assert_close(as_twin(Variables(found, {})).params, wanted)


def test_it_is_unlearned(pair):
    model, variables, *_ = pair
    salun = rumjax.unlearn.ALGORITHMS["salun"](
        model, batch_size=4, num_classes=3, epochs=1, learning_rate=0.01
    )
    steps = rumjax.chain(rumjax.task([1, 2], 7), salun)
    after = rumjax.run(KEY, steps, variables, rumjax.Dataset(IMAGES, LABELS))
    assert jax.tree.structure(after) == jax.tree.structure(variables)
    for old, new in zip(*map(jax.tree.leaves, (variables, after)), strict=True):
        assert np.all(np.isfinite(new))
        assert np.any(np.asarray(old) != new)


def test_many_are_made_side_by_side():
    model = Model(from_nnx(Net, num_classes=3, rate=0.5))
    keys = jax.random.split(KEY, 3)

    @jax.jit
    @jax.vmap
    def train(key):
        variables = model.init(key, IMAGES)
        return model.apply(variables, IMAGES, train=True, key=key)[0].logits

    together = train(keys)
    np.testing.assert_allclose(together[1], train(keys[1:2])[0], rtol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_dropout_takes_the_key_in_training_only():
    model = Model(from_nnx(Net, num_classes=3, rate=0.5))
    variables = model.init(KEY, IMAGES)
    assert set(variables.params) == {"conv", "norm", "layers", "head"}
    assert set(variables.batch_stats) == {"norm"}
    calm = model.apply(variables, IMAGES, train=False)[0].logits
    first, again, other = (
        model.apply(variables, IMAGES, train=True, key=jax.random.key(seed))[0].logits
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(calm, model.apply(variables, IMAGES, train=False)[0].logits)
    with pytest.raises(InvalidInputError, match="Net draws random numbers: give apply a key"):
        model.apply(variables, IMAGES, train=True)


def test_every_layer_draws_for_itself():
    class Twice(nnx.Module):
        def __init__(self, *, rngs):
            self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, images):
            ones = jnp.ones((len(images), 50))
            return self.first(ones), self.second(ones)

    outputs, _ = Model(from_nnx(Twice)).apply(Variables({}, {}), IMAGES, train=True, key=KEY)
    assert not np.array_equal(*outputs)


class Flagged(nnx.Module):
    """It is told by an argument of its call, and draws from another."""

    def __init__(self, num_classes, *, rngs):
        self.norm = nnx.BatchNorm(72, momentum=0.9, use_running_average=None, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=None)
        self.head = nnx.Linear(72, num_classes, rngs=rngs)

    def __call__(self, images, *, is_training, rngs=None):
        # `.train()` has set them, so that only the arguments can differ.
        hidden = self.norm(images.reshape(len(images), -1), use_running_average=not is_training)
        return self.head(self.dropout(hidden, deterministic=not is_training, rngs=rngs))


class OwnFlag(nnx.Module):
    """It is told by an attribute of its own."""

    def __init__(self, num_classes, *, rngs):
        self.inner = OwnFlag.Inner(rngs=rngs)
        self.head = nnx.Linear(72, num_classes, rngs=rngs)

    class Inner(nnx.Module):
        def __init__(self, *, rngs):
            self.training, self.dropout = False, nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, hidden):
            return self.dropout(hidden, deterministic=not self.training)

    def __call__(self, images, extra=False):
        del extra
        return self.head(self.inner(images.reshape(len(images), -1)))


@pytest.mark.parametrize("network", [Flagged, OwnFlag])
def test_flags_are_arguments_or_attributes(network):
    model = Model(from_nnx(network, num_classes=3))
    assert model.signature(IMAGES).num_classes == 3
    variables = model.init(KEY, IMAGES)
    calm, _ = model.apply(variables, IMAGES, train=False)
    first, again = (model.apply(variables, IMAGES, train=True, key=KEY)[0] for _ in range(2))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert not np.allclose(calm.logits, first.logits)
    with pytest.raises(InvalidInputError, match="give apply a key"):
        model.apply(variables, IMAGES, train=True)


class Scanned(nnx.Module):
    """Layers in a loop of NNX's own, which hands back all variables."""

    def __init__(self, num_classes, *, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def make(rngs):
            return nnx.List(
                [
                    nnx.Linear(72, 72, rngs=rngs),
                    nnx.BatchNorm(72, rngs=rngs),
                    nnx.Dropout(0.5, rngs=rngs),
                ]
            )

        self.layers, self.head = make(rngs), nnx.Linear(72, num_classes, rngs=rngs)

    def __call__(self, images):
        @nnx.scan
        def loop(hidden, layers):
            for layer in layers:
                hidden = layer(hidden)
            return hidden, None

        return self.head(loop(images.reshape(len(images), -1), self.layers)[0])


def test_loops_over_layers_work():
    model = Model(from_nnx(Scanned, num_classes=3))
    variables = model.init(KEY, IMAGES)
    assert variables.params["layers"]["0"]["kernel"].shape == (3, 72, 72)
    calm, kept = model.apply(variables, IMAGES, train=False)
    drawn, moved = model.apply(variables, IMAGES, train=True, key=KEY)
    assert model.signature(IMAGES).num_classes == 3
    assert not np.allclose(calm.logits, drawn.logits)
    mean = ("layers", "1", "mean")
    before, after = (
        functools.reduce(lambda tree, name: tree[name], mean, t) for t in (kept, moved)
    )
    assert not np.any(before)
    assert np.all(np.any(after, axis=1))


def test_models_are_equal_by_value_and_compile_once():
    traces = []

    def logits(model, variables):
        traces.append(model)
        return model.apply(variables, IMAGES, train=False)[0].logits

    models = [Model(from_nnx(Net, num_classes=3, width=4)) for _ in range(2)]
    models.append(Model(from_nnx(functools.partial(Net, 3), width=4)))
    models.append(Model(from_nnx(functools.partial(Net, width=4), num_classes=3)))
    assert models[0] == models[1] == models[3]
    assert hash(models[0]) == hash(models[1])
    assert models[0] != Model(from_nnx(Net, num_classes=3, width=5))
    compiled = jax.jit(logits, static_argnums=0)
    variables = models[0].init(KEY, IMAGES)
    for model in (models[0], models[1], models[3]):
        compiled(model, variables)
    assert len(traces) == 1


def make(num_classes, dtype=jnp.float32, *, rngs):
    """A factory that is a function."""
    return nnx.Sequential(
        lambda images: images.reshape(len(images), -1),
        nnx.Linear(72, num_classes, dtype=dtype, rngs=rngs),
    )


PARTIAL = functools.partial(Net, width=5)
INSTANCE = Net(3, rngs=nnx.Rngs(0))


def without_rngs(num_classes):
    return Net(num_classes, rngs=nnx.Rngs(0))


def of_anything(num_classes, rngs):
    return num_classes


class Buffered(nnx.Module):
    def __init__(self, num_classes, *, rngs):
        self.average = nnx.Cache(jnp.zeros(num_classes))


@pytest.mark.parametrize(("attribute", "width"), [("Net", 4), ("PARTIAL", 5), ("make", 0)])
def test_names_lead_to_classes_and_functions(attribute, width):
    name = f"{__name__}:{attribute}"
    model = build(name, 3, mean=0.5, std=0.25)
    assert model == build(name, 3, mean=[0.5], std=[0.25])
    assert model.signature(IMAGES)[1:] == (3, width)
    if attribute == "make":
        narrow = build(name, 3, bfloat16=True)
        assert {leaf.dtype for leaf in jax.tree.leaves(narrow.signature(IMAGES).variables)} == {
            jnp.dtype("float32")
        }


@pytest.mark.parametrize(
    ("attribute", "options", "message"),
    [
        ("INSTANCE", {}, "Net is an instance of an NNX module.*give its class"),
        ("without_rngs", {}, "NNX module without `rngs`"),
        ("of_anything", {}, "makes no NNX module, it made <class 'int'>"),
        ("Buffered", {}, "a variable average of Cache; only nnx.Param"),
        ("Net", {"depth": 3}, "unexpected keyword argument 'depth'"),
        ("PARTIAL", {"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_what_cannot_be_built_is_explained(attribute, options, message):
    with pytest.raises(InvalidInputError, match=message):
        build(f"{__name__}:{attribute}", 3, options=options)


def test_other_forms_are_refused():
    with pytest.raises(InvalidInputError, match=r"instance of a Flax Linen.*from_nnx"):
        Model(Net)
    with pytest.raises(InvalidInputError, match="does not take rngs"):
        from_nnx(lambda num_classes: None, num_classes=3)


class Fixed(nnx.Module):
    """One mode for ever."""

    def __init__(self, running=None, calm=None, *, rngs):
        self.head = nnx.Linear(72, 3, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(72, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.running, self.calm = running, calm

    def __call__(self, images, **options):
        hidden = self.norm(images.reshape(len(images), -1), use_running_average=self.running)
        return self.head(self.dropout(hidden, deterministic=self.calm))


class Phased(nnx.Module):
    def __init__(self, *, rngs):
        self.head = nnx.Linear(72, 3, rngs=rngs)

    def __call__(self, images, phase_train=False):
        return self.head(images.reshape(len(images), -1))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Fixed, {"running": True}, "Fixed has batch statistics that training does not use"),
        (Fixed, {"running": False}, "changes its batch statistics outside of training"),
        (Fixed, {"calm": True}, "Fixed has dropout that training does not use"),
        (Fixed, {"calm": False}, "draws random numbers outside of training"),
        (Phased, {}, "takes 'phase_train'"),
    ],
)
def test_a_module_that_cannot_be_told_is_refused_at_first_use(network, options, message):
    with pytest.raises(InvalidInputError, match=message):
        Model(from_nnx(network, **options)).signature(IMAGES)


def test_variables_of_another_network_are_refused(pair):
    model, variables, *_ = pair
    wrong = variables._replace(params={**variables.params, "head": {}})
    with pytest.raises(InvalidInputError, match="not those of Net: params/head/bias is missing"):
        predict(model, wrong, IMAGES)
    with pytest.raises(InvalidInputError, match="Net: params/head/bias is missing"):
        model.apply(
            variables._replace(params={**variables.params, "head": {}}), IMAGES, train=False
        )
