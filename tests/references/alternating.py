"""SFR-on, ReGUn, sharpness and Sharp MinMax in NumPy, on sets that are a batch each."""

import jax
import numpy as np

from tests.references.network import softmax
from tests.references.unlearning import saliency_mask, scaled

EYE = np.eye(3)


def step(params, velocity, gradient, *, rate, momentum, weight_decay, mask=None):
    """Parameters and velocity after a step of SGD; where the mask is False, nothing moves."""
    tree = jax.tree.map(lambda g, p: g + weight_decay * p, gradient, params)
    velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, tree)
    moved = jax.tree.map(lambda p, v: p - rate * v, params, velocity)
    if mask is not None:
        moved = jax.tree.map(np.where, mask, moved, params)
    return moved, velocity


def nothing(params):
    return jax.tree.map(np.zeros_like, params)


def norm(tree):
    return np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))


def cross_entropies(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


def descent(network, params, images, labels, weights=None):
    """The gradient of the mean of w·CE; w is 1, or a function of all CE."""
    logits, pullback = network(params, images)
    factors = np.ones(len(labels)) if weights is None else weights(cross_entropies(logits, labels))
    return pullback((softmax(logits) - EYE[labels]) * factors[:, None] / len(labels))


def focus(exponent):
    def weights(losses):
        powers = np.maximum(losses, 1e-6) ** -exponent
        return len(losses) * powers / powers.sum()

    return weights


def squares(network, params, parts):
    """The mean over parts, of images and labels each, of the squared gradient of their mean CE."""
    found = [jax.tree.map(np.square, descent(network, params, *part)) for part in parts]
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *found)


def mask_of(network, params, forget, retain, threshold):
    """Where the squared gradients of parts of S are `threshold` times those of R, or more."""
    return jax.tree.map(
        lambda lost, kept: (lost + 1e-15) / (kept + 1e-15) >= threshold,
        squares(network, params, forget),
        squares(network, params, retain),
    )


def sfr_on(network, params, mask, forget, retain, *, epochs, options):
    """Parameters after as many turns as there are epochs."""
    velocity = nothing(params)
    common = {name: options[name] for name in ("momentum", "weight_decay")}
    for t in range(epochs):
        fading = (1 + np.cos(np.pi * t / epochs)) / 2
        rate, fast = options["learning_rate"] * fading, params
        if t % options["forget_every"] == 0:
            slope = descent(network, fast, *forget, focus(options["exponent"]))
            slope = jax.tree.map(np.multiply, scaled(-options["alpha"] * fading, slope), mask)
            slope = scaled(min(1, options["clip_norm"] / norm(slope)), slope)
            fast, velocity = step(fast, velocity, slope, rate=rate, **common)
        fast, velocity = step(fast, velocity, descent(network, fast, *retain), rate=rate, **common)
        params = jax.tree.map(
            lambda slow, ahead: slow + options["beta"] * (ahead - slow), params, fast
        )
    return params


def regun(network, params, by_class, forget, retain, *, epochs, options):
    """Parameters after as many turns as there are epochs, of the variant of the paper."""
    velocity, share = nothing(params), options["forget_weight"]
    histogram = np.bincount(forget[1], minlength=3) / len(forget[1])
    wanted = sum(count * row for count, row in zip(histogram, by_class, strict=True))
    for _ in range(epochs):
        logits, pullback = network(params, forget[0])
        guided = pullback((softmax(logits) - wanted) / len(logits))
        slope = jax.tree.map(
            lambda g, d: share * g + (1 - share) * d, guided, descent(network, params, *retain)
        )
        params, velocity = step(
            params,
            velocity,
            slope,
            rate=options["learning_rate"],
            momentum=options["momentum"],
            weight_decay=options["weight_decay"],
        )
    return params


def sharpened(network, slope, params, *, adaptive, radius, strength):
    """g + s·(g⁺ − g); the second pass leaves the network's statistics alone."""
    gradient = slope(params)
    stats = jax.tree.map(np.copy, network.stats)
    own = jax.tree.map(np.abs if adaptive else np.ones_like, params)
    size = norm(jax.tree.map(np.multiply, own, gradient))
    above = slope(jax.tree.map(lambda p, o, g: p + radius * o**2 * g / size, params, own, gradient))
    network.stats = stats
    return jax.tree.map(lambda g, a: g + strength * (a - g), gradient, above)


def sharp_finetune(network, params, retain, *, epochs, options, sharpness):
    velocity = nothing(params)
    for _ in range(epochs):
        slope = sharpened(network, lambda at: descent(network, at, *retain), params, **sharpness)
        params, velocity = step(params, velocity, slope, **options)
    return params


def sharp_minmax(network, params, mask, forget, retain, *, epochs, beta, options, sharpness):
    """Parameters after a step for R, and one for S, in every epoch; each has its own velocity."""
    first, second = nothing(params), nothing(params)
    rest = jax.tree.map(np.logical_not, mask)
    sharper = {**sharpness, "strength": -sharpness["strength"]}

    def slope_of(factor, part):
        return lambda at: scaled(factor, descent(network, at, *part))

    for _ in range(epochs):
        slope = sharpened(network, slope_of(beta, retain), params, **sharpness)
        params, first = step(params, first, slope, mask=rest, **options)
        slope = sharpened(network, slope_of(beta - 1, forget), params, **sharper)
        params, second = step(params, second, slope, mask=mask, **options)
    return params


def salient(network, params, forget, fraction):
    return saliency_mask(descent(network, params, *forget), fraction)
