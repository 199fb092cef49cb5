"""Confidence intervals of means over seeds."""

import numpy as np
from scipy import stats

from rumjax.errors import InvalidInputError


def mean_and_half_width(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The mean of some values, and half the width of its Student-t interval.

    Args:
      values: float[n], one per seed.
      level: of confidence.

    Returns:
      mean and half-width; the latter is NaN for a single value.

    Raises:
      InvalidInputError: no values, or some that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InvalidInputError(f"interval: wanted finite values, at least one, got {values}")
    mean = float(values.mean())
    if values.size == 1:
        return mean, float("nan")
    error = values.std(ddof=1) / np.sqrt(values.size)
    return mean, float(stats.t.ppf((1 + level) / 2, values.size - 1) * error)
