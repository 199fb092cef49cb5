import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.scores import PROXIES, TrainingDynamics

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
    with pytest.raises(InvalidInputError, match=r"wanted finite \[2, K\]"):
        dynamics.add(probabilities)
