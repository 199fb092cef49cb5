"""Selective synaptic dampening, against twins that go through parameters one by one."""

import dataclasses
import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from jax.flatten_util import ravel_pytree

from rumjax.errors import InvalidInputError
from rumjax.sampling import share, shuffled, union
from rumjax.types import Subset, Task, subset, task
from rumjax.unlearn.dampening import assd, dampened, forget_share, lfssd, ssd
from rumjax.unlearn.ranking import largest_rank, magnitude, rank
from tests.references import importances
from tests.references.importances import Importances

KEY = jax.random.key(3)
few = settings(deadline=None, max_examples=30)
SIZE, BATCH = 60, 8
FACTORIES = {
    "ssd": functools.partial(ssd, alpha=1.5, dampening=0.7),
    "batch": functools.partial(ssd, alpha=2.0, importance="batch", batch_size=BATCH),
    "lfssd": functools.partial(lfssd, alpha=1.2, dampening=0.9),
    "assd": functools.partial(assd, dampening=0.5),
}


@jax.jit
def advance(unlearner, variables, data, chosen):
    """What a run makes of variables, its importances, and its metrics."""
    state = unlearner.init(KEY, variables, data, chosen)
    after, metrics = unlearner.epoch(state, data, chosen)
    both = unlearner.importances(KEY, variables, data, chosen)
    return unlearner.finish(after), [ravel_pytree(one)[0] for one in both], metrics


def requested(forget):
    """A task whose arrays have the same shapes whatever is forgotten; S in the order given."""
    return Task(subset(forget, capacity=30), task(forget, SIZE).retain)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def assert_bits_equal(first, second):
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(
            np.asarray(one).view(np.int32), np.asarray(other).view(np.int32)
        ),
        first,
        second,
    )


@pytest.fixture(scope="module")
def a_class(data):
    """Half of the examples of class 1: their importances are far from those of all."""
    return np.flatnonzero(np.asarray(data.labels) == 1)[::2]


@pytest.fixture(scope="module")
def twin(original, data):
    return Importances(original, data)


def batches(drawn):
    indices = np.asarray(drawn.indices)[: int(drawn.size)]
    return [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]


def wanted_importances(name, twin, chosen, retain_share):
    """I_S and I_D, of the examples that the key draws."""
    sampling, forgetting = jax.random.split(KEY)
    forget = np.asarray(chosen.forget.indices)[: int(chosen.forget.size)]
    if name == "batch":
        mixed = Subset(shuffled(forgetting, chosen.forget), chosen.forget.size)
        drawn = share(sampling, union(chosen.forget, chosen.retain), retain_share)
        return twin.batch_squares(batches(mixed)), twin.batch_squares(batches(drawn))
    drawn = share(sampling, chosen.retain, retain_share)
    retain = np.asarray(drawn.indices)[: int(drawn.size)]
    assert not np.intersect1d(forget, retain).size
    mean = twin.sensitivity if name == "lfssd" else twin.squares
    weight = len(forget) / SIZE
    return mean(forget), weight * mean(forget) + (1 - weight) * mean(retain)


@pytest.mark.parametrize("retain_share", [1.0, 0.4])
@pytest.mark.parametrize("name", FACTORIES)
def test_the_result_is_that_of_the_slow_twin(
    model, original, data, twin, a_class, name, retain_share
):
    unlearner = FACTORIES[name](model, retain_share=retain_share)
    chosen = requested(a_class)
    found, both, metrics = advance(unlearner, original, data, chosen)
    of_forget, of_all = wanted_importances(name, twin, chosen, retain_share)
    for one, other in zip(both, (of_forget, of_all), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * other.max())

    alpha = metrics["alpha"]
    if name == "assd":
        wanted_alpha = importances.percentile(of_forget, of_all, len(a_class) / SIZE)
        # Of two neighbors, between which the percentile lies, the smaller is α.
        assert 0.9 * wanted_alpha <= alpha <= 1.0001 * wanted_alpha
        alpha = wanted_alpha
    wanted, selected = importances.dampened(
        flat(original.params), of_forget, of_all, alpha, unlearner.dampening
    )
    np.testing.assert_allclose(flat(found.params), wanted, atol=1e-5, rtol=0)
    assert metrics["selected"] == selected > 0
    assert metrics["selected_share"] == pytest.approx(selected / len(wanted))
    assert metrics["largest_ratio"] == pytest.approx(np.nanmax(of_forget / of_all), rel=1e-3)
    assert not metrics["unchanged"]
    untouched = wanted == flat(original.params)
    assert untouched.sum() >= len(wanted) - selected
    assert_bits_equal(flat(found.params)[untouched], flat(original.params)[untouched])
    assert_bits_equal(found.batch_stats, original.batch_stats)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("change", [{"alpha": jnp.inf}, {"dampening": jnp.inf}])
def test_an_infinite_number_changes_nothing_and_is_said_to(
    model, original, data, a_class, name, change
):
    unlearner = FACTORIES[name](model)
    if not hasattr(unlearner, *change):
        return
    unlearner = dataclasses.replace(unlearner, **jax.tree.map(jnp.float32, change))
    found, _, metrics = advance(unlearner, original, data, requested(a_class))
    assert_bits_equal(found, original)
    assert metrics["unchanged"] == 1
    assert (metrics["selected"] == 0) == ("alpha" in change)


@pytest.mark.parametrize("name", ["ssd", "lfssd"])
def test_nothing_is_selected_where_all_is_forgotten(model, original, data, name):
    everything = requested(range(30))
    everything = Task(everything.forget, Subset(everything.retain.indices, jnp.int32(0)))
    unlearner = FACTORIES[name](model, alpha=1)
    found, both, metrics = advance(unlearner, original, data, everything)
    assert_bits_equal(*both)
    assert metrics["selected"] == 0
    assert metrics["unchanged"] == 1
    assert_bits_equal(found, original)


def test_mistake_12_an_alpha_of_the_inverse_share_selects_nothing_but_by_squares_of_batches(
    model, original, data
):
    """I_D contains |S|/|D| of I_S; where squares of batches are taken for it, chance selects."""
    chosen = requested(np.random.default_rng(0).permutation(SIZE)[:6])
    _, _, metrics = advance(FACTORIES["ssd"](model, alpha=10.001), original, data, chosen)
    assert metrics["selected"] == 0
    assert metrics["unchanged"] == 1
    assert metrics["largest_ratio"] <= 10.001
    of_batches, _, metrics = advance(FACTORIES["batch"](model, alpha=10), original, data, chosen)
    assert metrics["selected"] > 0
    assert (flat(of_batches.params) != flat(original.params)).any()


def test_mistake_12_the_order_of_s_matters_to_squares_of_batches_alone(
    model, original, data, a_class
):
    results = {}
    for name in FACTORIES:
        unlearner = FACTORIES[name](model)
        results[name] = [
            advance(unlearner, original, data, requested(order))
            for order in (a_class, a_class[::-1])
        ]
    for name, (one, other) in results.items():
        difference = np.abs(one[1][0] / other[1][0] - 1)
        if name == "batch":
            assert np.nanmax(difference) > 0.1
        else:
            assert np.nanmax(difference) < 1e-3
            np.testing.assert_allclose(flat(one[0].params), flat(other[0].params), atol=1e-5)


def test_mistake_12_importances_are_means_over_examples_but_for_squares_of_batches(
    model, original, data, a_class
):
    for name in FACTORIES:
        unlearner = FACTORIES[name](model)
        whole, *halves = (
            advance(unlearner, original, data, requested(part))[1][0]
            for part in (a_class[:10], a_class[:10:2], a_class[1:10:2])
        )
        difference = np.abs(whole - (halves[0] + halves[1]) / 2).max()
        assert (difference > 1e-3 * whole.max()) == (name == "batch")


def test_mistake_20_defaults_are_those_that_were_published_with_the_importance(model):
    assert (float(ssd(model).alpha), float(ssd(model).dampening)) == (10, 1)
    assert ssd(model).batch_size == 128
    assert (float(lfssd(model).alpha), float(lfssd(model).dampening)) == (3.5, 1)
    assert float(assd(model).dampening) == 1
    assert {ssd(model).importance, assd(model).importance} == {"example"}
    for factory in (ssd, lfssd, assd):
        with pytest.raises(InvalidInputError, match="retain_share"):
            factory(model, retain_share=1.5)
    with pytest.raises(InvalidInputError, match="importance"):
        ssd(model, importance="fisher")


@pytest.mark.parametrize("power", [-40, 20])
def test_a_multiple_of_the_loss_changes_nothing(model, power):
    random = np.random.default_rng(0)
    trees = [{"w": jnp.float32(random.gamma(0.5, size=40))} for _ in range(3)]
    chosen = requested(range(12))
    for unlearner in (ssd(model, alpha=1.5, dampening=0.5), assd(model, dampening=0.5)):
        results = []
        for scale in (1.0, 2.0**power):
            both = [jax.tree.map(lambda leaf, c=scale: c * leaf, tree) for tree in trees[1:]]
            selected, _ = unlearner.select(*both, chosen)
            results.append(dampened(trees[0], *both, selected, unlearner.dampening))
        assert_bits_equal(results[0][0], results[1][0])
        assert 0 < results[0][1]["selected"] == results[1][1]["selected"]


@functools.cache
def adaptive(model):
    return jax.jit(assd(model).select)


@pytest.mark.parametrize(
    ("forget", "percent"), [(100, 0.20), (450, 0.69), (1000, 1.17), (3000, 2.04), (4500, 2.40)]
)
def test_the_share_that_assd_selects_is_the_published_one(model, forget, percent):
    random = np.random.default_rng(forget)
    ratios, size = random.lognormal(size=(2, 10_000)).astype(np.float32), 45_000
    sizes = Task(*(Subset(jnp.zeros(1, jnp.int32), jnp.int32(n)) for n in (forget, size - forget)))
    ones = jax.tree.map(jnp.ones_like, list(jnp.asarray(ratios)))
    selected, alpha = adaptive(model)(list(jnp.asarray(ratios)), ones, sizes)
    assert 100 * np.mean(selected) == pytest.approx(percent, abs=0.006)
    threshold = np.percentile(ratios, 100 - np.log(1 + 100 * forget / size))
    np.testing.assert_array_equal(np.stack(selected), ratios > threshold)
    assert alpha <= threshold * (1 + 1e-6)


@few
@given(
    arrays(np.float32, (2, 20), elements=st.sampled_from([0, 1, 2, 3, 4])),
    st.integers(1, 60),
)
def test_assd_selects_what_exceeds_the_percentile_whatever_ties_and_zeros(selector, both, forget):
    chosen = requested(range(1))._replace(
        forget=Subset(jnp.zeros(30, jnp.int32), jnp.int32(forget)),
        retain=Subset(jnp.zeros(60, jnp.int32), jnp.int32(SIZE - forget)),
    )
    selected, _ = selector([jnp.asarray(both[0])], [jnp.asarray(both[1])], chosen)
    assert float(forget_share(chosen)) == pytest.approx(forget / SIZE)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = both[0] / both[1]
    if np.isfinite(ratios).any():
        alpha = importances.percentile(*both.astype(np.float64), forget / SIZE)
        # Halfway between neighbors nothing rounds across.
        np.testing.assert_array_equal(selected[0], ratios > np.float32(alpha))


@pytest.fixture(scope="module")
def selector(model):
    return adaptive(model)


@few
@given(arrays(np.float32, 9, elements=st.floats(-8, 8, width=16)), st.integers(1, 9))
def test_ranks_are_in_the_order_of_magnitudes(values, place):
    found = magnitude(largest_rank([rank(jnp.asarray(values))], jnp.int32(place)))
    assert found == np.sort(np.abs(values))[::-1][place - 1]


def test_gradients_are_counted_once_an_example(model, data):
    assert ssd(model).gradients(5, 55, data) == 60
    assert lfssd(model, retain_share=0.3).gradients(5, 55, data) == 5 + 17
    assert assd(model, importance="batch").gradients(5, 55, data) == 65
    assert ssd(model, importance="batch", retain_share=0.3).gradients(5, 55, data) == 5 + 18
