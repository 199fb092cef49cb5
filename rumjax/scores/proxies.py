"""Proxies of memorization, from the predictions of the original model during its own training.

(Zhao & Triantafillou, arXiv 2410.16516; Jiang et al., ICML 2021.) NumPy on the host.
"""

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.types import Scores

PROXIES = ("c_proxy", "max_confidence", "entropy", "binary_accuracy")


class TrainingDynamics:
    """Means over the epochs of training of what a model says of its training examples."""

    def __init__(self, labels: np.ndarray) -> None:
        """Starts with no epoch seen; `labels` is int32[N]."""
        self.labels = labels
        self.epochs = 0
        self.sums = {name: np.zeros(len(labels)) for name in PROXIES}

    def add(self, probabilities: np.ndarray) -> None:
        """Takes in one epoch's softmax probabilities, float32[N, K], without augmentation."""
        if probabilities.shape[0] != len(self.labels) or not np.isfinite(probabilities).all():
            raise InvalidInputError(
                f"probabilities: wanted finite [{len(self.labels)}, K], "
                f"got {list(probabilities.shape)}"
            )
        probabilities = probabilities.astype(np.float64)
        logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        self.epochs += 1
        self.sums["c_proxy"] += probabilities[np.arange(len(self.labels)), self.labels]
        self.sums["max_confidence"] += probabilities.max(axis=1)
        self.sums["entropy"] += np.sum(probabilities * logs, axis=1)
        self.sums["binary_accuracy"] += probabilities.argmax(axis=1) == self.labels

    def scores(self) -> dict[str, Scores]:
        """The four proxies by name, each NEGATED so that larger means more memorized.

        c_proxy is the true label's probability, max_confidence the largest one, entropy the sum of
        p·log p, binary_accuracy whether the prediction is right; all averaged over the epochs.

        Raises:
          InvalidInputError: no epoch was added.
        """
        if self.epochs == 0:
            raise InvalidInputError("training dynamics: no epoch was added")
        return {
            name: Scores((-total / self.epochs).astype(np.float32))
            for name, total in self.sums.items()
        }
