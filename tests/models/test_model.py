"""`Model`: equality by value, outputs, normalization, and what it keeps of a module."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax import audits
from rumjax.errors import InvalidInputError
from rumjax.models import Model, margins, predict, require_embeddings
from rumjax.types import Outputs, Variables

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (7, 4, 4, 2), np.uint8))


def flat(images):
    return images.reshape(images.shape[0], -1)


class Logits(nn.Module):
    """Someone's module that knows nothing of rumjax."""

    classes: int = 3

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.classes)(flat(images))


class Pair(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(flat(images)), flat(images)


class Triple(nn.Module):
    def __call__(self, images):
        return flat(images), flat(images), flat(images)


class Unpooled(nn.Module):
    def __call__(self, images):
        return images


class Dictionary(nn.Module):
    def __call__(self, images):
        return {"logits": flat(images)}


class Normed(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
        return Outputs(nn.Dense(3)(norm(flat(images))), flat(images))


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, images, **mode):
        return nn.Dropout(0.5, deterministic=not mode["train"])(flat(images))


class Counting(nn.Module):
    @nn.compact
    def __call__(self, images):
        self.variable("cache", "calls", jnp.zeros, ())
        return flat(images)


class Mean(nn.Module):
    """What the module is given, one number per image."""

    def __call__(self, images):
        return images.mean(axis=(1, 2))


def test_models_are_equal_by_value_and_compile_once():
    traces = []

    def width(model, variables):
        traces.append(model)
        return model.apply(variables, IMAGES, train=False)[0].logits

    models = [Model(Logits(3), (0.5,), (0.2,)) for _ in range(2)]
    other = Model(Logits(3), (0.5,), (0.3,))
    assert models[0] == models[1] != other
    assert hash(models[0]) == hash(models[1])
    compiled = jax.jit(width, static_argnums=0)
    variables = models[0].init(KEY, IMAGES)
    for model in models:
        compiled(model, variables)
    assert len(traces) == 1


@pytest.mark.parametrize(("module", "width"), [(Logits(), 0), (Pair(), 32), (Normed(), 32)])
def test_any_form_of_module_gives_float32_outputs(module, width):
    model = Model(module, num_classes=3)
    outputs, _ = model.apply(model.init(KEY, IMAGES), IMAGES, train=True)
    assert outputs.logits.shape == (7, 3)
    assert outputs.embeddings.shape == (7, width)
    assert {each.dtype for each in outputs} == {jnp.dtype("float32")}


def test_init_looks_at_shape_and_dtype_only():
    model = Model(Normed())
    abstract = jax.ShapeDtypeStruct((500, 4, 4, 2), jnp.uint8)
    found, wanted = model.init(KEY, abstract), model.init(KEY, IMAGES + 1)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_without_batch_norm_there_are_no_batch_stats():
    model = Model(Logits())
    variables = model.init(KEY, IMAGES)
    assert variables.batch_stats == {}
    for train in (False, True):
        assert model.apply(variables, IMAGES, train=train)[1] == {}


def test_batch_stats_move_by_a_tenth_in_training_and_stay_otherwise():
    model = Model(Normed())
    variables = model.init(KEY, IMAGES)
    _, kept = model.apply(variables, IMAGES, train=False)
    _, updated = model.apply(variables, IMAGES, train=True)
    jax.tree.map(np.testing.assert_array_equal, kept, variables.batch_stats)
    pixels = flat(np.asarray(IMAGES) / 255)
    statistics = updated["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * pixels.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * pixels.var(axis=0), rtol=1e-4)


def test_uint8_is_scaled_and_floats_are_not_before_normalization():
    model = Model(Mean(), (0.5, 0.25), (0.5, 2.0))
    nothing = Variables({}, {})
    white = model.apply(nothing, jnp.full((1, 2, 2, 2), 255, jnp.uint8), train=False)[0]
    floats = model.apply(nothing, jnp.full((1, 2, 2, 2), 0.75), train=False)[0]
    np.testing.assert_allclose(white.logits, [[1.0, 0.375]])
    np.testing.assert_allclose(floats.logits, [[0.5, 0.25]])


def test_dropout_takes_the_key_in_training_only():
    model = Model(Dropped())
    variables = model.init(KEY, IMAGES)
    still = model.apply(variables, IMAGES, train=False)[0].logits
    dropped = model.apply(variables, IMAGES, train=True, key=KEY)[0].logits
    again = model.apply(variables, IMAGES, train=True, key=KEY)[0].logits
    np.testing.assert_allclose(still, flat(np.asarray(IMAGES)) / 255, rtol=1e-6)
    np.testing.assert_array_equal(dropped, again)
    assert np.sum(np.asarray(dropped) == 0) > np.sum(np.asarray(still) == 0)
    with pytest.raises(InvalidInputError, match="Dropped draws random numbers: give apply a key"):
        model.apply(variables, IMAGES, train=True)


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_prediction_in_batches_is_prediction_at_once(count):
    model = Model(Normed(), (0.5,), (0.2,))
    variables = model.init(KEY, IMAGES)
    wanted, _ = model.apply(variables, IMAGES, train=False)
    found = jax.jit(lambda images: predict(model, variables, images, batch_size=3))(IMAGES[:count])
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b[:count].shape
        np.testing.assert_allclose(a, b[:count], rtol=1e-5, atol=1e-5)


def test_prediction_traces_a_network_once():
    traces = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, images):
            traces.append(images.shape)
            return nn.Dense(3)(flat(images))

    model = Model(Counted())
    variables = model.init(KEY, IMAGES)
    predict(model, variables, IMAGES, batch_size=3)
    count = len(traces)
    for seed in range(3):
        predict(model, model.init(jax.random.key(seed), IMAGES), IMAGES, batch_size=3)
    assert (3, 4, 4, 2) in traces[:count]
    assert (3, 4, 4, 2) not in traces[count:]


def test_prediction_keeps_embeddings_of_width_zero():
    model = Model(Logits())
    outputs = predict(model, model.init(KEY, IMAGES), np.asarray(IMAGES), batch_size=4)
    assert outputs.embeddings.shape == (7, 0)
    with pytest.raises(InvalidInputError, match="returns logits alone"):
        require_embeddings(outputs)


def test_embeddings_that_are_there_are_returned():
    outputs = Outputs(jnp.zeros((2, 3)), jnp.ones((2, 1)))
    assert require_embeddings(outputs) is outputs.embeddings


@pytest.mark.parametrize("module", [Triple(), Unpooled(), Dictionary()])
def test_outputs_of_another_form_are_refused(module):
    message = f"{type(module).__name__} must return logits .* on 7 images it returned .*7, "
    with pytest.raises(InvalidInputError, match=message):
        Model(module).apply(Variables({}, {}), IMAGES, train=False)


def test_logits_of_other_classes_are_refused():
    model = Model(Logits(classes=4), num_classes=3)
    variables = model.init(KEY, IMAGES)
    with pytest.raises(InvalidInputError, match="logits of 4 classes, the data has 3"):
        model.apply(variables, IMAGES, train=False)


def test_other_collections_are_refused():
    with pytest.raises(InvalidInputError, match=r"Counting has variables of \['cache'\]"):
        Model(Counting()).init(KEY, IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (jnp.zeros((1, 4, 4, 3), jnp.uint8), r"\[1, 4, 4, 3\] are not .* 2 means and 1 standard"),
        (jnp.zeros((4, 4, 2), jnp.uint8), r"are not \[B, H, W, C\]"),
        (jnp.zeros((1, 4, 4, 2), jnp.int32), "wanted uint8 or floats, got int32"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, message):
    with pytest.raises(InvalidInputError, match=message):
        Model(Mean(), (0.5, 0.5), (1.0,)).apply(Variables({}, {}), images, train=False)


def test_margins_are_those_that_audits_take_on_the_host():
    random = np.random.default_rng(0)
    logits = random.normal(0, 5, (40, 4)).astype(np.float32)
    labels = random.integers(0, 4, 40).astype(np.int32)
    for found in (
        margins(jnp.asarray(logits), labels),
        jax.jit(margins)(logits, labels),
        jax.vmap(margins)(jnp.asarray(logits).reshape(4, 10, 4), labels.reshape(4, 10)).ravel(),
    ):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, audits.margins(logits, labels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4, 3), (4, 3)), ((4, 3), (5,))])
def test_margins_of_arrays_that_do_not_go_together_are_refused(shapes):
    logits, labels = shapes
    with pytest.raises(InvalidInputError):
        margins(jnp.zeros(logits), jnp.zeros(labels, jnp.int32))


class Phased(nn.Module):
    @nn.compact
    def __call__(self, images, phase_train: bool = False):
        noise = jax.random.normal(self.make_rng("dropout"), ()) if phase_train else 0.0
        return nn.Dense(3)(flat(images)) + noise


class Noisy(nn.Module):
    """It draws where it should not."""

    @nn.compact
    def __call__(self, images, train):
        noise = 0.0 if train else jax.random.normal(self.make_rng("dropout"), ())
        return nn.Dense(3)(flat(images)) + noise


class PairInTraining(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        logits = nn.Dense(3)(flat(images))
        return (logits, flat(images)) if train else logits


class Bfloat(nn.Module):
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3, dtype=jnp.bfloat16, param_dtype=self.param_dtype)(flat(images))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Phased(), "takes 'phase_train'.*call it 'train'"),
        (Noisy(), "random numbers outside of training"),
        (PairInTraining(), "in training, and of .* otherwise"),
        (Bfloat(jnp.bfloat16), "params/Dense_0/bias is bfloat16; keep parameters in float32"),
        (Logits(1), "too few logits, 1"),
    ],
)
def test_a_module_whose_form_cannot_be_trained_is_refused(module, message):
    with pytest.raises(InvalidInputError, match=message):
        Model(module).signature(IMAGES)


def test_a_module_may_compute_in_few_bits():
    model, labels = Model(Bfloat()), np.arange(7) % 3
    steps = rumjax.chain(
        rumjax.task([1, 2], 7),
        *(rumjax.unlearn.ALGORITHMS[name](model, batch_size=4) for name in ("scrub", "influence")),
    )
    variables = model.init(KEY, IMAGES)
    after = rumjax.run(KEY, steps, variables, rumjax.Dataset(IMAGES, labels))
    assert after.params["Dense_0"]["kernel"].dtype == jnp.float32
    assert np.any(after.params["Dense_0"]["kernel"] != variables.params["Dense_0"]["kernel"])


def test_embeddings_before_logits_are_refused_unless_the_classes_are_said():
    class Swapped(nn.Module):
        @nn.compact
        def __call__(self, images):
            return flat(images), nn.Dense(3)(flat(images))

    data = rumjax.Dataset(IMAGES, np.arange(7) % 3)
    for model, message in (
        (Model(Swapped()), "return logits first, or say"),
        (Model(Swapped(), num_classes=3), "the data has 3"),
    ):
        steps = rumjax.chain(rumjax.task([1], 7), rumjax.retrain(model, epochs=1))
        with pytest.raises(InvalidInputError, match=message):
            rumjax.run(KEY, steps, None, data)


@pytest.mark.parametrize("key", [3, np.zeros(2), jax.random.split(KEY, 2), None])
def test_what_is_no_key_makes_no_variables(key):
    with pytest.raises(InvalidInputError, match=r"wanted jax.random.key\(seed\)"):
        Model(Logits()).init(key, IMAGES)


def test_a_dictionary_of_collections_may_be_applied():
    model = Model(Normed())
    variables = model.init(KEY, IMAGES)
    for train in (False, True):
        results = [
            model.apply(form, IMAGES, train=train) for form in (variables, variables._asdict())
        ]
        jax.tree.map(np.testing.assert_array_equal, *results)
