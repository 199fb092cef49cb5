"""What is reset, what is frozen, and what that leaves equal to fine-tuning and to retraining."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import Cnn, Model
from rumjax.types import Variables, task
from rumjax.unlearn import base, chain, finetune, retrain, run
from rumjax.unlearn.localizing import cf_k, eu_k, localized_reset
from rumjax.unlearn.perturbing import msg
from tests.conftest import Network as Inner
from tests.references.descent import sgd
from tests.references.localizing import channels
from tests.references.network import Network, softmax

KEY = jax.random.key(9)
FORGET = np.arange(0, 60, 4)
RETAIN = np.setdiff1d(np.arange(60), FORGET)
CHOSEN = task(FORGET, 60)
EPOCHS = 5
OPTIONS = {"epochs": EPOCHS, "learning_rate": 0.05, "batch_size": len(RETAIN)}
DECAY = {"weight_decay": 0.02, "momentum": 0.8}


def as_numpy(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def close(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), first, second)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def assert_only_moved(found, before, mask):
    """Bits are equal where the mask is False; some are not where it is True."""

    def bits(leaf):
        return np.asarray(leaf).view(np.int32)

    def still(new, old, free):
        free = np.broadcast_to(free, np.shape(new))
        np.testing.assert_array_equal(bits(new)[~free], bits(old)[~free])
        return bool((bits(new) != bits(old))[free].any())

    assert any(jax.tree.leaves(jax.tree.map(still, found, before, mask)))


def gradient(network, data, some):
    """Of the mean cross-entropy of some examples."""
    images, labels = np.asarray(data.images, np.float64)[some], np.asarray(data.labels)[some]

    def slope(params):
        logits, pullback = network(params, images)
        return pullback((softmax(logits) - np.eye(3)[labels]) / len(some))

    return slope


# Localized reset


@pytest.fixture(scope="module")
def reset(model, original, data):
    """The state before the first epoch, and the result."""
    unlearner = localized_reset(model, fraction=0.3, **OPTIONS, **DECAY)
    start = base._start(unlearner, jax.random.fold_in(KEY, 0), original, data, CHOSEN)
    return start, run(KEY, chain(CHOSEN, unlearner), original, data)


def test_localized_reset_is_its_twin(model, original, data, reset):
    start, found = reset
    params = as_numpy(original.params)
    slope = gradient(Network(original.batch_stats, update=False), data, FORGET)(params)
    mask = channels(params, slope, 0.3)

    # Channels of the mask are drawn anew, all others are as they were.
    fresh = model.init(jax.random.split(jax.random.fold_in(KEY, 0))[0], data.images)
    wanted = jax.tree.map(np.where, mask, fresh.params, original.params)
    assert_equal(start.variables.params, wanted)
    total = sum(leaf.size for leaf in jax.tree.leaves(mask))
    assert 0 < sum(leaf.sum() for leaf in jax.tree.leaves(mask)) < total

    # They are fine-tuned, and the classifier.
    free = {**mask, "Dense_1": jax.tree.map(np.ones_like, mask["Dense_1"])}
    network = Network(start.variables.batch_stats, update=True)
    rates = 0.05 * (0.01 + 0.99 * (1 + np.cos(np.pi * np.arange(EPOCHS) / EPOCHS)) / 2)
    twin = sgd(
        as_numpy(wanted),
        [gradient(network, data, RETAIN)] * EPOCHS,
        learning_rate=rates,
        **DECAY,
        mask=free,
    )
    close(found.params, twin)
    assert_only_moved(found.params, start.variables.params, free)


def test_a_fraction_of_1_is_retraining_and_one_of_0_a_probe(model, original, data):
    # Retraining, on the cosine and from the key.
    options = {**OPTIONS, "weight_decay": 0.0}
    whole = localized_reset(model, fraction=1.0, final_rate=0.0, **options)
    found = run(KEY, chain(CHOSEN, whole), original, data)
    again = run(KEY, chain(CHOSEN, retrain(model, **options)), None, data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, again)

    # Nothing but the classifier moves, and no statistics, which mistake 21 would move.
    probe = localized_reset(model, fraction=0.0, **OPTIONS, **DECAY)
    found = run(KEY, chain(CHOSEN, probe), original, data)
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), original)
    mask.params["Dense_1"] = jax.tree.map(lambda leaf: ~leaf, mask.params["Dense_1"])
    assert_only_moved(found, original, mask)


def test_channels_are_reset_to_initial_values_that_are_given(model, original, data):
    given = jax.tree.map(lambda leaf: jnp.full_like(leaf, 7.0), original.params)
    unlearner = localized_reset(model, fraction=0.3, initial=given, **OPTIONS)
    start = base._start(unlearner, KEY, original, data, CHOSEN)
    before = jax.tree.leaves(original.params)
    pairs = zip(jax.tree.leaves(start.variables.params), before, strict=True)
    values = np.concatenate([np.ravel(new)[np.ravel(new != old)] for new, old in pairs])
    assert len(values)
    assert (values == 7).all()
    other = localized_reset(model, initial={"kernel": jnp.zeros(3)}, **OPTIONS)
    with pytest.raises(InvalidInputError, match="initial is not like the parameters"):
        base._start(other, KEY, original, data, CHOSEN)


def test_criticality_stays_when_a_layer_grows_as_the_next_one_shrinks(
    plain_model, plain_original, data
):
    def chosen(params, criterion):
        unlearner = localized_reset(plain_model, fraction=0.4, criterion=criterion)
        slope = gradient(Network({}, update=False), data, FORGET)(as_numpy(params))
        slope = jax.tree.map(jnp.float32, slope)
        return unlearner.channels(params, {name: slope[name] for name in params})

    # Homogeneity: the network is the same.
    scaled = {
        "Dense_0": jax.tree.map(lambda leaf: 16 * leaf, plain_original.params["Dense_0"]),
        "Dense_1": {**plain_original.params["Dense_1"]},
    }
    scaled["Dense_1"]["kernel"] = plain_original.params["Dense_1"]["kernel"] / 16
    assert_equal(*(chosen(p, "weighted_gradient") for p in (plain_original.params, scaled)))
    first, second = (chosen(p, "gradient") for p in (plain_original.params, scaled))
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), first, second)))


# Last layers


def test_mistake_21_frozen_layers_stay_bit_identical_with_their_statistics(model, original, data):
    unlearner = cf_k(model, k=1, **OPTIONS, **DECAY)
    found = run(KEY, chain(CHOSEN, unlearner), original, data)
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), original)
    mask.params["Dense_1"] = jax.tree.map(lambda leaf: ~leaf, mask.params["Dense_1"])
    assert_only_moved(found, original, mask)

    # The frozen norm layer uses its running statistics in training, too.
    network = Network(original.batch_stats, update=False)
    twin = sgd(
        as_numpy(original.params),
        [gradient(network, data, RETAIN)] * EPOCHS,
        learning_rate=0.05,
        **DECAY,
        mask=mask.params,
    )
    close(found.params, twin)


def test_eu_k_redraws_the_last_layers_and_trains_them(model, original, data):
    unlearner = eu_k(model, k=1, **OPTIONS, **DECAY)
    found = run(KEY, chain(CHOSEN, unlearner), original, data)
    fresh = model.init(jax.random.split(jax.random.fold_in(KEY, 0))[0], data.images)
    start = {**original.params, "Dense_1": fresh.params["Dense_1"]}
    mask = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), original)
    mask.params["Dense_1"] = jax.tree.map(lambda leaf: ~leaf, mask.params["Dense_1"])
    twin = sgd(
        as_numpy(start),
        [gradient(Network(original.batch_stats, update=False), data, RETAIN)] * EPOCHS,
        learning_rate=0.05,
        **DECAY,
        mask=mask.params,
    )
    close(found.params, twin)
    assert_only_moved(found, original, mask)


def test_of_all_layers_cf_k_is_finetune_and_eu_k_is_retrain(
    model, original, plain_model, plain_original, data
):
    found = run(KEY, chain(CHOSEN, cf_k(model, k=2, **OPTIONS)), original, data)
    assert_equal(found, run(KEY, chain(CHOSEN, finetune(model, **OPTIONS)), original, data))
    found = run(KEY, chain(CHOSEN, eu_k(plain_model, k=2, **OPTIONS)), plain_original, data)
    constant = retrain(plain_model, schedule="constant", **OPTIONS)
    assert_equal(found, run(KEY, chain(CHOSEN, constant), None, data))


def test_more_layers_than_there_are_are_refused(model, original, data):
    with pytest.raises(InvalidInputError, match="wanted 3, but Network has 2"):
        base._start(eu_k(model, k=3, **OPTIONS), KEY, original, data, CHOSEN)
    with pytest.raises(InvalidInputError, match="k"):
        cf_k(model, k=0)


def test_mistake_16_retraining_draws_every_parameter_anew(data):
    model = Model(Cnn(3, widths=(4,), hidden=8))
    first, second = (
        base._start(retrain(model, epochs=1), jax.random.key(seed), None, data, CHOSEN).variables
        for seed in (0, 1)
    )
    for name, layer in first.params.items():
        assert (layer["kernel"] != second.params[name]["kernel"]).all(), name


class Nested(nn.Module):
    """A network whose layers are those of a child."""

    @nn.compact
    def __call__(self, images, train):
        return Inner(name="inner")(images, train)


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (eu_k, {"k": 2}),
        (localized_reset, {"fraction": 1.0}),
        (msg, {"fraction": 1.0, "layers": "kernels"}),
    ],
)
def test_mistake_19_layers_inside_of_others_are_drawn_anew_too(factory, options, original, data):
    given = Variables(*({"inner": part} for part in original))
    unlearner = factory(Model(Nested()), **options)
    found = base._start(unlearner, KEY, given, data, CHOSEN).variables
    for name in ("Dense_0", "Dense_1"):
        fresh, old = (each.params["inner"][name]["kernel"] for each in (found, given))
        assert (fresh != old).all(), name
