"""Losses of matching outputs and their derivatives by logits, and datamodels by dense ridge."""

import numpy as np

from tests.references.network import softmax


def centred_distance(logits, wanted):
    """The mean of ‖centred difference‖² over examples, and its derivative."""
    difference = logits - wanted
    difference = difference - difference.mean(axis=1, keepdims=True)
    return np.mean((difference**2).sum(1)), 2 * difference / len(logits)


def margin_distance(logits, labels, wanted):
    """The mean of (φ − φ*)², φ the log-odds of the label, and its derivative."""
    shares = softmax(logits)
    true = shares[np.arange(len(labels)), labels]
    difference = np.log(true / (1 - true)) - wanted
    one = np.eye(logits.shape[1])[labels]
    # d log(p / (1 − p)) = d p / (p (1 − p)), and d p = p (1{k = y} − p_k).
    slope = (one - shares) / (1 - true)[:, None]
    return np.mean(difference**2), 2 * difference[:, None] * slope / len(logits)


def ridge(memberships, outputs, features, own, penalty):
    """Coefficients of one output by least squares: intercept, own if it has one, features.

    Neither intercept nor own is penalized. Returns them, the design, and where features begin.
    """
    seen = memberships.astype(float)
    free = [np.ones(len(outputs))] + ([seen[:, own]] if own >= 0 else [])
    design = np.hstack([np.stack(free, 1), seen[:, features]])
    weight = np.diag([0.0] * len(free) + [penalty] * len(features))
    normal = design.T @ design + weight
    return np.linalg.lstsq(normal, design.T @ outputs, rcond=None)[0], design, len(free)


def removal(memberships, outputs, forget, features, own, penalty):
    """The effect of removing S, and the error on models left out, of one output."""
    found, design, free = ridge(memberships, outputs, features, own, penalty)
    position = {int(example): free + place for place, example in enumerate(features)}
    effect = -sum(found[position[int(example)]] for example in forget)
    if own >= 0 and own in forget:
        effect -= found[1]
    errors = []
    for left in range(len(outputs)):
        kept = np.arange(len(outputs)) != left
        refit, _, _ = ridge(memberships[kept], outputs[kept], features, own, penalty)
        errors.append(outputs[left] - design[left] @ refit)
    return effect, np.sqrt(np.mean(np.square(errors)))
