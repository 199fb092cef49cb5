"""Proxies of memorization from training dynamics, against slow references."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.scores import (
    EXTRA_PROXIES,
    GRADIENT_PROXIES,
    PROXIES,
    TrainingDynamics,
    holdout_retraining,
    symmetric_kl,
)

few = hypothesis.settings(deadline=None, max_examples=25)


@st.composite
def trainings(draw):
    """Labels int[N], and probabilities float64[epochs, N, K], zeros among them."""
    epochs, count, classes = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
        draw(st.integers(2, 4)),
    )
    length = epochs * count * classes
    weights = draw(st.lists(st.integers(0, 5), min_size=length, max_size=length))
    weights = np.array(weights, float).reshape(epochs, count, classes)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    weights[..., 0] += weights.sum(axis=2) == 0
    return np.array(labels), weights / weights.sum(axis=2, keepdims=True)


def slow(labels, trained):
    """Each proxy of each example, by loops; not yet negated."""
    found = {name: [0.0] * len(labels) for name in PROXIES}
    for probabilities in trained:
        for i, row in enumerate(probabilities):
            found["c_proxy"][i] += row[labels[i]]
            found["max_confidence"][i] += max(row)
            found["entropy"][i] += sum(p * math.log(p) for p in row if p > 0)
            found["binary_accuracy"][i] += list(row).index(max(row)) == labels[i]
    return {name: np.array(total) / len(trained) for name, total in found.items()}


@few
@hypothesis.given(trainings())
def test_proxies_are_the_negated_means_of_the_slow_twin(training):
    labels, trained = training
    dynamics = TrainingDynamics(labels)
    for probabilities in trained:
        dynamics.add(probabilities)
    wanted = slow(labels, trained)
    found = dynamics.scores()
    assert set(found) == set(wanted) == set(PROXIES)
    for name, score in found.items():
        assert score.values.dtype == np.float32
        assert score.standard_error is None
        np.testing.assert_allclose(score.values, -wanted[name], rtol=1e-6, atol=1e-6)


def test_certainty_has_no_entropy():
    dynamics = TrainingDynamics(np.array([0, 1]))
    dynamics.add(np.array([[1.0, 0.0], [0.5, 0.5]], np.float32))
    entropy = dynamics.scores()["entropy"].values
    assert entropy == pytest.approx([0.0, math.log(2)])


@few
@hypothesis.given(trainings())
def test_the_order_of_epochs_does_not_matter(training):
    labels, trained = training
    forwards, backwards = TrainingDynamics(labels), TrainingDynamics(labels)
    for there, back in zip(trained, trained[::-1], strict=True):
        forwards.add(there)
        backwards.add(back)
    for name, score in forwards.scores().items():
        np.testing.assert_allclose(score.values, backwards.scores()[name].values, atol=1e-6)


def test_reading_the_scores_early_changes_nothing():
    dynamics = TrainingDynamics(np.array([0]))
    dynamics.add(np.array([[0.25, 0.75]]))
    first = dynamics.scores()["c_proxy"].values.copy()
    dynamics.add(np.array([[0.75, 0.25]]))
    assert first == pytest.approx([-0.25])
    assert dynamics.scores()["c_proxy"].values == pytest.approx([-0.5])


def test_no_epoch_is_no_score():
    with pytest.raises(InvalidInputError, match="no epoch was added"):
        TrainingDynamics(np.array([0])).scores()


@pytest.mark.parametrize(
    "probabilities", [np.ones((3, 2)), np.array([[0.5, np.nan], [1, 0]]), np.ones((1, 2))]
)
def test_probabilities_of_other_examples_or_of_a_model_that_diverged_are_refused(probabilities):
    dynamics = TrainingDynamics(np.array([0, 1]))
    with pytest.raises(InvalidInputError, match=r"\[2, K\]|not finite"):
        dynamics.add(probabilities)


HALVES = np.array([[0.5, 0.5], [0.5, 0.5]])


def test_what_is_measured_in_every_epoch_is_averaged_and_not_negated():
    dynamics = TrainingDynamics(np.array([0, 1]))
    for curvature, influence in (([1, 2], [0, 8]), ([3, 6], [1, 0])):
        dynamics.add(
            HALVES,
            loss_curvature=np.array(curvature, np.float32),
            self_influence=np.array(influence, np.float32),
        )
    found = dynamics.scores()
    assert set(found) == {*PROXIES, *GRADIENT_PROXIES}
    assert found["loss_curvature"].values.tolist() == [2, 4]
    assert found["self_influence"].values.tolist() == [0.5, 4]
    assert found["loss_curvature"].values.dtype == np.float32
    assert found["c_proxy"].values.tolist() == [-0.5, -0.5]


@pytest.mark.parametrize(
    ("first", "second"),
    [((), ("self_influence",)), (("loss_curvature",), ()), (GRADIENT_PROXIES, ("self_influence",))],
)
def test_what_was_not_measured_in_every_epoch_is_refused(first, second):
    dynamics = TrainingDynamics(np.array([0, 1]))
    dynamics.add(HALVES, **dict.fromkeys(first, np.ones(2)))
    with pytest.raises(InvalidInputError, match="the same measures after every epoch"):
        dynamics.add(HALVES, **dict.fromkeys(second, np.ones(2)))


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({"loss_curvature": np.ones(3)}, r"loss_curvature: wanted \[2\], got \[3\]"),
        ({"self_influence": np.array([1, np.inf])}, "self_influence: .* not finite"),
        ({"curvature": np.ones(2)}, "'curvature'; did you mean 'loss_curvature'"),
    ],
)
def test_an_epoch_that_is_refused_changes_nothing(measured, message):
    dynamics = TrainingDynamics(np.array([0, 1]))
    dynamics.add(HALVES, loss_curvature=np.array([1, 2]))
    with pytest.raises(InvalidInputError, match=message):
        dynamics.add(HALVES, **{"loss_curvature": np.ones(2), **measured})
    dynamics.add(HALVES, loss_curvature=np.array([3, 4]))
    assert dynamics.scores()["loss_curvature"].values.tolist() == [2, 3]


def test_only_what_predictions_suffice_for_is_no_extra():
    assert EXTRA_PROXIES == ("holdout_retraining", "loss_curvature", "self_influence")
    assert set(EXTRA_PROXIES).isdisjoint(PROXIES)


def slow_symmetric_kl(p, q):
    least = np.finfo(np.float32).tiny
    forward = sum(
        a * (math.log(a) - math.log(max(b, least))) for a, b in zip(p, q, strict=True) if a > 0
    )
    backward = sum(
        b * (math.log(b) - math.log(max(a, least))) for a, b in zip(p, q, strict=True) if b > 0
    )
    return (forward + backward) / 2


@few
@hypothesis.given(trainings())
def test_symmetric_kl_is_that_of_the_slow_twin_symmetric_and_never_negative(training):
    _, trained = training
    p, q = trained[0], trained[-1][::-1]
    found = symmetric_kl(p, q)
    wanted = [slow_symmetric_kl(*rows) for rows in zip(p, q, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found, symmetric_kl(q, p))
    assert (found >= 0).all()
    np.testing.assert_array_equal(symmetric_kl(p, p), 0)


def test_symmetric_kl_is_in_nats():
    # ½·(¾ − ¼)·(log 3 + log 3)
    found = symmetric_kl(np.array([[0.25, 0.75]]), np.array([[0.75, 0.25]]))
    assert found == pytest.approx([math.log(3) / 2])


def test_models_that_exclude_each_other_are_far_apart_but_not_infinitely():
    certain = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]], np.float32)
    other = np.array([[0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]], np.float32)
    found = symmetric_kl(certain, other)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(-math.log(np.finfo(np.float32).tiny))
    assert found[0] > found[1] > found[2] == 0


def test_holdout_retraining_is_larger_the_more_a_prediction_moves():
    before = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]], np.float32)
    after = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8]], np.float32)
    found = holdout_retraining(before, after)
    assert found.values.dtype == np.float32
    assert found.standard_error is None
    assert found.values[0] == 0 < found.values[1] < found.values[2]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.ones((2, 3)), np.ones((3, 3))),
        (np.ones(3), np.ones(3)),
        (np.ones((1, 2)), np.array([[np.nan, 1]])),
    ],
)
def test_predictions_that_cannot_be_compared_are_refused(before, after):
    with pytest.raises(InvalidInputError, match=r"probabilities"):
        holdout_retraining(before, after)
