"""Sharpness-aware descent of any algorithm, and Sharp MinMax, against twins and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.sharpness import sharpened, uphill
from rumjax.unlearn import finetune, retrain
from rumjax.unlearn.minmax import sharp_minmax
from tests.references import alternating as twins
from tests.unlearn.stepwise import (
    EPOCHS,
    FORGET,
    OPTIONS,
    assert_close,
    assert_identical,
    exchanged,
    moved,
    result_of,
    sets,
    states_of,
    twin_of,
)

RATE = 0.1
STEP = {"rate": RATE, "momentum": OPTIONS["momentum"], "weight_decay": OPTIONS["weight_decay"]}
SAM = {"sharpness": "sam", "sharpness_radius": 0.3}
OWN = {
    "learning_rate": RATE,
    "beta": 0.8,
    "mask_fraction": 0.4,
    "sharpness": "asam",
    "sharpness_radius": 0.5,
    "sharpness_strength": 0.7,
}


def tuned(model, **changes):
    return finetune(model, **{**OPTIONS, "learning_rate": RATE, **changes})


def unlearner(model, **changes):
    return sharp_minmax(model, **{**OPTIONS, **OWN, **changes})


def test_on_a_quadratic_it_is_the_gradient_uphill():
    random = np.random.default_rng(0)
    root = random.normal(size=(4, 4))
    hessian, at = jnp.float32(root @ root.T), {"w": jnp.float32(random.normal(size=4))}

    def slope(params):
        return {"w": hessian @ params["w"]}

    gradient = slope(at)["w"]
    wanted = hessian @ (at["w"] + 0.3 * gradient / jnp.linalg.norm(gradient))
    common = {"adaptive": False, "radius": 0.3}
    found = sharpened(slope, at, slope(at), **common, strength=1.0)["w"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    sharp = sharpened(slope, at, slope(at), **common, strength=-0.5)["w"]
    np.testing.assert_allclose(sharp, gradient - 0.5 * (wanted - gradient), rtol=1e-4)
    # A gradient that is the same everywhere is left as it is.
    for adaptive in (False, True):
        kept = sharpened(lambda _: at, at, at, adaptive=adaptive, radius=0.3, strength=1.0)
        np.testing.assert_allclose(kept["w"], at["w"], rtol=1e-6)


@pytest.mark.parametrize(("radius", "strength"), [(0.0, 1.0), (0.3, 0.0)])
def test_without_radius_or_strength_gradients_are_kept_bit_for_bit(radius, strength):
    # A negative 0 stays one, and what is not finite uphill does not matter.
    at = {"w": jnp.array([1.0, -0.0, 2.0])}
    uphill_slope = {"w": jnp.array([1.0, 0.0, jnp.inf])}
    found = sharpened(
        lambda _: uphill_slope, at, at, adaptive=False, radius=radius, strength=strength
    )
    assert_identical(found, at)


def test_uphill_is_on_the_ball_and_adaptively_on_the_ellipsoid():
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.0, 0.5])}
    gradient = {"a": jnp.array([3.0, 0.1]), "b": jnp.array([2.0, -4.0])}
    ball = uphill(params, gradient, adaptive=False, radius=0.2)
    step = jax.tree.map(jnp.subtract, ball, params)
    assert twins.norm(step) == pytest.approx(0.2, rel=1e-5)
    ellipsoid = uphill(params, gradient, adaptive=True, radius=0.2)
    step = jax.tree.map(jnp.subtract, ellipsoid, params)
    assert step["b"][0] == 0
    scale = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([1.0, 0.5])}
    assert twins.norm(jax.tree.map(jnp.divide, step, scale)) == pytest.approx(0.2, rel=1e-5)
    still = uphill(params, jax.tree.map(jnp.zeros_like, params), adaptive=False, radius=0.2)
    assert_identical(still, params)


def test_without_radius_or_strength_any_descent_is_bit_for_bit_its_host(model, original, data):
    host = result_of(tuned(model), original, data)
    for changes in ({**SAM, "sharpness_radius": 0.0}, {**SAM, "sharpness_strength": 0.0}):
        assert_identical(result_of(tuned(model, **changes), original, data), host)
    assert moved(result_of(tuned(model, **SAM), original, data), host)


def test_fine_tuning_uphill_is_that_of_the_twin(model, original, data):
    # Batch statistics too: the second pass leaves them alone.
    network, params = twin_of(original)
    sharpness = {"adaptive": False, "radius": 0.3, "strength": 1.0}
    retain = sets(data)[1]
    wanted = twins.sharp_finetune(
        network, params, retain, epochs=EPOCHS, options=STEP, sharpness=sharpness
    )
    found = result_of(tuned(model, **SAM), original, data)
    assert_close(found.params, wanted)
    assert_close(found.batch_stats, network.stats, atol=1e-4)


def test_sharp_minmax_is_that_of_the_twin(model, original, data):
    network, params = twin_of(original, update=False)
    forget, retain = sets(data)
    mask = twins.salient(network, params, forget, 0.4)
    network, params = twin_of(original)
    sharpness = {"adaptive": True, "radius": 0.5, "strength": 0.7}
    wanted = twins.sharp_minmax(
        network,
        params,
        mask,
        forget,
        retain,
        epochs=EPOCHS,
        beta=0.8,
        options=STEP,
        sharpness=sharpness,
    )
    states = states_of(unlearner(model), original, data)
    assert_identical(states[0].memory, mask)
    assert_identical(states[-1].memory, mask)
    assert_close(states[-1].variables.params, wanted)
    assert_close(states[-1].variables.batch_stats, network.stats, atol=1e-4)


def test_the_two_optimizers_never_mix(model, original, data):
    # All parameters are R's, whatever S is; or all are S's, whatever R is.
    for fraction, others in ((0.0, FORGET), (1.0, np.setdiff1d(np.arange(60), FORGET))):
        record = unlearner(model, mask_fraction=fraction)
        found = result_of(record, original, data)
        assert_identical(found.params, result_of(record, original, exchanged(data, others)).params)
        assert moved(found.params, original.params)
    # In the former case, it is the host on R alone: fine-tuning of the same sharpness.
    network, params = twin_of(original)
    wanted = twins.sharp_finetune(
        network,
        params,
        sets(data)[1],
        epochs=EPOCHS,
        options={**STEP, "rate": RATE},
        sharpness={"adaptive": True, "radius": 0.5, "strength": 0.7},
    )
    whole = unlearner(model, mask_fraction=0.0, beta=1.0)
    assert_close(result_of(whole, original, data).params, wanted)


def test_mistake_14_masks_hold_for_whole_steps(model, original, data):
    still = {"weight_decay": 0.0}
    for beta, strength in ((0.0, 1.0), (1.0, 1.0), (0.0, -1.0)):
        record = unlearner(model, beta=beta, sharpness_strength=strength, **still)
        states = states_of(record, original, data)
        # Only S moves anything if β is 0, and only R if it is 1.
        kept = jax.tree.map(lambda m: m if beta == 1 else ~m, states[0].memory)  # noqa: B023
        pairs = jax.tree.map(
            lambda k, one, other: (one[k], other[k]),
            jax.tree.map(np.asarray, kept),
            jax.tree.map(np.asarray, states[-1].variables.params),
            jax.tree.map(np.asarray, original.params),
        )
        for one, other in jax.tree.leaves(pairs, is_leaf=lambda leaf: isinstance(leaf, tuple)):
            assert one.tobytes() == other.tobytes()
        assert moved(states[-1].variables.params, original.params)


def test_gradients_are_counted(model, data):
    # The mask's pass over S; then two passes over R, three batches each, and as many of S.
    assert unlearner(model, batch_size=20, epochs=2).gradients(41, 50, data) == 41 + 2 * (50 + 41)


def test_radii_are_by_default_those_of_the_paper(model):
    radii = [tuned(model, sharpness=kind).sharpness_radius for kind in ("none", "sam", "asam")]
    np.testing.assert_allclose(radii, [0, 0.1, 1.0])
    assert retrain(model, epochs=1, sharpness="sam").sharpness == "sam"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sharpness": "flat"}, "sharpness"),
        ({"sharpness_radius": 0.1}, "it needs sharpness='sam'"),
        ({"sharpness": "sam", "sharpness_radius": -1}, "sharpness_radius"),
        ({"sharpness": "sam", "sharpness_strength": np.inf}, "sharpness_strength"),
    ],
)
def test_what_is_no_setting_is_refused(model, wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        tuned(model, **wrong)
