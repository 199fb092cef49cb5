"""Datamodels by the Gram matrix equal dense ridge, and recover what is linear."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.scores import datamodels, removal_effect
from rumjax.scores.datamodels import unshrunken_error
from tests.references.matching import removal

MODELS, SIZE = 14, 24


def made(seed, models=MODELS, size=SIZE, outputs=5):
    random = np.random.default_rng(seed)
    return random.random((models, size)) < 0.5, random.normal(size=(models, outputs))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.01, 10.0), st.booleans(), st.booleans())
def test_effects_and_errors_are_those_of_dense_ridge(seed, penalty, told_apart, some):
    memberships, outputs = made(seed)
    memberships[:2] = [[True], [False]] * np.ones((1, SIZE), bool)
    memberships[2:4] = memberships[:2]
    forget, features = [1, 4, 7], np.array([1, 4, 7, 9]) if some else np.arange(SIZE)
    own = np.array([1, 2, -1, 7, 19]) if told_apart else np.full(5, -1)
    options = {"features": features, "penalty": penalty, "own": own if told_apart else None}
    effect = removal_effect(memberships, outputs, forget, **options)
    assert effect.penalty == pytest.approx(penalty)
    for place in range(5):
        expected = removal(memberships, outputs[:, place], forget, features, own[place], penalty)
        found = effect.values[place], effect.residual[place]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_endless_penalty_leaves_no_effect_but_an_examples_own():
    memberships, outputs = made(0)
    forget, own = [1, 4], np.array([1, 2, -1, 4, 5])
    assert abs(removal_effect(memberships, outputs, forget, penalty=1e12).values).max() < 1e-6
    values = removal_effect(memberships, outputs, forget, own=own, penalty=1e12).values
    for place, example in enumerate(own):
        seen, output = memberships[:, example], outputs[:, place]
        difference = output[~seen].mean() - output[seen].mean() if example in forget else 0.0
        assert values[place] == pytest.approx(difference, abs=1e-6)


def test_sums_over_examples_are_recovered_if_there_are_more_models_than_examples():
    memberships, _ = made(1, models=40, size=12)
    weights = np.random.default_rng(2).normal(size=(12, 3))
    effect = removal_effect(memberships, 5 + memberships @ weights, [0, 3, 8], penalty=1e-9)
    np.testing.assert_allclose(effect.values, -weights[[0, 3, 8]].sum(0), rtol=1e-5)
    assert effect.residual.max() < 1e-5
    chosen = removal_effect(memberships, 5 + memberships @ weights, [0, 3, 8])
    np.testing.assert_allclose(chosen.values, effect.values, rtol=1e-2)


def test_the_penalty_is_that_which_predicts_left_out_models_best(monkeypatch):
    memberships, noise = made(3, models=30, size=10)
    outputs = memberships @ np.ones((10, 5)) + noise
    chosen = removal_effect(memberships, outputs, [0])
    tried = [
        np.square(removal_effect(memberships, outputs, [0], penalty=chosen.penalty * f).residual)
        for f in (0.1, 1.0, 10.0)
    ]
    assert np.argmin(np.mean(tried, axis=1)) == 1

    # Blocks are for memory only.
    monkeypatch.setattr(datamodels, "BLOCK", 2)
    for whole, parted in zip(chosen, removal_effect(memberships, outputs, [0]), strict=True):
        np.testing.assert_allclose(whole, parted, rtol=1e-5)


def test_standard_errors_are_those_of_noise_that_is_drawn_again():
    # Noise of standard deviation 1; 30 examples of 6 000, 400 models.
    random = np.random.default_rng(4)
    memberships = random.random((100, 400)) < 0.5
    forget = np.arange(30)
    outputs = random.normal(size=(100, 2000))
    effect = removal_effect(memberships, outputs, forget, penalty=50.0)
    assert effect.values.std() == pytest.approx(effect.standard_error.mean(), rel=0.1)

    # Without shrinkage, each coefficient is a difference of means.
    seen = memberships[:, forget].astype(float)
    means = (seen.T @ outputs) / seen.sum(0)[:, None]
    others = ((1 - seen).T @ outputs) / (1 - seen).sum(0)[:, None]
    effects = (means - others).sum(0)
    assert effects.std() == pytest.approx(effect.unshrunken.mean(), rel=0.15)
    assert float(unshrunken_error(np.array(1.0), 30, 100)) == pytest.approx(np.sqrt(4 * 30 / 100))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": np.zeros((3, 2))}, "memberships of 14 models and outputs of 3"),
        ({"forget": [SIZE]}, "forget set"),
        ({"features": [1, 2]}, "2 examples of S are not among the features"),
        ({"own": [0, 1]}, "an index for each of 5 outputs"),
        ({"own": [0, 1, 2, 3, SIZE]}, "indices below 24"),
        ({"penalty": 0.0}, "a number above 0"),
        ({"memberships": np.zeros((14, 24))}, "wanted booleans"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    memberships, outputs = made(5)
    given = {"memberships": memberships, "outputs": outputs, "forget": [1, 4, 7], **changes}
    with pytest.raises(InvalidInputError, match=message):
        removal_effect(**given)
