"""Importances of parameters and what is made of them, example by example in NumPy and float64."""

import jax
import numpy as np

from tests.references.network import Network, softmax

CLASSES = 3


class Importances:
    """Gradients of the small network at given variables, as rows over all its parameters."""

    def __init__(self, variables, data):
        self.params, stats = jax.tree.map(lambda leaf: np.array(leaf, np.float64), variables)
        self.network = Network(stats, update=False)
        self.images = np.asarray(data.images, np.float64)
        self.labels = np.asarray(data.labels)

    def row(self, chosen, slopes):
        """Σ of the gradients of examples, given the gradients by their logits; float64[d]."""
        _, pullback = self.network(self.params, self.images[chosen])
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(pullback(slopes))])

    def logits(self, chosen):
        return self.network(self.params, self.images[chosen])[0]

    def slopes(self, chosen):
        return softmax(self.logits(chosen)) - np.eye(CLASSES)[self.labels[chosen]]

    def squares(self, chosen):
        """Mean (∇ CE)²."""
        return np.mean([self.row([i], self.slopes([i])) ** 2 for i in chosen], axis=0)

    def batch_squares(self, batches):
        """Mean over batches of (∇ of the mean CE)²."""
        means = [self.row(batch, self.slopes(batch)) / len(batch) for batch in batches]
        return np.mean(np.square(means), axis=0)

    def sensitivity(self, chosen):
        """Mean |∇ ‖z‖²|."""
        return np.mean([np.abs(self.row([i], 2 * self.logits([i]))) for i in chosen], axis=0)

    def fisher(self, chosen):
        """Mean Σ_y p_y (∇ CE(x, y))²."""
        total = 0
        for i in chosen:
            p = softmax(self.logits([i]))
            for label in range(CLASSES):
                slope = p - np.eye(CLASSES)[[label]]
                total = total + p[0, label] * self.row([i], slope) ** 2
        return total / len(chosen)


def dampened(flat, of_forget, of_all, alpha, dampening):
    """The parameters after selective synaptic dampening, one after another, and how many are."""
    after, selected = flat.copy(), 0
    for j, (first, second) in enumerate(zip(of_forget, of_all, strict=True)):
        if first > alpha * second:
            after[j] *= min(dampening * second / first, 1)
            selected += 1
    return after, selected


def percentile(of_forget, of_all, share):
    """α of ASSD."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = of_forget / of_all
    return np.percentile(ratios[np.isfinite(ratios)], 100 - np.log(1 + 100 * share))
