"""Attacks on the network of tests/conftest.py, one example at a time, in NumPy and float64."""

import numpy as np

from tests.references.network import EPSILON, softmax


def predictions(variables, images):
    """Logits of images in 0…1, [B, H, W, C], and their pullback to the images; batch norm as in
    prediction."""
    params, stats = variables
    flat = images.reshape(len(images), -1)
    hidden = flat @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    scale = np.ones(hidden.shape[1])
    if stats:
        norm, stats = params["BatchNorm_0"], stats["BatchNorm_0"]
        scale = norm["scale"] / np.sqrt(stats["var"] + EPSILON)
        hidden = (hidden - stats["mean"]) * scale + norm["bias"]
    logits = np.maximum(hidden, 0) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]

    def pullback(cotangent):
        at_hidden = cotangent @ params["Dense_1"]["kernel"].T * (hidden > 0) * scale
        return (at_hidden @ params["Dense_0"]["kernel"].T).reshape(images.shape)

    return logits, pullback


def slope(variables, image, label):
    """The class that the network sees, and the gradient of CE with respect to the image."""
    logits, pullback = predictions(variables, image[None])
    wanted = np.eye(logits.shape[1])[[label]]
    return logits[0].argmax(), pullback(softmax(logits) - wanted)[0]


def attack(variables, image, label, radius, steps, radii):
    """The first point that is taken for another class, that class, and the radius; None without."""
    for _ in range(radii):
        point = image
        for turn in range(steps + 1):
            seen, gradient = slope(variables, point, label)
            if seen != label:
                return point, seen, radius
            if turn < steps:
                moved = point + radius / 10 * gradient / np.linalg.norm(gradient) - image
                moved *= min(1, radius / np.linalg.norm(moved))
                point = np.clip(image + moved, 0, 1)
        radius *= 2
    return None


def neighbour(variables, image, label, bound):
    """The most likely class but the image's own, after a step along the gradient's sign."""
    _, gradient = slope(variables, image, label)
    moved = np.clip(image + bound * np.sign(gradient), 0, 1)
    logits = predictions(variables, moved[None])[0][0]
    logits[label] = -np.inf
    return logits.argmax()


def noise_slope(variables, noise, labels, penalty):
    """The gradient of penalty·mean‖n‖² − mean CE(n, label)."""
    logits, pullback = predictions(variables, noise)
    risen = pullback(softmax(logits) - np.eye(logits.shape[1])[labels])
    return (2 * penalty * noise - risen) / len(noise)
