"""Batch norm in the form that suits a platform."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from rumjax.platforms import platform
from rumjax.types import Array


class BatchNorm(nn.BatchNorm):
    """Linen's `BatchNorm` over the last axis of [B, H, W, C], with its parameters and statistics.

    On GPU it is x·a + b with a and b of every channel, which saves it the float32
    copies of x that Linen's x - mean makes; sums are float32 either way.
    """

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None, **kwargs: Any) -> Array:
        """Normalizes by the batch's statistics, or by the running ones."""
        if platform() != "gpu":
            normalized: Array = super().__call__(x, use_running_average, **kwargs)
            return normalized
        features, axes = (x.shape[-1],), tuple(range(x.ndim - 1))
        running = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        mean_of = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        var_of = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        scale = self.param("scale", self.scale_init, features, jnp.float32)
        bias = self.param("bias", self.bias_init, features, jnp.float32)

        # Statistics, of the batch or of those before.
        if running:
            mean, var = mean_of.value, var_of.value
        else:
            wide = x.astype(jnp.float32)
            mean = wide.mean(axes)
            var = jnp.maximum(0.0, lax.square(wide).mean(axes) - lax.square(mean))
            if not self.is_initializing():
                share = self.momentum
                mean_of.value = share * mean_of.value + (1 - share) * mean
                var_of.value = share * var_of.value + (1 - share) * var

        factor = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        around = (1,) * len(axes)
        result = x.astype(jnp.float32) * factor.reshape(*around, -1) + shift.reshape(*around, -1)
        return result.astype(self.dtype or x.dtype)
