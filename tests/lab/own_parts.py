"""What a user may bring: an algorithm, a score, a refinement, a forget set, a measure, and data."""

import jax
import numpy as np

from rumjax import data, finetune
from rumjax.models import predict

SIZE = 120


def images(data_dir):
    """The tiny data set, read by a function of one's own."""
    return data.load("npz", data_dir=data_dir)


def gentle(model, *, epochs=1, strength=0.5, **options):
    """An algorithm: fine-tuning at a rate of its own."""
    return finetune(model, epochs=epochs, learning_rate=0.02 * strength, **options)


def uncertainty(model, variables, data):
    """A score: one less the confidence in the label."""
    shares = jax.nn.softmax(predict(model, variables, data.images).logits)
    return 1 - shares[np.arange(len(data.labels)), data.labels]


def halves(parts, seed):
    """A refinement: random halves."""

    def refine(forget):
        shuffled = np.random.default_rng(seed).permutation(forget)
        return dict(zip(parts, np.array_split(shuffled, 2), strict=True))

    return refine


def every(labels, step):
    """A forget set: every so-manyth example."""
    return {"every": np.arange(0, len(labels), step)}


def agreement(outputs, oracle):
    """A measure: how often a model predicts what its oracle does."""
    return np.mean(outputs.logits.argmax(axis=1) == oracle.logits.argmax(axis=1))


def nothing(oracle):
    """A measure of no number, but one for each model."""
    return np.nan


def several(outputs):
    """No measure: it has more than one number."""
    return outputs.logits[:3, 0]


def too_short(data):
    """No score: it lacks an example."""
    return np.zeros(len(data.labels) - 1)
