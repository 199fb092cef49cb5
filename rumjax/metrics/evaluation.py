"""A line of the results: an unlearned model held against the oracle of the same seed."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.metrics.membership import Predictions, all_attacks
from rumjax.metrics.tow import Accuracies, tug_of_war, tug_of_war_mia


class Measured(NamedTuple):
    """What there is to know of one model on its own."""

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
    parts: Mapping[str, np.ndarray],
    *,
    samples: int | None = None,
    seed: int = 0,
) -> Measured:
    """Measures a model by its predictions.

    Args:
      train: on D.
      test: on T.
      parts: S as named disjoint parts, indices into D; R is the rest of D.
      samples: see `membership_attack`.
      seed: of the attacks' samples; compare models measured with the same.
    """
    forget = np.concatenate(list(parts.values()))
    retain = np.setdiff1d(np.arange(len(train.labels)), forget)
    sets = {"forget": train.at(forget), "retain": train.at(retain), "test": test}

    return Measured(
        accuracies=Accuracies(*(accuracy(each) for each in sets.values())),
        parts={name: accuracy(train.at(part)) for name, part in parts.items()},
        attacks=all_attacks(sets["retain"], test, sets["forget"], samples=samples, seed=seed),
        predicted={name: each.probabilities.argmax(axis=1) for name, each in sets.items()},
    )


def accuracy(predictions: Predictions) -> float:
    """The fraction of predictions that are right."""
    return float(np.mean(predictions.probabilities.argmax(axis=1) == predictions.labels))


def disagreement(predicted: np.ndarray, reference: np.ndarray) -> float:
    """The percentage, 0…100, of examples whose predicted classes, int[N] each, differ.

    Raises:
      InvalidInputError: no examples, or two different numbers of them.
    """
    if predicted.shape != reference.shape or predicted.size == 0:
        raise InvalidInputError(
            f"disagreement: {predicted.size} predictions against {reference.size}; "
            "both must be of the same examples, at least one"
        )
    return 100 * float(np.mean(predicted != reference))


def compare(unlearned: Measured, oracle: Measured) -> dict[str, float]:
    """The measures of an unlearned model, by the names of the columns of `results.csv`.

    `disagreement` is the percentage of S on which the predicted classes differ; `tow_low`, say, is
    ToW with the accuracy on the part "low" in place of that on S.
    """
    ours, theirs = unlearned.accuracies, oracle.accuracies
    mia, mia_oracle = unlearned.attacks["confidence"], oracle.attacks["confidence"]
    differ = {
        name: disagreement(predicted, oracle.predicted[name])
        for name, predicted in unlearned.predicted.items()
    }
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
    for signal, found in unlearned.attacks.items():
        if signal != "confidence":
            row[f"mia_{signal}"] = found
            row[f"mia_gap_{signal}"] = abs(found - oracle.attacks[signal])
    for part, found in unlearned.parts.items():
        row[f"forget_accuracy_{part}"] = found
        row[f"tow_{part}"] = tug_of_war(
            ours._replace(forget=found), theirs._replace(forget=oracle.parts[part])
        )
    return row
