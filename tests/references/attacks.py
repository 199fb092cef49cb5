"""Membership attacks and their signals, one example and one class at a time."""

import math

import numpy as np
from sklearn.svm import SVC


def entropy(probabilities):
    return [-sum(p * math.log(p) for p in row if p > 0) for row in probabilities]


def modified_entropy(probabilities, labels):
    found = []
    for row, label in zip(probabilities, labels, strict=True):
        total = -(1 - row[label]) * math.log(row[label])
        for k, p in enumerate(row):
            if k != label and p > 0:
                total -= p * math.log(1 - p)
        found.append(total)
    return found


def features(predictions, signal):
    rows, labels = predictions
    if signal == "entropy":
        return [[each] for each in entropy(rows)]
    if signal == "modified_entropy":
        return [[each] for each in modified_entropy(rows, labels)]
    one = {
        "confidence": lambda row, label: [row[label]],
        "correctness": lambda row, label: [float(max(row) == row[label])],
        "probabilities": lambda row, label: list(row),
    }[signal]
    return [one(row, label) for row, label in zip(rows, labels, strict=True)]


def plain_machine(features, members):
    """The attack's support-vector machine, given every example as often as it occurs."""
    return SVC(C=3, kernel="rbf", gamma="auto").fit(features, members)


def plain_attack(retain, test, forget, signal):
    """The fraction of S called non-member by an SVM trained on all of R and T, of equal size."""
    both = features(retain, signal) + features(test, signal)
    attack = plain_machine(both, [1] * len(retain[1]) + [0] * len(test[1]))
    called = attack.predict(np.array(features(forget, signal)))
    return sum(1 for each in called if each == 0) / len(called)
