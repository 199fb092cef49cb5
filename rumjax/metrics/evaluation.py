"""A line of the results: an unlearned model held against the oracle of the same seed."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, check_indices, check_labels
from rumjax.forget_sets import ForgetSet
from rumjax.metrics.membership import Predictions, all_attacks, check_predictions
from rumjax.metrics.tow import Accuracies, tug_of_war, tug_of_war_mia


class Measured(NamedTuple):
    """The measures of one model on its own."""

    accuracies: Accuracies
    parts: Mapping[str, float]
    """accuracy on each part of S"""
    attacks: Mapping[str, float]
    """the fraction of S taken for non-members, by signal"""
    predicted: Mapping[str, np.ndarray]
    """predicted classes on S, R and T, as "forget", "retain", "test" """


def measure(
    train: Predictions,
    test: Predictions,
    forget_set: ForgetSet,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> Measured:
    """Measures a model by its predictions.

    Args:
      train: on D.
      test: on T.
      forget_set: S with its parts, and R.
      samples: see `membership_attack`.
      seed: of the attacks' samples; compare models measured with the same.

    Examples:
      >>> p = np.tile([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]], (5, 1))
      >>> train = Predictions(p, np.tile([0, 1], 10))
      >>> measured = measure(train, train.at(np.arange(8)), ForgetSet.of({"all": np.arange(4)}, 20))
      >>> measured.accuracies
      Accuracies(forget=1.0, retain=1.0, test=1.0)
      >>> sorted(measured.attacks)
      ['confidence', 'correctness', 'entropy', 'modified_entropy', 'probabilities']
    """
    train, test = check_predictions("train", train), check_predictions("test", test)
    if not isinstance(forget_set, ForgetSet):
        raise InvalidInputError(
            f"measure: wanted a ForgetSet of rumjax.forget_sets, got {type(forget_set).__name__}"
        )
    sets = {}
    for name, examples in {"forget": forget_set.forget, "retain": forget_set.retain}.items():
        sets[name] = train.at(check_indices(f"measure, {name} set", examples, len(train.labels)))
    sets["test"] = test
    return Measured(
        accuracies=Accuracies(*(accuracy(predictions) for predictions in sets.values())),
        parts={name: accuracy(train.at(part)) for name, part in forget_set.parts.items()},
        attacks=all_attacks(sets["retain"], test, sets["forget"], samples=samples, seed=seed),
        predicted={
            name: predictions.probabilities.argmax(axis=1) for name, predictions in sets.items()
        },
    )


def accuracy(predictions: Predictions) -> float:
    """Returns the fraction of predictions that are right.

    Examples:
      >>> accuracy(Predictions(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])))
      0.5
    """
    probabilities, labels = check_predictions("accuracy", predictions)
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def disagreement(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Returns the percentage, 0…100, of examples whose predicted classes, int[N] each, differ.

    Raises:
      InvalidInputError: no examples, or two different numbers of them.

    Examples:
      >>> disagreement(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))
      25.0
    """
    predicted = check_labels("disagreement, predicted", predicted)
    reference = check_labels("disagreement, reference", reference)
    if len(predicted) != len(reference) or len(predicted) == 0:
        raise InvalidInputError(
            f"disagreement: {predicted.size} predictions against {reference.size}; "
            "both must be of the same examples, at least one"
        )
    return 100 * float(np.mean(predicted != reference))


def compare(unlearned: Measured, oracle: Measured) -> dict[str, float]:
    """Returns the measures of an unlearned model, by the names of the columns of `results.csv`.

    `disagreement` is the percentage of S on which the predicted classes differ; `tow_low`, say, is
    ToW with the accuracy on the part "low" in place of that on S.

    Examples:
      >>> p = np.tile([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]], (5, 1))
      >>> train = Predictions(p, np.tile([0, 1], 10))
      >>> model = measure(train, train.at(np.arange(8)), ForgetSet.of({"all": np.arange(4)}, 20))
      >>> row = compare(model, model)
      >>> row["tow"], row["mia_gap"], row["disagreement"]
      (1.0, 0.0, 0.0)
    """
    ours, theirs = unlearned.accuracies, oracle.accuracies
    mia, mia_oracle = unlearned.attacks["confidence"], oracle.attacks["confidence"]
    differ = {
        name: disagreement(predicted, oracle.predicted[name])
        for name, predicted in unlearned.predicted.items()
    }

    # The columns that every model has.
    row = {
        "forget_accuracy": ours.forget,
        "retain_accuracy": ours.retain,
        "test_accuracy": ours.test,
        "mia": mia,
        "mia_gap": abs(mia - mia_oracle),
        "tow": tug_of_war(ours, theirs),
        "tow_mia": tug_of_war_mia(ours, theirs, mia, mia_oracle),
        "disagreement": differ["forget"],
        "disagreement_retain": differ["retain"],
        "disagreement_test": differ["test"],
    }

    # Attacks by other signals than the paper's.
    for signal, result in unlearned.attacks.items():
        if signal != "confidence":
            row[f"mia_{signal}"] = result
            row[f"mia_gap_{signal}"] = abs(result - oracle.attacks[signal])

    # The parts of S.
    for part, of_part in unlearned.parts.items():
        row[f"forget_accuracy_{part}"] = of_part
        row[f"tow_{part}"] = tug_of_war(
            ours._replace(forget=of_part), theirs._replace(forget=oracle.parts[part])
        )
    return row
