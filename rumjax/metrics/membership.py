"""The population membership inference attack: the part of S that a classifier takes for unseen.

A support-vector machine learns to tell members (a sample of R) from non-members (T) by one signal
of the model's predictions, and is applied to S (Song & Mittal, USENIX Security 2021; Zhao et al.,
NeurIPS 2024, appendix). What counts is its distance from the same attack on the oracle.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from rumjax.errors import (
    InvalidInputError,
    check_choice,
    check_count,
    check_floats,
    check_labels,
)


class Predictions(NamedTuple):
    """A model's predictions on labelled examples.

    Examples:
      >>> predictions = Predictions(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
      >>> predictions.at(np.array([1])).probabilities
      array([[0.2, 0.8]])
    """

    probabilities: np.ndarray
    """float[N, K], rows sum to 1"""
    labels: np.ndarray
    """int[N]"""

    def at(self, indices: np.ndarray) -> "Predictions":
        """Returns those of some of the examples, int[n]."""
        return Predictions(self.probabilities[indices], self.labels[indices])


def confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the true label's probability, float[N].

    Examples:
      >>> confidence(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
      array([0.9, 0.2])
    """
    probabilities, labels = check_predictions("confidence", Predictions(probabilities, labels))
    return probabilities[np.arange(len(labels)), labels]


def correctness(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 1 where the prediction is right, else 0; float[N].

    Examples:
      >>> correctness(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
      array([1., 0.])
    """
    probabilities, labels = check_predictions("correctness", Predictions(probabilities, labels))
    return (probabilities.argmax(axis=1) == labels).astype(np.float64)


def entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns −Σ p log p in nats, with 0·log 0 = 0; float[N].

    Examples:
      >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0])).round(3) + 0.0
      array([0.693, 0.   ])
    """
    probabilities, _ = check_predictions("entropy", Predictions(probabilities, labels))
    return -np.sum(probabilities * _log(probabilities), axis=1)


def modified_entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns −(1−p_y) log p_y − Σ_{k≠y} p_k log(1−p_k) in nats; float[N].

    (Song & Mittal, 2021, equation 7.) Logarithms are bounded at the smallest positive float.

    Examples:
      >>> modified_entropy(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0, 0])).round(3)
      array([0.021, 4.145])
    """
    predictions = Predictions(probabilities, labels)
    probabilities, labels = check_predictions("modified entropy", predictions)
    rows = np.arange(len(labels))
    true = probabilities[rows, labels]
    others = probabilities * _log(1 - probabilities)
    others[rows, labels] = 0.0
    return -(1 - true) * _log(true) - others.sum(axis=1)


def full_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns all probabilities, float[N, K]."""
    del labels
    return probabilities


def _log(values: np.ndarray) -> np.ndarray:
    """Returns logarithms, of the smallest positive float where a value is below it."""
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


SIGNALS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "confidence": confidence,
    "correctness": correctness,
    "entropy": entropy,
    "modified_entropy": modified_entropy,
    "probabilities": full_probabilities,
}
"""Signals that an attack may use; "the" MIA of the RUM paper uses `confidence`."""


def membership_attack(
    retain: Predictions,
    test: Predictions,
    forget: Predictions,
    *,
    signal: str = "confidence",
    samples: int | None = None,
    seed: int = 0,
) -> float:
    """Returns the fraction of S that the attack takes for non-members, in 0…1.

    Args:
      retain: predictions on R; a random sample of them are the members.
      test: predictions on T, the non-members.
      forget: predictions on S.
      signal: see `SIGNALS`.
      samples: examples a side; by default all of T, or as many as R has if those are fewer.
      seed: of the samples.

    Raises:
      InvalidInputError: an unknown signal, an empty set, no samples, rows that are no
        probabilities, or labels of no class.

    Examples:
      >>> sure = Predictions(np.tile([[0.99, 0.01]], (8, 1)), np.zeros(8, int))
      >>> unsure = Predictions(np.tile([[0.6, 0.4]], (8, 1)), np.zeros(8, int))
      >>> membership_attack(retain=sure, test=unsure, forget=sure)
      0.0
      >>> membership_attack(retain=sure, test=unsure, forget=unsure)
      1.0
    """
    extract = SIGNALS[check_choice("signal", signal, SIGNALS)]
    retain, test, forget = (
        check_predictions(name, predictions)
        for name, predictions in {"retain": retain, "test": test, "forget": forget}.items()
    )

    if len({one.probabilities.shape[1] for one in (retain, test, forget)}) > 1:
        raise InvalidInputError(
            "membership attack: retain, test and forget set have predictions of different numbers "
            "of classes; take those of one model"
        )

    # As many members as non-members, drawn at random.
    count = min(len(retain.labels), len(test.labels))
    if samples is not None:
        count = min(count, check_count("samples", samples))
    random = np.random.default_rng(seed)
    members = retain.at(random.choice(len(retain.labels), count, replace=False))
    others = test.at(random.choice(len(test.labels), count, replace=False))

    # The machine learns from the signal alone.
    def features(predictions: Predictions) -> np.ndarray:
        values = extract(predictions.probabilities.astype(np.float64), predictions.labels)
        return values.reshape(len(values), -1)

    attack = _fit(np.concatenate([features(members), features(others)]), np.repeat([1, 0], count))
    return float(np.mean(attack.predict(features(forget)) == 0))


def all_attacks(
    retain: Predictions,
    test: Predictions,
    forget: Predictions,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Runs `membership_attack` by each of `SIGNALS`, at once: libsvm lets other threads run.

    Returns:
      The fraction of S taken for non-members, by signal.

    Examples:
      >>> sure = Predictions(np.tile([[0.99, 0.01]], (8, 1)), np.zeros(8, int))
      >>> unsure = Predictions(np.tile([[0.6, 0.4]], (8, 1)), np.zeros(8, int))
      >>> all_attacks(retain=sure, test=unsure, forget=unsure)["entropy"]
      1.0
    """

    def attack(signal: str) -> float:
        return membership_attack(retain, test, forget, signal=signal, samples=samples, seed=seed)

    with ThreadPoolExecutor() as pool:
        return dict(zip(SIGNALS, pool.map(attack, SIGNALS), strict=True))


def _fit(features: np.ndarray, members: np.ndarray) -> Any:
    """Fits the support-vector machine of the attack to float[n, F] and 0 or 1 [n].

    An example that occurs w times is one of weight w: the same optimum, since w multipliers of at
    most C act as one of at most w·C, and gamma = 1/F does not look at the examples. Confidences
    that saturate at 1 are many and alike, and the time grows with the square of the examples.
    """
    from sklearn.svm import SVC

    rows, first, counts = np.unique(
        np.column_stack([features, members]), axis=0, return_index=True, return_counts=True
    )
    # In the order of first occurrence, so that without repetitions the problem is untouched.
    order = np.argsort(first)
    attack = SVC(C=3.0, kernel="rbf", gamma="auto")
    attack.fit(rows[order, :-1], members[first[order]], sample_weight=counts[order])
    return attack


def check_predictions(name: str, predictions: Predictions) -> Predictions:
    """Returns predictions as float[n, K] and int32[n], if their labels are among their classes.

    Raises:
      InvalidInputError: no predictions, other shapes, rows that are no probabilities, or labels of
        no class.
    """
    if not isinstance(predictions, tuple) or len(predictions) != 2:
        raise InvalidInputError(
            f"{name}: wanted Predictions(probabilities, labels), got {type(predictions).__name__}"
        )
    probabilities = check_probabilities(name, predictions[0])
    labels = check_labels(
        f"{name}, labels",
        predictions[1],
        size=len(probabilities),
        num_classes=probabilities.shape[1],
    )
    return Predictions(probabilities, labels)


def check_probabilities(name: str, probabilities: np.ndarray) -> np.ndarray:
    """Returns softmax probabilities, float[n, K] of at least one example.

    Raises:
      InvalidInputError: some are not finite or negative, or a row does not sum to 1.
    """
    probabilities = check_floats(f"{name}, probabilities", probabilities, "n", "K")
    if probabilities.size == 0:
        raise InvalidInputError(f"{name}: no predictions; at least one is needed")
    if np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3 or probabilities.min() < 0:
        raise InvalidInputError(f"{name}: rows must be probabilities that sum to 1, not logits")
    return probabilities
