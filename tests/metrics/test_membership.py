"""The population membership inference attack and its signals."""

import math

import numpy as np
import pytest
import sklearn.svm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rumjax.errors import InvalidInputError
from rumjax.metrics import SIGNALS, Predictions, all_attacks, membership, membership_attack
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


def test_mistake_9_every_row_of_the_modified_entropy_looks_at_its_own_label():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    found = membership.modified_entropy(probabilities, np.array([0, 1]))
    wanted = [
        -(0.3 * math.log(0.7) + 0.2 * math.log(0.8) + 0.1 * math.log(0.9)),
        -(0.7 * math.log(0.3) + 0.1 * math.log(0.9) + 0.6 * math.log(0.4)),
    ]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_attack_is_the_plain_one_where_all_of_both_sides_are_used(signal):
    retain = predictions(80, confidence=3, seed=0)
    test = predictions(80, confidence=1, seed=1)
    forget = predictions(50, confidence=2, seed=2)
    found = membership_attack(retain, test, forget, signal=signal)
    assert found == attacks.plain_attack(retain, test, forget, signal)
    assert 0 < found < 1


def test_repeated_examples_as_weights_leave_the_machine_what_it_was():
    random = np.random.default_rng(0)
    # Members saturate at 1, and one value in five is on both sides.
    features = np.round(np.concatenate([1 - random.exponential(0.05, 150), random.random(150)]), 2)
    features = features.clip(0, 1)[:, None]
    members = np.repeat([1, 0], 150)
    assert len(np.unique(features)) < 120
    plain = attacks.plain_machine(features, members)
    weighted = membership._fit(features, members)
    grid = np.linspace(-0.2, 1.2, 300)[:, None]
    found, wanted = weighted.decision_function(grid), plain.decision_function(grid)
    # The solver stops within 1e-3 of the optimality conditions, in units of this function.
    np.testing.assert_allclose(found, wanted, atol=5e-3)
    sure = np.abs(wanted) > 5e-3
    np.testing.assert_array_equal(weighted.predict(grid[sure]), plain.predict(grid[sure]))
    assert len(set(plain.predict(grid))) == 2


def test_without_repeated_examples_the_machine_is_the_plain_one_bit_for_bit():
    features = np.random.default_rng(0).random((120, 3))
    members = np.tile([1, 0], 60)
    plain, found = attacks.plain_machine(features, members), membership._fit(features, members)
    np.testing.assert_array_equal(found.support_, plain.support_)
    np.testing.assert_array_equal(
        found.decision_function(features), plain.decision_function(features)
    )


def test_attacks_at_once_are_those_one_after_the_other():
    sides = [predictions(60, confidence=confidence, seed=confidence) for confidence in (3, 1, 2)]
    found = all_attacks(*sides, samples=40, seed=5)
    assert found == {
        signal: membership_attack(*sides, signal=signal, samples=40, seed=5) for signal in SIGNALS
    }
    assert len(set(found.values())) > 1


@pytest.mark.parametrize("signal", ["confidence", "probabilities"])
def test_exchanging_members_and_test_turns_the_answer_round(signal):
    one, other, forget = (predictions(90, confidence=i, seed=i) for i in (0, 4, 2))
    found = membership_attack(one, other, forget, signal=signal)
    assert membership_attack(other, one, forget, signal=signal) == pytest.approx(1 - found)
    assert 0 < found < 1


def test_the_order_of_members_and_test_does_not_matter_where_all_are_used():
    retain, test, forget = (predictions(60, confidence=2, seed=seed) for seed in range(3))
    order = np.random.default_rng(0).permutation(60)
    again = membership_attack(retain.at(order), test.at(order[::-1]), forget)
    assert membership_attack(retain, test, forget) == again


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

    class Spy(sklearn.svm.SVC):
        def fit(self, features, members, sample_weight):
            seen.append(sample_weight[members == 1].sum() - sample_weight[members == 0].sum())
            seen.append(sample_weight.sum())
            return super().fit(features, members, sample_weight)

    monkeypatch.setattr(sklearn.svm, "SVC", Spy)
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
        (Predictions(np.full((5, 2), 0.5), np.zeros(4, int)), "4 labels for 5"),
        (Predictions(np.empty((0, 2)), np.empty(0, int)), "at least one"),
        (Predictions(np.full((5, 2), 0.5), np.full(5, -1)), "the first is -1"),
        (Predictions(np.full((5, 2), 0.5), np.full(5, 2)), "outside 0…1"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_are_no_probabilities_is_refused_by_name(broken, message, place):
    sides = [predictions(20, confidence=1, seed=0)] * 3
    sides[place] = broken
    with pytest.raises(InvalidInputError, match=message) as caught:
        membership_attack(*sides)
    assert str(caught.value).startswith(("retain", "test", "forget")[place])


@pytest.mark.parametrize("samples", [0, -1, 2.5])
def test_samples_that_are_no_count_are_refused(samples):
    sides = [predictions(20, confidence=1, seed=0)] * 3
    with pytest.raises(InvalidInputError, match="samples: wanted a whole number"):
        membership_attack(*sides, samples=samples)


def test_an_unknown_signal_is_refused():
    sides = [predictions(20, confidence=1, seed=0)] * 3
    with pytest.raises(InvalidInputError, match="did you mean 'entropy'"):
        membership_attack(*sides, signal="entrpy")


def test_the_entropy_of_a_fair_coin_is_log_two():
    fair = np.array([[0.5, 0.5]])
    assert membership.entropy(fair, np.array([0])) == pytest.approx([math.log(2)])


def test_predictions_of_different_classes_are_refused():
    two, three = (Predictions(np.eye(k), np.arange(k)) for k in (2, 3))
    with pytest.raises(InvalidInputError, match="different numbers of classes"):
        all_attacks(two, two, three)
