"""ReGUn against its twin, and what it guides a batch of S to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.losses import relative_entropy
from rumjax.types import Batch
from rumjax.unlearn import chain, run
from rumjax.unlearn.guided import guides, regun
from tests.references import alternating as twins
from tests.references.network import softmax
from tests.unlearn.stepwise import (
    EPOCHS,
    KEY,
    OPTIONS,
    TASK,
    assert_close,
    result_of,
    sets,
    twin_of,
)

measured = jax.jit(jax.value_and_grad(relative_entropy, argnums=1))
OWN = {"learning_rate": 0.1, "forget_weight": 0.6}
BY_CLASS = np.random.default_rng(0).dirichlet(np.ones(3), 3)


def unlearner(model, **changes):
    given = {**OPTIONS, **OWN, "held_out_probabilities": BY_CLASS, **changes}
    return regun(model, **given)


def batch_of(labels, weights=None):
    weights = jnp.ones(len(labels)) if weights is None else jnp.float32(weights)
    images = jnp.zeros((len(labels), 1, 1, 1))
    return Batch(images, jnp.asarray(labels), weights, None, jnp.arange(len(labels)))


@pytest.mark.parametrize("weight", [0.6, 0.0])
def test_steps_are_those_of_the_twin(model, original, data, weight):
    network, params = twin_of(original)
    options = {**OPTIONS, **OWN, "forget_weight": weight}
    forget, retain = sets(data)
    wanted = twins.regun(network, params, BY_CLASS, forget, retain, epochs=EPOCHS, options=options)
    found = result_of(unlearner(model, forget_weight=weight), original, data)
    assert_close(found.params, wanted)
    assert_close(found.batch_stats, network.stats, atol=1e-4)
    if weight == 0:
        # It is fine-tuning, whatever the held-out images say.
        network, params = twin_of(original)
        common = {name: options[name] for name in ("momentum", "weight_decay")}
        velocity = twins.nothing(params)
        for _ in range(EPOCHS):
            slope = twins.descent(network, params, *retain)
            params, velocity = twins.step(params, velocity, slope, rate=0.1, **common)
        assert_close(found.params, params)


def test_mistake_20_a_batch_is_guided_by_its_own_classes_by_default(model):
    assert unlearner(model).variant == "batch"
    # Not by all classes alike, and not by what only fills the batch.
    for labels, weights, wanted in (
        ([1, 1, 1], [1, 1, 1], BY_CLASS[1]),
        ([0, 2, 1], [1, 1, 0], BY_CLASS[[0, 2]].mean(axis=0)),
        ([2, 2, 0], [1, 1, 1], (2 * BY_CLASS[2] + BY_CLASS[0]) / 3),
    ):
        found = guides(jnp.float32(BY_CLASS), batch_of(labels, weights), "batch")
        np.testing.assert_allclose(found, np.tile(wanted, (3, 1)), rtol=1e-5)
    rows = guides(jnp.float32(BY_CLASS), batch_of([2, 0]), "per_example")
    np.testing.assert_allclose(rows, BY_CLASS[[2, 0]], rtol=1e-6)


def test_guided_by_the_identity_the_loss_is_cross_entropy():
    logits = jnp.float32(np.random.default_rng(1).normal(0, 2, (4, 3)))
    one_class, mixed = batch_of([1, 1, 1, 1]), batch_of([0, 2, 1, 1], [1, 1, 1, 0])
    losses = twins.cross_entropies(np.asarray(logits), np.array([0, 2, 1, 1]))
    ones = twins.cross_entropies(np.asarray(logits), np.ones(4, int))
    for batch, variant, loss in (
        (mixed, "per_example", losses[:3].mean()),
        (one_class, "batch", ones.mean()),
    ):
        wanted = guides(jnp.eye(3), batch, variant)
        found, slope = measured(wanted, logits, batch.weights)
        assert found == pytest.approx(loss, rel=1e-5)
        assert np.isfinite(slope).all()


def test_two_classes_by_hand():
    # q = (1/4, 3/4) and p = (1/2, 1/2): KL = ¼ log ½ + ¾ log ³⁄₂.
    wanted = jnp.array([[0.25, 0.75]])
    found, _ = measured(wanted, jnp.zeros((1, 2)), jnp.ones(1))
    assert found == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5), rel=1e-5)
    logits = np.array([[0.3, -0.2]])
    _, slope = measured(wanted, jnp.float32(logits), jnp.ones(1))
    np.testing.assert_allclose(slope, softmax(logits) - np.asarray(wanted), atol=1e-6)


def test_gradients_are_counted(model, data):
    # Two passes over 41 of S in three batches of 20, with the three batches of 50 of R.
    assert unlearner(model, batch_size=20, epochs=2).gradients(41, 50, data) == 2 * (41 + 50)


def test_a_run_without_held_out_probabilities_is_refused(model, original, data):
    with pytest.raises(InvalidInputError, match="ReGUn needs held_out_probabilities, the mean"):
        run(KEY, chain(TASK, regun(model)), original, data)
    two = regun(model, held_out_probabilities=np.eye(2))
    with pytest.raises(InvalidInputError, match=r"\[2, 2\], and is wanted of shape \[3, 3\]"):
        run(KEY, chain(TASK, two), original, data)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "uniform"}, "variant"),
        ({"forget_weight": 1.5}, "forget_weight"),
        ({"held_out_probabilities": np.eye(3) * 2}, "row 0 is no distribution"),
        ({"held_out_probabilities": [0.5, 0.5]}, r"numbers \[K, K\]"),
        ({"held_out_probabilities": [[1.5, -0.5], [0, 1]]}, "row 0"),
    ],
)
def test_what_is_no_setting_is_refused(model, wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        unlearner(model, **wrong)
