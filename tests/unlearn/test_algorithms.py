"""Every algorithm obeys the protocol of `Unlearner`, and those that descend do so as their twins.

Each algorithm is run once for each kind of network; the tests look at what was recorded.
"""

import dataclasses
import functools
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rumjax.descent import Sgd
from rumjax.losses import distillation_loss
from rumjax.types import task
from rumjax.unlearn import base, chain, run
from rumjax.unlearn.relabelling import relabelled
from tests.references import small, unlearning
from tests.references.descent import sgd
from tests.references.network import Network

KEY = jax.random.key(11)
TASKS = {
    "several": task(small.FORGET, small.SIZE),
    "one": task([7], small.SIZE, capacity=len(small.FORGET)),
}
# Compilations are what these tests cost: without batch norm, one algorithm of each build is enough.
BUILDS = ("original", "finetune", "neggrad_plus", "influence", "salun")
ALL = [
    *((name, "update") for name in small.NAMES),
    *((name, "freeze") for name in small.DESCENDING),
    *((name, "plain") for name in BUILDS),
]
DESCENTS = [
    *((*each, "several") for each in ALL if each[0] in small.DESCENDING),
    *((name, "update", "one") for name in small.DESCENDING),
]


def longer(cases):
    """The same cases, those of frozen statistics thorough but for one algorithm of each build."""
    return [
        pytest.param(*case, marks=pytest.mark.thorough)
        if case[1] == "freeze" and case[0] not in BUILDS
        else case
        for case in cases
    ]


relabel = jax.jit(relabelled, static_argnums=3)


def copied(tree):
    return jax.tree.map(jnp.copy, tree)


def numbers(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_equal(first, second):
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(numbers(one), numbers(other)),
        first,
        second,
    )


def assert_same_form(first, second):
    chex.assert_trees_all_equal_structs(first, second)
    chex.assert_trees_all_equal_shapes_and_dtypes(first, second)


def moved(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return any(bool((one != other).any()) for one, other in pairs)


@dataclasses.dataclass
class Recorded:
    """A run, epoch by epoch."""

    unlearner: Any
    given: Any
    """variables before, as they were passed in"""
    states: list
    """before the first epoch, and after each"""
    metrics: list
    batches: list
    """per epoch, the indices of each batch drawn"""


@pytest.fixture(scope="module")
def record(model, plain_model, original, plain_original, data):
    """The run of an algorithm on a kind of network and a task, made once."""
    position = {image.tobytes(): i for i, image in enumerate(np.asarray(data.images))}
    assert len(position) == small.SIZE

    @functools.cache
    def recorded(name, kind, which="several"):
        chosen, given = (plain_model, plain_original) if kind == "plain" else (model, original)
        unlearner = small.unlearner(name, chosen, "freeze" if kind == "freeze" else "update")
        found = Recorded(unlearner, given, [], [], [])
        state = base._start(unlearner, KEY, given, data, TASKS[which])
        found.states.append(copied(state))
        for _ in range(unlearner.epochs):
            small.SEEN.clear()
            state, finite, metrics = base._advance(unlearner, state, data, TASKS[which])
            jax.effects_barrier()
            assert finite
            found.states.append(copied(state))
            found.metrics.append(metrics)
            found.batches.append(
                [np.array([position[image.tobytes()] for image in batch]) for batch in small.SEEN]
            )
        return found

    return recorded


@pytest.mark.parametrize(("name", "kind"), longer(ALL))
def test_methods_are_pure(record, data, name, kind):
    found = record(name, kind)
    given, around = copied(found.given), copied((data, TASKS["several"]))
    start = base._start(found.unlearner, KEY, found.given, data, TASKS["several"])
    assert_equal(start, found.states[0])
    for before, after, noted in zip(found.states, found.states[1:], found.metrics, strict=False):
        again, _, metrics = base._advance(found.unlearner, copied(before), data, TASKS["several"])
        assert_equal((again, metrics), (after, noted))
    last = copied(found.states[-1])
    assert_equal(found.unlearner.finish(last), found.unlearner.finish(found.states[-1]))
    assert_equal(last, found.states[-1])
    assert_equal((found.given, data, TASKS["several"]), (given, *around))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((found.given, data)))


@pytest.mark.parametrize(("name", "kind"), longer(ALL))
def test_the_result_has_the_form_of_the_original_and_is_another(record, name, kind):
    found = record(name, kind)
    results = [found.unlearner.finish(state) for state in found.states]
    for result in results:
        assert_same_form(result, found.given)
    for before, after in itertools.pairwise(results):
        assert moved(before.params, after.params)
    assert len(results) == found.unlearner.epochs + 1
    if name == "original":
        assert_equal(results[-1], found.given)


@pytest.mark.parametrize(("name", "kind"), longer(ALL))
def test_metrics_are_scalars_and_say_where_the_loss_diverged(record, name, kind):
    found = record(name, kind)
    for metrics in found.metrics:
        assert metrics
        chex.assert_rank(list(metrics.values()), 0)
        chex.assert_tree_all_finite(metrics)
        if isinstance(found.unlearner, Sgd):
            assert "loss" in metrics
            assert metrics["diverged_at"] == -1


@pytest.mark.parametrize(("name", "kind"), longer(each for each in ALL if each[1] == "freeze"))
def test_batch_statistics_are_updated_or_bit_identical_as_asked(record, name, kind):
    updated, frozen = record(name, "update").states, record(name, kind).states
    before = frozen[0].variables.batch_stats
    for leaf, kept in zip(
        jax.tree.leaves(before), jax.tree.leaves(frozen[-1].variables.batch_stats), strict=True
    ):
        assert np.asarray(leaf).tobytes() == np.asarray(kept).tobytes()
    assert moved(updated[0].variables.batch_stats, updated[-1].variables.batch_stats)


def test_the_influence_step_leaves_batch_statistics_alone(record):
    states = record("influence", "update").states
    assert_equal(states[0].variables.batch_stats, states[-1].variables.batch_stats)


def passes(name, forget, retain):
    """What an epoch should pass over: the first epoch's, and the later ones'."""
    if name == "neggrad":
        return [forget], [forget]
    if name == "scrub":
        return [forget, retain], [retain]
    if name in ("random_label", "salun"):
        return [np.union1d(forget, retain)], [np.union1d(forget, retain)]
    return [retain], [retain]


@pytest.mark.parametrize("which", TASKS)
@pytest.mark.parametrize("name", small.DESCENDING)
def test_an_epoch_shows_every_example_to_the_augmentation_once(record, name, which):
    forget = np.asarray(TASKS[which].forget.indices[: TASKS[which].forget.size])
    retain = np.setdiff1d(np.arange(small.SIZE), forget)
    found = record(name, "update", which)
    first, later = passes(name, forget, retain)
    orders = []
    for batches, wanted in zip(found.batches, (first, later), strict=True):
        if name == "neggrad_plus":
            cycled, batches = np.concatenate(batches[1::2]), batches[::2]
            assert set(cycled) == set(forget)
        for subset in wanted:
            count = -(-len(subset) // small.BATCH_SIZE)
            drawn, batches = np.concatenate(batches[:count]), batches[count:]
            np.testing.assert_array_equal(np.sort(drawn[: len(subset)]), subset)
            assert set(drawn) == set(subset)
        assert not batches
        orders.append(tuple(drawn[: len(subset)]))
    assert len(subset) == 1 or orders[0] != orders[1]


def test_the_cycled_forget_set_is_shuffled_afresh_in_each_round(record):
    batches = record("neggrad_plus", "update").batches[0][1::2]
    rounds = [tuple(np.concatenate(batches[i : i + 2])[:13]) for i in (0, 2, 4)]
    assert all(sorted(each) == list(small.FORGET) for each in rounds)
    assert len(set(rounds)) == 3


@pytest.mark.parametrize(("name", "kind", "which"), longer(DESCENTS))
def test_descent_is_that_of_the_slow_twin(record, data, name, kind, which):
    found = record(name, kind, which)
    params, stats = jax.tree.map(lambda leaf: np.array(leaf, np.float64), found.states[0].variables)
    labels = np.asarray(data.labels)
    if name in ("random_label", "salun"):
        keys = [jax.random.split(state.key)[1] for state in found.states[:-1]]
        drawn = [relabel(key, data, TASKS[which].forget, 3).labels for key in keys]
    else:
        drawn = [labels] * small.EPOCHS
    network = Network(stats, update=kind != "freeze")
    setting = unlearning.Setting(
        network=network,
        params=params,
        images=255.0 - np.asarray(data.images),
        labels=np.array(drawn),
        retain=int(TASKS[which].retain.size),
        forget=int(TASKS[which].forget.size),
        batch_size=small.BATCH_SIZE,
        options=small.OWN[name],
    )
    steps = list(unlearning.STEPS[name](setting, found.batches))
    rates = np.full(len(steps), small.OWN[name]["learning_rate"])
    if name == "retrain":
        rates *= (1 + np.cos(np.pi * np.arange(len(steps)) / len(steps))) / 2
    mask = None
    if name == "salun":
        forget = np.asarray(TASKS[which].forget.indices[: setting.forget])
        plain = dataclasses.replace(
            setting, images=np.asarray(data.images, float), labels=labels[None]
        )
        plain.network = Network(stats, update=False)
        gradient = plain.cross_entropy(0, forget, np.ones(len(forget)))(params)
        mask = unlearning.saliency_mask(gradient, small.OWN[name]["mask_fraction"])
        assert_equal(mask, found.states[0].memory)
    wanted = sgd(params, steps, learning_rate=rates, momentum=0.8, weight_decay=0.02, mask=mask)
    result = found.unlearner.finish(found.states[-1])
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        (result.params, result.batch_stats),
        (wanted, network.stats),
    )


def test_retraining_does_not_look_at_the_variables_given(record, data, original):
    found = record("retrain", "update")
    other = jax.tree.map(jnp.zeros_like, original)
    assert_equal(base._start(found.unlearner, KEY, other, data, TASKS["several"]), found.states[0])
    assert moved(found.states[0].variables.params, original.params)


def test_the_divergence_is_the_relative_entropy_at_a_temperature():
    random = np.random.default_rng(0)
    teacher, student = random.normal(0, 3, (2, 6, 4))
    weights = np.array([1, 1, 0, 1, 0, 1.0])
    tempered = [scipy.special.softmax(each / 2.5, axis=1) for each in (teacher, student)]
    entropy = scipy.special.rel_entr(*tempered).sum(axis=1)
    found = distillation_loss(
        jnp.float32(teacher), jnp.float32(student), jnp.float32(weights), jnp.float32(2.5)
    )
    assert found == pytest.approx(2.5**2 * entropy[weights == 1].mean(), rel=1e-5)
    same = distillation_loss(jnp.float32(teacher), jnp.float32(teacher), jnp.float32(weights), 2.5)
    assert same == pytest.approx(0, abs=1e-6)


def test_a_chain_is_its_steps_one_after_another(record, data, original):
    first, second = (record(name, "update").unlearner for name in ("neggrad", "finetune"))
    together = run(KEY, chain(TASKS["several"], first, second), original, data)
    variables = original
    for position, unlearner in enumerate((first, second)):
        key = jax.random.fold_in(KEY, position)
        state = base._start(unlearner, key, variables, data, TASKS["several"])
        for _ in range(small.EPOCHS):
            state, _, _ = base._advance(unlearner, state, data, TASKS["several"])
        variables = unlearner.finish(state)
    assert_equal(together, variables)
    alone = run(KEY, chain(TASKS["several"], second), original, data)
    assert moved(together.params, alone.params)


def test_no_steps_leave_the_variables_as_they_are(data, original):
    assert run(KEY, (), original, data) is original
