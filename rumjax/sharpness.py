"""Gradients that are aware of sharpness: what the loss is like a small step uphill."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from rumjax.types import PyTree

SHARPNESS = ("none", "sam", "asam")
RADII = {"none": 0.0, "sam": 0.1, "asam": 1.0}
"""of Tang & Khanna"""


def uphill(params: PyTree, gradient: PyTree, *, adaptive: bool, radius: ArrayLike) -> PyTree:
    """Returns parameters moved uphill to the edge of a ball, or of an ellipsoid around 0.

    They are θ + ρ·g/‖g‖ (Foret et al., ICLR 2021), and if adaptive θ + ρ·θ²g/‖|θ|g‖, so that large
    parameters move farther (Kwon et al., ICML 2021).

    Args:
      params: θ.
      gradient: g, like the parameters.
      adaptive: whether each parameter is measured by its own magnitude.
      radius: ρ.

    Examples:
      >>> params, gradient = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 4.0])}
      >>> uphill(params, gradient, adaptive=False, radius=5.0)["w"].tolist()
      [4.0, 6.0]
    """
    scaled = gradient
    if adaptive:
        scaled = jax.tree.map(lambda p, g: jnp.abs(p) * g, params, gradient)
    factor = radius / (optax.tree.norm(scaled) + 1e-12)
    if adaptive:
        scaled = jax.tree.map(lambda p, s: jnp.abs(p) * s, params, scaled)
    return jax.tree.map(lambda p, s: p + factor * s, params, scaled)


def sharpened(
    slope: Callable[[PyTree], PyTree],
    params: PyTree,
    gradient: PyTree,
    *,
    adaptive: bool,
    radius: ArrayLike,
    strength: ArrayLike,
) -> PyTree:
    """Returns g + s·(g⁺ − g), g⁺ being the gradient at the parameters that `uphill` returns.

    It is g⁺, as in SAM, if s is 1, and seeks sharp minima instead of flat ones if s is below 0.

    Args:
      slope: from parameters to the gradient there.
      params: where it is wanted.
      gradient: g, the gradient there.
      adaptive: see `uphill`.
      radius: see `uphill`.
      strength: s; with s = 0 or a radius of 0, the gradient is returned bit for bit.

    Examples:
      >>> at = {"w": jnp.array([3.0, 4.0])}  # of ½‖w‖², whose gradient is w
      >>> sharpened(lambda params: params, at, at, adaptive=False, radius=5.0, strength=-1.0)["w"]
      Array([0., 0.], dtype=float32)
    """
    # Whatever else the second pass yields, batch statistics for instance, is not used.
    above = slope(uphill(params, gradient, adaptive=adaptive, radius=radius))
    # Two programs of the same derivative may round differently.
    moves = (jnp.asarray(strength) != 0) & (jnp.asarray(radius) != 0)
    return jax.tree.map(
        lambda g, higher: jnp.where(moves, g + strength * (higher - g), g), gradient, above
    )
