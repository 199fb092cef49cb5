"""Numbers with confidence intervals, and those of means over seeds."""

from typing import NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError, check_floats, check_share


class Interval(NamedTuple):
    """A number and the ends of its interval; the ends are NaN where there is no interval.

    Examples:
      >>> Interval(value=0.5, low=0.25, high=0.75).half_width
      0.25
    """

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance between the two ends."""
        return (self.high - self.low) / 2


def mean_interval(values: np.ndarray, *, level: float = 0.95) -> Interval:
    """Computes the mean of some values and its Student-t interval.

    Args:
      values: float[n], one per seed.
      level: of confidence.

    Returns:
      The mean with the ends of its interval, which are NaN for a single value.

    Raises:
      InvalidInputError: no values, or some that are not finite.

    Examples:
      >>> mean_interval(np.array([0.5]))
      Interval(value=0.5, low=nan, high=nan)
      >>> round(mean_interval(np.array([0.4, 0.5, 0.6])).half_width, 3)
      0.248
    """
    from scipy import stats

    values = check_floats("interval", values, "n").astype(np.float64)
    level = check_share("level", level)
    if values.size == 0:
        raise InvalidInputError("interval: wanted finite values, at least one, got none")
    mean = float(values.mean())
    if values.size == 1:
        return Interval(mean, float("nan"), float("nan"))

    # The standard error of the mean, times the quantile that leaves out half the rest on each side.
    error = values.std(ddof=1) / np.sqrt(values.size)
    half_width = float(stats.t.ppf((1 + level) / 2, values.size - 1) * error)
    return Interval(mean, mean - half_width, mean + half_width)
