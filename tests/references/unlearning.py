"""The gradients that each algorithm descends along, step by step, in NumPy.

Every twin is a generator of functions from parameters to a gradient, one per step of SGD. It is
given the indices of the batches in the order in which they were drawn, a list per epoch.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tests.references.network import Network, softmax

CLASSES = 3


@dataclasses.dataclass
class Setting:
    """What a twin needs to know besides the batches."""

    network: Network
    params: Any
    """θo, in float64"""
    images: np.ndarray
    """all of them, as the network sees them"""
    labels: np.ndarray
    """per epoch, int[E, N]"""
    retain: int
    forget: int
    batch_size: int
    options: Mapping[str, float]

    def counts(self, turn, size):
        """1 for the examples of batch number `turn` of a pass over `size`; 0 for its filling."""
        return (turn * self.batch_size + np.arange(self.batch_size) < size).astype(float)

    def cross_entropy(self, epoch, chosen, counts):
        """From parameters to the gradient of the mean CE of a batch."""

        def gradient(params):
            logits, pullback = self.network(params, self.images[chosen])
            wanted = np.eye(CLASSES)[self.labels[epoch][chosen]]
            return pullback((softmax(logits) - wanted) * counts[:, None] / counts.sum())

        return gradient


def scaled(factor, tree):
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def added(first, second):
    return jax.tree.map(np.add, first, second)


def finetune(setting, epochs):
    for epoch, batches in enumerate(epochs):
        for turn, chosen in enumerate(batches):
            yield setting.cross_entropy(epoch, chosen, setting.counts(turn, setting.retain))


def l1_sparse(setting, epochs):
    for epoch, batches in enumerate(epochs):
        penalty = setting.options["penalty"] * (1 - epoch / len(epochs))
        for turn, chosen in enumerate(batches):
            descent = setting.cross_entropy(epoch, chosen, setting.counts(turn, setting.retain))
            yield lambda params, descent=descent, penalty=penalty: jax.tree.map(
                lambda g, p: g + penalty * np.sign(p), descent(params), params
            )


def neggrad(setting, epochs):
    for epoch, batches in enumerate(epochs):
        for turn, chosen in enumerate(batches):
            descent = setting.cross_entropy(epoch, chosen, setting.counts(turn, setting.forget))
            yield lambda params, descent=descent: scaled(-1, descent(params))


def neggrad_plus(setting, epochs):
    beta = setting.options["beta"]
    per_round = -(-setting.forget // setting.batch_size)
    for epoch, batches in enumerate(epochs):
        for turn, (kept, lost) in enumerate(zip(batches[::2], batches[1::2], strict=True)):
            counts = setting.counts(turn % per_round, setting.forget)
            descent = setting.cross_entropy(epoch, kept, setting.counts(turn, setting.retain))
            ascent = setting.cross_entropy(epoch, lost, counts)
            yield lambda params, descent=descent, ascent=ascent: added(
                scaled(beta, descent(params)), scaled(beta - 1, ascent(params))
            )


def scrub(setting, epochs):
    temperature = setting.options["temperature"]
    teacher = Network(setting.network.stats, update=False)

    def divergence(chosen, counts):
        images = setting.images[chosen]
        taught = softmax(teacher(setting.params, images)[0] / temperature)

        def gradient(params):
            logits, pullback = setting.network(params, images)
            difference = softmax(logits / temperature) - taught
            return pullback(temperature * difference * counts[:, None] / counts.sum())

        return gradient

    def balanced(epoch, chosen, counts):
        descent = setting.cross_entropy(epoch, chosen, counts)
        distill = divergence(chosen, counts)

        def gradient(params):
            supervised = scaled(setting.options["gamma"], descent(params))
            # The student sees a batch once, so its statistics are updated once.
            stats = jax.tree.map(np.copy, setting.network.stats)
            distilled = scaled(setting.options["beta"], distill(params))
            setting.network.stats = stats
            return added(supervised, distilled)

        return gradient

    for epoch, batches in enumerate(epochs):
        maximize = epoch < setting.options["max_epochs"]
        passes = -(-setting.forget // setting.batch_size) if maximize else 0
        for turn, chosen in enumerate(batches[:passes]):
            ascent = divergence(chosen, setting.counts(turn, setting.forget))
            yield lambda params, ascent=ascent: scaled(-1, ascent(params))
        for turn, chosen in enumerate(batches[passes:]):
            yield balanced(epoch, chosen, setting.counts(turn, setting.retain))


def random_label(setting, epochs):
    for epoch, batches in enumerate(epochs):
        for turn, chosen in enumerate(batches):
            counts = setting.counts(turn, setting.retain + setting.forget)
            yield setting.cross_entropy(epoch, chosen, counts)


def saliency_mask(gradient, fraction):
    """True for the largest magnitudes among all leaves together, the earlier of equals first."""
    leaves, structure = jax.tree.flatten(gradient)
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves])
    kept = np.zeros(flat.size, bool)
    kept[np.argsort(-np.abs(flat), kind="stable")[: int(fraction * flat.size)]] = True
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = [
        part.reshape(leaf.shape) for part, leaf in zip(np.split(kept, ends), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


STEPS = {
    "retrain": finetune,
    "finetune": finetune,
    "l1_sparse": l1_sparse,
    "neggrad": neggrad,
    "neggrad_plus": neggrad_plus,
    "scrub": scrub,
    "random_label": random_label,
    "salun": random_label,
}
