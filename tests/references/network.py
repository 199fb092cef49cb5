"""The network of tests/conftest.py in NumPy and float64, derivatives worked out by hand."""

import jax
import numpy as np

EPSILON = 1e-5
MOMENTUM = 0.9


class Network:
    """Logits and their pullback; running statistics as they are used, or updated, on the way."""

    def __init__(self, batch_stats, *, update):
        self.stats = jax.tree.map(lambda leaf: np.array(leaf, np.float64), batch_stats)
        self.update = update

    def __call__(self, params, images):
        """float64[B, K] logits, and the function from their cotangent to that of `params`."""
        flat = images.reshape(len(images), -1) / 255
        hidden = flat @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
        normed, normed_pullback = hidden, lambda cotangent: (cotangent, {})
        if self.stats:
            normed, normed_pullback = self.batch_norm(params["BatchNorm_0"], hidden)
        active = np.maximum(normed, 0)
        logits = active @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]

        def pullback(cotangent):
            at_hidden, others = normed_pullback(
                cotangent @ params["Dense_1"]["kernel"].T * (normed > 0)
            )
            return {
                "Dense_0": {"kernel": flat.T @ at_hidden, "bias": at_hidden.sum(0)},
                "Dense_1": {"kernel": active.T @ cotangent, "bias": cotangent.sum(0)},
                **others,
            }

        return logits, pullback

    def batch_norm(self, params, hidden):
        stats = self.stats["BatchNorm_0"]
        mean, variance = stats["mean"], stats["var"]
        if self.update:
            mean, variance = hidden.mean(0), hidden.var(0)
            for name, value in (("mean", mean), ("var", variance)):
                stats[name] = MOMENTUM * stats[name] + (1 - MOMENTUM) * value
        deviation = np.sqrt(variance + EPSILON)
        standard = (hidden - mean) / deviation

        def pullback(cotangent):
            at_standard = cotangent * params["scale"]
            gradient = {"scale": (cotangent * standard).sum(0), "bias": cotangent.sum(0)}
            if self.update:
                # Mean and variance depend on every example of the batch.
                along = standard * (at_standard * standard).mean(0)
                at_standard = at_standard - at_standard.mean(0) - along
            return at_standard / deviation, {"BatchNorm_0": gradient}

        return standard * params["scale"] + params["bias"], pullback


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
