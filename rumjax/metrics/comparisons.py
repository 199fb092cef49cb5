"""Many comparisons at once: p-values of paired differences, corrected for their number."""

import numpy as np

from rumjax.errors import InvalidInputError, check_floats


def paired_p_value(differences: np.ndarray) -> float:
    """Returns the two-sided p-value of Student's paired t-test.

    Args:
      differences: float[n], of pairs, one per seed.

    Returns:
      How often chance alone would set the mean so far from 0; 1.0 where all differences are 0.

    Raises:
      InvalidInputError: fewer than two differences, or some that are not finite.

    Examples:
      >>> round(paired_p_value(np.array([0.01, 0.03, 0.02])), 4)
      0.0742
    """
    from scipy import stats

    differences = check_floats("paired differences", differences, "n").astype(np.float64)
    if differences.size < 2:
        raise InvalidInputError(
            f"paired differences: wanted at least two, got {differences.size}; run more seeds"
        )
    if np.ptp(differences) == 0:  # the statistic is 0/0 or infinite
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p-values for their number, so that any false discovery is rare.

    A comparison that is below α after the correction may be called beyond chance: the probability
    that one or more of those called so are wrong is at most α (Holm, Scandinavian Journal of
    Statistics 1979).

    Args:
      p_values: float[n].

    Returns:
      Corrected p-values, float64[n], in the same order and at most 1.

    Raises:
      InvalidInputError: a value is not between 0 and 1.

    Examples:
      >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
      [0.03, 0.06, 0.06]
    """
    p_values = check_floats("p-values", p_values, "n").astype(np.float64)
    if p_values.size and not (p_values.min() >= 0 and p_values.max() <= 1):
        raise InvalidInputError("p-values: wanted numbers between 0 and 1")

    # The k-th smallest of n counts n − k + 1 times, and none is below a smaller one.
    order = np.argsort(p_values, kind="stable")
    weights = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(np.minimum(weights * p_values[order], 1.0))
    return corrected
