"""Matching outputs of oracles or of a datamodel: steps by hand, and what is never looked at."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import margins, predict
from rumjax.types import task
from rumjax.unlearn import chain, run
from rumjax.unlearn.cards import CARDS
from rumjax.unlearn.facts import mean_logits
from rumjax.unlearn.matching import datamodel_matching, oracle_matching
from tests.references.descent import adam, sgd
from tests.references.matching import centred_distance, margin_distance
from tests.references.network import Network

FORGET, RATIO, EPOCHS = [3, 8, 21, 40, 55, 59], 2.0, 5
MATCHED = 18
KEY = jax.random.key(7)
OPTIONS = {
    "epochs": EPOCHS,
    "learning_rate": 0.01,
    "ratio": RATIO,
    "batch_size": MATCHED,
}


@pytest.fixture(scope="module")
def wanted():
    """Logits to be matched on the 60 examples of D."""
    return np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def work():
    return task(FORGET, 60)


def sample_of(unlearner, variables, data, work):
    """S ∪ R′, as the first step of a run draws it."""
    memory = unlearner.init(jax.random.fold_in(KEY, 0), variables, data, work).memory
    return np.asarray(memory.indices)[: int(memory.size)]


def matched(unlearner, variables, data, work):
    return run(KEY, chain(work, unlearner), variables, data)


def as_float64(params):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), params)


@pytest.fixture(scope="module")
def by_oracles(model, original, data, work, wanted):
    """Oracle matching with batch norm, and its result."""
    options = {**OPTIONS, "optimizer": "sgd", "weight_decay": 1e-3}
    unlearner = oracle_matching(model, oracle_logits=wanted, **options)
    return unlearner, matched(unlearner, original, data, work)


def test_oracle_matching_takes_the_steps_of_its_twin(by_oracles, original, data, work, wanted):
    unlearner, after = by_oracles
    chosen = sample_of(unlearner, original, data, work)
    images = np.asarray(data.images)[chosen].astype(np.float64)
    network = Network(original.batch_stats, update=True)

    def gradient(params):
        logits, pullback = network(params, images)
        return pullback(centred_distance(logits, wanted[chosen])[1])

    expected = sgd(
        as_float64(original.params),
        [gradient] * EPOCHS,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=1e-3,
    )
    for found, twin in zip(
        jax.tree.leaves((after.params, after.batch_stats)),
        jax.tree.leaves((expected, network.stats)),
        strict=True,
    ):
        np.testing.assert_allclose(found, twin, atol=1e-5, rtol=1e-5)


def test_datamodel_matching_takes_the_steps_of_its_twin(
    plain_model, plain_original, data, work, wanted
):
    # The default optimizer is Adam, without weight decay.
    target = 3 * wanted[:, 0]
    unlearner = datamodel_matching(plain_model, datamodel_margins=target, **OPTIONS)
    after = matched(unlearner, plain_original, data, work)
    chosen = sample_of(unlearner, plain_original, data, work)
    images, labels = (np.asarray(part)[chosen] for part in data)
    network = Network({}, update=False)

    def gradient(params):
        logits, pullback = network(params, images.astype(np.float64))
        return pullback(margin_distance(logits, labels, target[chosen])[1])

    expected = adam(
        as_float64(plain_original.params),
        [gradient] * EPOCHS,
        learning_rate=0.01,
        weight_decay=0.0,
        decoupled=False,
    )
    for found, twin in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, twin, atol=1e-5, rtol=1e-5)


def test_nothing_outside_of_s_and_its_sample_is_looked_at(by_oracles, original, data, work, wanted):
    unlearner, after = by_oracles
    chosen = sample_of(unlearner, original, data, work)
    others = np.setdiff1d(np.arange(60), chosen)
    images, labels = (np.array(part) for part in data)
    images[others], labels[:] = 255 - images[others], 0
    logits = np.array(wanted)
    logits[others] = np.nan
    strange = dataclasses.replace(unlearner, oracle_logits=jnp.asarray(logits))
    same = matched(strange, original, data._replace(images=images, labels=labels), work)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(same), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_constant_in_all_logits_of_an_example_means_nothing(
    by_oracles, original, data, work, wanted
):
    unlearner, after = by_oracles
    shifted = wanted + np.arange(60, dtype=np.float32)[:, None] / 8
    same = dataclasses.replace(unlearner, oracle_logits=jnp.asarray(shifted))
    found = matched(same, original, data, work)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_model_that_is_the_oracle_stays_and_has_no_loss(model, original, data, work):
    # Of one oracle; of a datamodel without effect as well.
    logits = mean_logits(model, [original], data)
    phi = margins(predict(model, original, data.images).logits, data.labels)
    still = {**OPTIONS, "optimizer": "sgd", "batch_norm": "freeze"}
    for unlearner in (
        oracle_matching(model, oracle_logits=logits, **still),
        datamodel_matching(model, datamodel_margins=phi, **still),
    ):
        losses = []
        after = run(
            KEY,
            chain(work, unlearner),
            original,
            data,
            on_epoch=lambda epoch, losses=losses: losses.append(epoch.metrics["loss"]),
        )
        assert max(losses) < 1e-9
        for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(original), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("ratio", "size"), [(0.0, 0), (0.5, 3), (2.0, 12), (100.0, 54)])
def test_the_sample_is_of_r_and_of_the_size_that_is_said(
    plain_model, plain_original, data, work, ratio, size
):
    unlearner = oracle_matching(plain_model, ratio=ratio, epochs=2)
    chosen = sample_of(unlearner, plain_original, data, work)
    assert len(set(chosen)) == len(chosen) == 6 + size
    assert set(FORGET) <= set(chosen.tolist()) <= set(range(60))
    assert unlearner.gradients(6, 54, data) == 2 * (6 + size)


def test_what_is_not_known_is_refused(plain_model, plain_original, data, work, wanted):
    for factory, name in (
        (oracle_matching, "oracle_logits"),
        (datamodel_matching, "datamodel_margins"),
    ):
        with pytest.raises(InvalidInputError, match=f"needs {name}, the .* give it to the factory"):
            matched(factory(plain_model), plain_original, data, work)
        with pytest.raises(InvalidInputError, match=name):
            factory(plain_model, **{name: "none"})
        with pytest.raises(InvalidInputError, match="unknown option 'augmentation'"):
            factory(plain_model, augmentation=lambda key, images: images)
    short = oracle_matching(plain_model, oracle_logits=wanted[:59])
    with pytest.raises(InvalidInputError, match=r"\[59, 3\], and is wanted of shape \[60, 3\]"):
        matched(short, plain_original, data, work)


def test_cards_say_what_both_use():
    assert CARDS[oracle_matching].needs == ("S", "R", "oracles")
    assert CARDS[datamodel_matching].needs == ("S", "R", "bank")
