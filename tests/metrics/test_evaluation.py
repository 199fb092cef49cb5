"""A line of the results, computed again by hand."""

import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.metrics import Predictions, compare, disagreement, measure, membership_attack

PARTS = {"low": np.array([1, 4, 7]), "high": np.array([2, 9])}
LABELS = np.random.default_rng(9).integers(0, 3, 40)
TEST_LABELS = np.random.default_rng(8).integers(0, 3, 30)


def softmax(count, seed):
    raw = np.exp(np.random.default_rng(seed).normal(size=(count, 3)))
    return raw / raw.sum(axis=1, keepdims=True)


def measured(seed):
    train = Predictions(softmax(40, seed), LABELS)
    test = Predictions(softmax(30, seed + 50), TEST_LABELS)
    return train, test, measure(train, test, ForgetSet.of(PARTS, len(train.labels)), seed=3)


def test_every_column_is_what_its_definition_says():
    train_u, test_u, unlearned = measured(0)
    train_r, test_r, oracle = measured(1)
    row = compare(unlearned, oracle)
    forget = np.array([1, 4, 7, 2, 9])
    retain = np.array([i for i in range(40) if i not in forget])

    def accuracy(predictions, chosen):
        pairs = [(predictions.probabilities[i].argmax(), predictions.labels[i]) for i in chosen]
        return sum(a == b for a, b in pairs) / len(pairs)

    ours = [accuracy(train_u, forget), accuracy(train_u, retain), accuracy(test_u, range(30))]
    theirs = [accuracy(train_r, forget), accuracy(train_r, retain), accuracy(test_r, range(30))]
    names = ["forget_accuracy", "retain_accuracy", "test_accuracy"]
    assert [row[name] for name in names] == pytest.approx(ours)
    delta = np.abs(np.subtract(ours, theirs))
    assert row["tow"] == pytest.approx(np.prod(1 - delta))
    attacks = [
        membership_attack(train.at(retain), test, train.at(forget), seed=3)
        for train, test in ((train_u, test_u), (train_r, test_r))
    ]
    gap = abs(attacks[0] - attacks[1])
    assert row["mia"] == attacks[0]
    assert row["mia_gap"] == pytest.approx(gap)
    assert row["tow_mia"] == pytest.approx((1 - gap) * (1 - delta[1]) * (1 - delta[2]))
    differ = [
        train_u.probabilities[i].argmax() != train_r.probabilities[i].argmax() for i in forget
    ]
    assert row["disagreement"] == pytest.approx(100 * np.mean(differ))
    for name, part in PARTS.items():
        part_delta = abs(accuracy(train_u, part) - accuracy(train_r, part))
        wanted = (1 - part_delta) * (1 - delta[1]) * (1 - delta[2])
        assert row[f"tow_{name}"] == pytest.approx(wanted)
        assert row[f"forget_accuracy_{name}"] == pytest.approx(accuracy(train_u, part))


def test_disagreement_is_a_percentage():
    assert disagreement(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2])) == 25.0
    assert disagreement(np.array([1, 0]), np.array([0, 1])) == 100.0


@pytest.mark.parametrize("counts", [(3, 1), (2, 3), (0, 0)])
def test_disagreement_of_different_examples_is_refused(counts):
    with pytest.raises(InvalidInputError, match="of the same examples"):
        disagreement(*(np.zeros(count, int) for count in counts))


def test_the_oracle_against_itself_is_perfect():
    _, _, oracle = measured(1)
    row = compare(oracle, oracle)
    assert row["tow"] == row["tow_mia"] == row["tow_low"] == row["tow_high"] == 1
    gaps = [value for name, value in row.items() if name.startswith(("mia_gap", "disagreement"))]
    assert gaps == [0.0] * len(gaps)
    assert len(gaps) == 8


def test_the_order_of_the_parts_does_not_matter():
    train, test, unlearned = measured(0)
    turned = measure(
        train, test, ForgetSet.of(dict(reversed(PARTS.items())), len(train.labels)), seed=3
    )
    assert turned.accuracies == unlearned.accuracies
    assert turned.attacks == pytest.approx(unlearned.attacks)
