"""SFR-on against its twin, its limits, and what it makes of losses near 0."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.types import Batch, task
from rumjax.unlearn import base
from rumjax.unlearn.alternating import focused_loss, sfr_on
from tests.references import alternating as twins
from tests.unlearn.stepwise import (
    EPOCHS,
    KEY,
    OPTIONS,
    TASK,
    assert_close,
    assert_identical,
    exchanged,
    moved,
    result_of,
    sets,
    states_of,
    twin_of,
)

OWN = {
    "learning_rate": 0.02,
    "forget_every": 2,
    "alpha": 25.0,
    "exponent": 0.5,
    "threshold": 1.0,
    "clip_norm": 0.7,
    "beta": 0.7,
}


LONG = task(np.arange(45), 60)


def unlearner(model, **changes):
    return sfr_on(model, **{**OPTIONS, **OWN, **changes})


def singly(part):
    return [(image[None], label[None]) for image, label in zip(*part, strict=True)]


def wanted_mask(original, data, threshold=1.0, whole=False):
    network, params = twin_of(original, update=False)
    forget, retain = ([part] if whole else singly(part) for part in sets(data))
    return twins.mask_of(network, params, forget, retain, threshold)


@pytest.mark.parametrize("beta", [0.7, 1.0])
def test_steps_are_those_of_the_twin(model, original, data, beta):
    network, params = twin_of(original)
    mask = wanted_mask(original, data)
    options = {**OPTIONS, **OWN, "beta": beta}
    wanted = twins.sfr_on(network, params, mask, *sets(data), epochs=EPOCHS, options=options)
    found = result_of(unlearner(model, beta=beta), original, data)
    assert_close(found.params, wanted)
    assert_close(found.batch_stats, network.stats, atol=1e-4)


def test_mistake_13_slow_updates_are_void_only_if_beta_is_one(model, original, data):
    results = [result_of(unlearner(model, beta=beta), original, data) for beta in (1.0, 0.99)]
    assert moved(results[0].params, results[1].params)


@pytest.mark.parametrize("importance", ["example", "batch"])
def test_mistake_12_the_mask_is_where_squares_of_s_exceed(model, original, data, importance):
    kept = base._start(unlearner(model, importance=importance), KEY, original, data, TASK).memory
    wanted = wanted_mask(original, data, whole=importance == "batch")
    assert_identical(kept.mask, wanted)
    # Squares of means are not means of squares.
    other = wanted_mask(original, data, whole=importance == "example")
    assert moved(kept.mask, other)


def test_a_threshold_of_zero_masks_nothing(model, original, data):
    mask = base._start(unlearner(model, threshold=0.0), KEY, original, data, TASK).memory.mask
    assert all(leaf.all() for leaf in jax.tree.leaves(mask))


def test_parameters_stay_if_beta_is_zero(model, original, data):
    states = states_of(unlearner(model, beta=0.0), original, data)
    for state in states:
        assert_identical(state.variables.params, original.params)
    assert moved(states[-1].variables.batch_stats, original.batch_stats)


def test_without_forget_gradients_it_is_fine_tuning_on_a_cosine(model, original, data):
    plain = {"momentum": 0.0, "weight_decay": 0.0}
    network, params = twin_of(original)
    velocity = twins.nothing(params)
    for epoch in range(EPOCHS):
        rate = OWN["learning_rate"] * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
        slope = twins.descent(network, params, *sets(data)[1])
        params, velocity = twins.step(params, velocity, slope, rate=rate, **plain)
    for changes in ({"alpha": 0.0}, {"threshold": 1e30}):
        found = result_of(unlearner(model, beta=1.0, **plain, **changes), original, data)
        assert_close(found.params, params)
    # Momentum and decay move parameters in a forget step whose gradient is 0.
    few, many = (
        result_of(unlearner(model, alpha=0.0, forget_every=every), original, data)
        for every in (99, 1)
    )
    assert moved(few.params, many.params)


def test_only_every_so_many_steps_the_first_included_look_at_the_forget_set(model, original, data):
    # The same mask, whatever S is; so it is the ascent that tells the two sets apart.
    changes = {"threshold": 0.0, "momentum": 0.0, "weight_decay": 0.0, "alpha": 1.0}
    thirds = [np.arange(start, 60, 4) for start in range(2)]
    sets_ = [
        task(part, 60, capacity=45, already_forgotten=before)
        for part, before in ((thirds[0], thirds[1]), (thirds[1], thirds[0]))
    ]
    assert all(int(each.retain.size) == 30 for each in sets_)
    one, other = (
        states_of(unlearner(model, forget_every=99, **changes), original, data, each)
        for each in sets_
    )
    assert_identical(one[0].variables, other[0].variables)
    assert moved(one[1].variables.params, other[1].variables.params)
    # From the same state on, nothing of S is seen any more.
    for chosen in sets_:
        again = one[1]
        for wanted in one[2:]:
            given = jax.tree.map(jnp.copy, again)
            again, _, _ = base._advance(
                unlearner(model, forget_every=99, **changes), given, data, chosen
            )
            assert_identical(again.variables, wanted.variables)


@pytest.fixture(scope="module")
def drawn(model, original, data):
    """Four batches of a forget set of one and a half."""
    state = base._start(unlearner(model), KEY, original, data, LONG)
    draw = jax.jit(lambda number: unlearner(model).forget_batch(state, data, LONG.forget, number))
    return [draw(number) for number in range(4)]


def test_rounds_of_the_forget_set_are_whole_and_shuffled_afresh(drawn):
    rounds = []
    for first in (0, 2):
        parts = [batch.indices[batch.weights > 0] for batch in drawn[first : first + 2]]
        rounds.append(np.concatenate(parts))
        np.testing.assert_array_equal(np.sort(rounds[-1]), np.arange(45))
    assert (rounds[0] != rounds[1]).any()
    assert len({tuple(jax.random.key_data(batch.key).tolist()) for batch in drawn}) == 4


def test_forget_steps_are_counted_through_the_epochs(model, original, data, drawn):
    # The first step of the third epoch is step 2, the second forget step.
    def after(changed):
        state = base._start(unlearner(model), KEY, original, data, LONG)
        state = jax.tree.map(jnp.copy, state)._replace(epoch=jnp.int32(2))
        return base._advance(unlearner(model), state, changed, LONG)[0].variables.params

    seen = np.unique(drawn[1].indices)
    unseen = np.setdiff1d(np.arange(45), seen)
    assert len(seen) == 30
    assert_identical(after(exchanged(data, unseen)), after(data))
    assert moved(after(exchanged(data, seen[:1])), after(data))


def test_vmap_over_intervals_is_one_run_each(model, original, data):
    # Models that take a forget step stand beside such that do not.
    each = [states_of(unlearner(model, forget_every=every), original, data) for every in (1, 3, 4)]
    records = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *(unlearner(model, forget_every=every) for every in (1, 3, 4)),
    )
    advance = jax.jit(jax.vmap(lambda record, state: record.epoch(state, data, TASK)[0]))
    found = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(states[0] for states in each))
    for _ in range(EPOCHS):
        found = advance(records, found)
    for number, states in enumerate(each):
        one = jax.tree.map(operator.itemgetter(number), found.variables.params)
        assert_close(one, states[-1].variables.params)


def batch_of(labels, weights):
    count = len(labels)
    images = jnp.zeros((count, 1, 1, 1))
    return Batch(images, jnp.asarray(labels), jnp.float32(weights), None, jnp.arange(count))


focused = jax.jit(jax.value_and_grad(focused_loss))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(1, 7))
def test_weights_are_those_of_the_twin_and_sum_up_to_the_batch(seed, exponent, size):
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 1, (7, 3)), random.integers(0, 3, 7)
    value, slope = focused(jnp.float32(logits), batch_of(labels, np.arange(7) < size), exponent)
    losses = twins.cross_entropies(logits, labels)[:size]
    weights = twins.focus(exponent)(losses)
    assert weights.sum() == pytest.approx(size)
    assert value == pytest.approx((weights * losses).mean(), rel=1e-3)
    if exponent == 0:
        assert value == pytest.approx(losses.mean(), rel=1e-4)
    wanted = (twins.softmax(logits) - np.eye(3)[labels])[:size] * weights[:, None] / size
    np.testing.assert_allclose(slope[:size], wanted, atol=1e-4)
    np.testing.assert_array_equal(slope[size:], 0)


def test_a_perfectly_fitted_example_does_not_take_the_whole_batch():
    logits = jnp.array([[200.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0], [0, jnp.nan, 0]])
    labels = [0, 0, 0, 0]
    value, slope = focused(logits[jnp.array([0, 1, 2, 0])], batch_of(labels, [1, 1, 1, 0]), 0.5)
    losses = twins.cross_entropies(np.asarray(logits[:3]), np.asarray(labels[:3]))
    assert losses[0] == 0
    weights = twins.focus(0.5)(losses)
    assert value == pytest.approx((weights * losses).mean(), rel=1e-4)
    assert np.abs(slope[2]).max() > 1e-4
    assert np.isnan(focused(logits, batch_of(labels, [1, 1, 1, 1]), 0.5)[0])


def test_gradients_are_counted(model, data):
    # Five epochs of three batches; forget steps 0, 4, 8, 12 take batches of 20, 20, 1 and 20 of S.
    counted = unlearner(model, batch_size=20, forget_every=4).gradients(41, 50, data)
    assert counted == 41 + 50 + 5 * 50 + 61


@pytest.mark.parametrize(
    "wrong", [{"beta": 1.5}, {"forget_every": 0}, {"importance": "mean"}, {"exponent": -1}]
)
def test_what_is_no_setting_is_refused(model, wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        unlearner(model, **wrong)
