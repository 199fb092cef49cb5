"""Which channels are critical, worked out in NumPy one channel after another."""

import jax
import numpy as np


def channels(params, gradient, fraction):
    """Booleans like the parameters, True for the fraction of channels of largest criticality."""
    found = []
    for place, (weight, slope) in enumerate(
        zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True)
    ):
        values = np.abs(np.asarray(weight, np.float64) * slope)
        if values.ndim == 1:
            found.append((-values.max(), place, slice(None)))
            continue
        for number in range(values.shape[-1]):
            channel = np.sort(values[..., number].ravel())[::-1]
            most = channel[: max(1, len(channel) // 10)]
            found.append((-most.mean(), place, (..., number)))
    masks = [np.zeros(leaf.shape, bool) for leaf in jax.tree.leaves(params)]
    for _, place, where in sorted(found, key=lambda one: one[0])[: int(fraction * len(found))]:
        masks[place][where] = True
    return jax.tree.unflatten(jax.tree.structure(params), masks)
