"""Fisher forgetting, against gradients by hand and the numbers that its key draws."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.sampling import share
from rumjax.types import Variables, task
from rumjax.unlearn.noise import fisher_noise, normal
from tests.conftest import Network
from tests.references.importances import Importances

KEY = jax.random.key(3)
FORGET = np.arange(0, 52, 4)
TASK = task(FORGET, 60)


class Nested(nn.Module):
    """A network whose parameters are those of a child's children."""

    @nn.compact
    def __call__(self, images, train):
        return Network(name="inner")(images, train)


@pytest.fixture(scope="module")
def nested():
    return Model(Nested())


@pytest.fixture(scope="module")
def start(original):
    return Variables(*({"inner": part} for part in original))


@jax.jit
def advance(unlearner, variables, data):
    """What a run makes of variables, and its metrics."""
    state = unlearner.init(KEY, variables, data, TASK)
    after, metrics = unlearner.epoch(state, data, TASK)
    return unlearner.finish(after), metrics


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


@pytest.mark.parametrize(
    ("exponent", "alpha", "retain_share"), [(-0.25, 1e-3, 1.0), (-0.5, 1e-4, 0.5)]
)
def test_the_noise_is_that_of_the_slow_twin(
    nested, original, start, data, exponent, alpha, retain_share
):
    options = {"exponent": exponent, "alpha": alpha, "retain_share": retain_share}
    found, metrics = advance(fisher_noise(nested, cap=1e3, **options), start, data)
    sampling, drawing = jax.random.split(KEY)
    drawn = share(sampling, TASK.retain, retain_share)
    chosen = np.asarray(drawn.indices)[: int(drawn.size)]
    assert not np.intersect1d(chosen, FORGET).size
    variance = np.minimum(
        (Importances(original, data).fisher(chosen) + 1e-8) ** (2 * exponent), 1e3
    )
    normals = flat(normal(drawing, jax.tree.map(jnp.ones_like, start.params)))
    noise = np.sqrt(alpha * variance) * normals
    np.testing.assert_allclose(flat(found.params), flat(start.params) + noise, atol=1e-5, rtol=1e-4)
    assert metrics["noise_norm"] == pytest.approx(np.linalg.norm(noise), rel=1e-3)
    assert metrics["capped_share"] == pytest.approx(np.mean(variance == 1e3))
    jax.tree.map(np.testing.assert_array_equal, found.batch_stats, start.batch_stats)


def test_mistake_19_every_leaf_however_deep_gets_noise_of_its_own(nested, start, data):
    found, _ = advance(fisher_noise(nested, alpha=1e-3), start, data)
    for old, new in zip(*map(jax.tree.leaves, (start.params, found.params)), strict=True):
        assert (old != new).all()
    again = normal(KEY, {"one": jnp.ones(5), "other": {"deep": jnp.ones(5)}})
    assert (again["one"] != again["other"]["deep"]).all()


def test_without_alpha_nothing_changes(nested, start, data):
    negative = jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(-0.0), start.params)
    given = start._replace(params=negative)
    found, metrics = advance(fisher_noise(nested, alpha=0), given, data)
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(
            np.asarray(one).view(np.int32), np.asarray(other).view(np.int32)
        ),
        found,
        given,
    )
    assert metrics["noise_norm"] == 0


def test_it_looks_at_no_label_and_at_no_example_to_be_forgotten(nested, start, data):
    unlearner = fisher_noise(nested, alpha=1e-3)
    others = data._replace(images=data.images.at[FORGET].set(0), labels=(data.labels + 1) % 3)
    found, _ = advance(unlearner, start, data)
    again, _ = advance(unlearner, start, others)
    jax.tree.map(np.testing.assert_array_equal, found, again)


@pytest.mark.parametrize("exponent", [-0.25, -0.5])
def test_the_deviation_falls_with_the_fisher_up_to_the_cap(model, exponent):
    fisher = jnp.logspace(-6, 2, 30)
    unlearner = fisher_noise(model, exponent=exponent, cap=100)
    factor = np.asarray(unlearner.factor(fisher))
    assert (np.diff(factor) <= 0).all()
    assert factor.max() <= 100
    free = factor < 100
    np.testing.assert_allclose(factor[free], fisher[free] ** (2 * exponent), rtol=1e-2)
    assert np.asarray(unlearner.factor(jnp.zeros(1))) == 100


def test_variances_of_a_unit_are_averaged_over_its_inputs(model):
    unlearner = dataclasses.replace(fisher_noise(model, per_unit=True), cap=jnp.float32(jnp.inf))
    fisher = jnp.asarray(np.random.default_rng(0).gamma(1, size=(3, 3, 4, 5)), jnp.float32)
    alone = dataclasses.replace(unlearner, per_unit=False).factor(fisher)
    together = unlearner.factor(fisher)
    np.testing.assert_allclose(together, alone.mean(2, keepdims=True).repeat(4, 2), rtol=1e-6)
    np.testing.assert_array_equal(unlearner.factor(fisher[0, 0, 0]), alone[0, 0, 0])


def test_options_are_checked_and_gradients_are_counted_once_a_class(model, data):
    unlearner = fisher_noise(model)
    assert (float(unlearner.alpha), float(unlearner.exponent)) == (np.float32(1e-6), -0.5)
    assert fisher_noise(model, retain_share=0.3).gradients(5, 55, data) == 3 * 17
    with pytest.raises(InvalidInputError, match="exponent"):
        fisher_noise(model, exponent=0.25)
