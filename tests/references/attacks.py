"""Signals of membership attacks, one example and one class at a time."""

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


def confidence_attack(retain, test, forget):
    """The fraction of S called non-member by an SVM trained on all of R and T, of equal size."""
    features = [
        [row[label]]
        for rows, labels in (retain, test)
        for row, label in zip(rows, labels, strict=True)
    ]
    members = [1] * len(retain[1]) + [0] * len(test[1])
    attack = SVC(C=3, kernel="rbf", gamma="auto").fit(features, members)
    rows, labels = forget
    called = attack.predict(
        np.array([[row[label]] for row, label in zip(rows, labels, strict=True)])
    )
    return sum(1 for each in called if each == 0) / len(labels)
