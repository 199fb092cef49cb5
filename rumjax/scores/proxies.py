"""Proxies of memorization, most of them from the original model during its own training.

(Zhao & Triantafillou, arXiv 2410.16516; Jiang et al., ICML 2021.) NumPy on the host; proxies that
need gradients come from `rumjax.gradients`.
"""

import numpy as np

from rumjax.errors import InvalidInputError, check_choice, check_floats, check_labels
from rumjax.types import Scores

PROXIES = ("c_proxy", "max_confidence", "entropy", "binary_accuracy")
"""Proxies that need predictions alone, made whenever an original model is trained."""
GRADIENT_PROXIES = ("loss_curvature", "self_influence")
"""Proxies that take gradients after every epoch, functions of `rumjax.gradients`."""
EXTRA_PROXIES = ("holdout_retraining", *GRADIENT_PROXIES)
"""Proxies that cost more than predictions."""


class TrainingDynamics:
    """Means over the epochs of training of a model's predictions on its training examples.

    Examples:
      >>> dynamics = TrainingDynamics(np.array([0, 1]))
      >>> dynamics.add(np.array([[0.5, 0.5], [0.0, 1.0]], np.float32))
      >>> dynamics.add(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
      >>> dynamics.scores()["c_proxy"].values
      array([-0.75, -1.  ], dtype=float32)
    """

    def __init__(self, labels: np.ndarray) -> None:
        """Starts with no epoch seen; `labels` is int32[N]."""
        self.labels = check_labels("training dynamics, labels", labels)
        self.epochs = 0
        self.sums = {name: np.zeros(len(labels)) for name in PROXIES}

    def add(self, probabilities: np.ndarray, **measured: np.ndarray) -> None:
        """Adds one epoch.

        Args:
          probabilities: the softmax's, float32[N, K], without augmentation.
          **measured: some of `GRADIENT_PROXIES`, float32[N]; the same after every epoch.

        Raises:
          InvalidInputError: another shape, numbers that are not finite, or measured by other names
            than before.
        """
        # Predictions and measures of all examples, the same measures as before.
        probabilities = check_floats("probabilities", probabilities, "N", "K")
        if len(probabilities) != len(self.labels):
            raise InvalidInputError(
                f"probabilities: wanted [{len(self.labels)}, K], got {list(probabilities.shape)}"
            )
        check_labels("training dynamics", self.labels, num_classes=probabilities.shape[1])
        for name, values in measured.items():
            check_choice("measure of an epoch", name, GRADIENT_PROXIES)
            measured[name] = check_floats(name, values, "N")
            if len(measured[name]) != len(self.labels):
                raise InvalidInputError(
                    f"{name}: wanted [{len(self.labels)}], got [{len(measured[name])}]"
                )
        if self.epochs and {*PROXIES, *measured} != set(self.sums):
            raise InvalidInputError(
                "training dynamics: wanted the same measures after every epoch, "
                f"{sorted(set(self.sums) - {*PROXIES})} as before, got {sorted(measured)}"
            )

        # The sums over epochs.
        for name, values in measured.items():
            self.sums[name] = self.sums.get(name, 0.0) + values.astype(np.float64)
        probabilities = probabilities.astype(np.float64)
        logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        self.epochs += 1
        self.sums["c_proxy"] += probabilities[np.arange(len(self.labels)), self.labels]
        self.sums["max_confidence"] += probabilities.max(axis=1)
        self.sums["entropy"] += np.sum(probabilities * logs, axis=1)
        self.sums["binary_accuracy"] += probabilities.argmax(axis=1) == self.labels

    def scores(self) -> dict[str, Scores]:
        """Returns the proxies by name, averaged over the epochs; larger means more memorized.

        c_proxy is the true label's probability, max_confidence the largest probability, entropy the
        sum of p·log p, binary_accuracy 1 for a right prediction; therefore these are NEGATED.

        Raises:
          InvalidInputError: no epoch was added.
        """
        if self.epochs == 0:
            raise InvalidInputError("training dynamics: no epoch was added")
        # The more certain or right predictions were, the less is memorized.
        return {
            name: Scores(((-total if name in PROXIES else total) / self.epochs).astype(np.float32))
            for name, total in self.sums.items()
        }


def holdout_retraining(before: np.ndarray, after: np.ndarray) -> Scores:
    """Scores by how much predictions move when a copy of θo is fine-tuned on unseen data.

    (Carlini et al., arXiv 1910.13427, section 3.2; Zhao & Triantafillou, arXiv 2410.16516.) Take
    validation data: the test set is for judging.

    Args:
      before: θo's softmax probabilities on D, float[N, K].
      after: the copy's.

    Raises:
      InvalidInputError: shapes differ, or one of the models diverged.

    Examples:
      >>> before, after = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.1, 0.9]])
      >>> holdout_retraining(before, after).values.round(2)
      array([0.  , 1.76], dtype=float32)
    """
    return Scores(symmetric_kl(before, after).astype(np.float32))


def symmetric_kl(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns ½·KL(p‖q) + ½·KL(q‖p) in nats of rows of float[N, K] probabilities; float64[N].

    0·log 0 = 0. In logarithms, probabilities are bounded below by the smallest normal float32, so
    that the divergence is finite where one model excludes what the other does not.

    Raises:
      InvalidInputError: shapes that differ or are not [N, K], or numbers that are not finite.

    Examples:
      >>> symmetric_kl(np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])).round(2)
      array([1.76])
    """
    p, q = (
        check_floats("symmetric KL, probabilities", probabilities, "N", "K").astype(np.float64)
        for probabilities in (first, second)
    )
    if p.shape != q.shape or p.min(initial=0) < 0 or q.min(initial=0) < 0:
        raise InvalidInputError(
            "symmetric KL: wanted [N, K] probabilities of both models, none negative, got "
            f"{list(p.shape)} and {list(q.shape)}"
        )
    # ½ Σ (p − q)(log p − log q) is both divergences at once.
    least = np.finfo(np.float32).tiny
    difference = np.log(np.maximum(p, least)) - np.log(np.maximum(q, least))
    return np.sum((p - q) * difference, axis=1) / 2
