"""The population membership inference attack and its signals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rumjax.errors import InvalidInputError
from rumjax.metrics import SIGNALS, Predictions, membership, membership_attack
from tests.references import attacks

slow = settings(deadline=None, max_examples=30)


def predictions(count, *, confidence, seed, classes=4):
    """Softmax probabilities whose true label's logit is raised by `confidence`."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes))
    logits[np.arange(count), labels] += confidence
    exponents = np.exp(logits)
    return Predictions(exponents / exponents.sum(axis=1, keepdims=True), labels)


@st.composite
def some_predictions(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 5)))
    raw = draw(arrays.arrays(np.float64, shape, elements=st.floats(0.01, 1)))
    labels = draw(arrays.arrays(np.int64, shape[:1], elements=st.integers(0, shape[1] - 1)))
    return Predictions(raw / raw.sum(axis=1, keepdims=True), labels)


@slow
@given(some_predictions())
def test_signals_are_those_of_the_definitions(found):
    wanted = {
        "confidence": [row[y] for row, y in zip(*found, strict=True)],
        "correctness": [float(row.argmax() == y) for row, y in zip(*found, strict=True)],
        "entropy": attacks.entropy(found.probabilities),
        "modified_entropy": attacks.modified_entropy(*found),
        "probabilities": found.probabilities,
    }
    assert wanted.keys() == SIGNALS.keys()
    for name, signal in SIGNALS.items():
        np.testing.assert_allclose(signal(*found), wanted[name], atol=1e-12, err_msg=name)


def test_entropies_are_finite_where_a_probability_is_zero_or_one():
    certain = np.array([[1.0, 0.0, 0.0]])
    assert membership.entropy(certain, np.array([0])) == pytest.approx([0.0])
    assert membership.modified_entropy(certain, np.array([0])) == pytest.approx([0.0])
    wrong = membership.modified_entropy(certain, np.array([1]))
    assert np.isfinite(wrong).all()
    assert wrong > 100


def test_the_attack_is_the_plain_one_where_all_of_both_sides_are_used():
    retain = predictions(80, confidence=3, seed=0)
    test = predictions(80, confidence=1, seed=1)
    forget = predictions(50, confidence=2, seed=2)
    found = membership_attack(retain, test, forget)
    assert found == attacks.confidence_attack(retain, test, forget)
    assert 0 < found < 1


@pytest.mark.parametrize("signal", ["confidence", "modified_entropy"])
def test_the_attack_tells_what_looks_like_members_from_what_looks_like_test(signal):
    retain = predictions(200, confidence=12, seed=0)
    test = predictions(200, confidence=-12, seed=1)
    for confidence, wanted in ((12, 0.0), (-12, 1.0)):
        forget = predictions(40, confidence=confidence, seed=2)
        assert membership_attack(retain, test, forget, signal=signal) == wanted


def test_the_attack_is_at_a_loss_where_members_and_test_are_alike():
    sides = [predictions(300, confidence=1, seed=seed) for seed in (0, 1)]
    found = [
        membership_attack(*sides, predictions(200, confidence=1, seed=seed)) for seed in range(2, 6)
    ]
    # A classifier of noise may lean to one side; it cannot be sure.
    assert 0.05 < np.mean(found) < 0.95


def test_the_order_of_the_forget_set_does_not_matter():
    retain, test, forget = (predictions(60, confidence=2, seed=seed) for seed in range(3))
    order = np.random.default_rng(0).permutation(60)
    again = membership_attack(retain, test, forget.at(order))
    assert membership_attack(retain, test, forget) == again


def test_sides_are_balanced_whichever_is_larger(monkeypatch):
    seen = []

    class Spy(membership.SVC):
        def fit(self, features, members):
            seen.append((members == 1).sum() - (members == 0).sum())
            seen.append(len(members))
            return super().fit(features, members)

    monkeypatch.setattr(membership, "SVC", Spy)
    small, large = (predictions(count, confidence=2, seed=0) for count in (20, 50))
    for retain, test, samples, wanted in (
        (small, large, None, 40),
        (large, small, None, 40),
        (large, large, 10, 20),
    ):
        membership_attack(retain, test, small, samples=samples)
        assert seen == [0, wanted]
        seen.clear()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Predictions(np.full((5, 2), np.nan), np.zeros(5, int)), "not finite"),
        (Predictions(np.full((5, 2), 3.0), np.zeros(5, int)), "sum to 1"),
        (Predictions(np.full((5, 2), 0.5), np.zeros(4, int)), "5 predictions for 4"),
        (Predictions(np.empty((0, 2)), np.empty(0, int)), "at least 1"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_are_no_probabilities_is_refused_by_name(broken, message, place):
    sides = [predictions(20, confidence=1, seed=0)] * 3
    sides[place] = broken
    with pytest.raises(InvalidInputError, match=message) as caught:
        membership_attack(*sides)
    assert str(caught.value).startswith(("retain", "test", "forget")[place])


def test_an_unknown_signal_is_refused():
    sides = [predictions(20, confidence=1, seed=0)] * 3
    with pytest.raises(InvalidInputError, match="did you mean 'entropy'"):
        membership_attack(*sides, signal="entrpy")


def test_the_entropy_of_a_fair_coin_is_log_two():
    fair = np.array([[0.5, 0.5]])
    assert membership.entropy(fair, np.array([0])) == pytest.approx([math.log(2)])
