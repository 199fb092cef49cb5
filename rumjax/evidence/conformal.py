"""How often conformal prediction sets contain the true label, on S and on unseen examples."""

import math

import numpy as np

from rumjax.errors import InvalidInputError, check_share
from rumjax.evidence.findings import Finding, check_scores, difference


def coverage_difference(
    probabilities_true_s: np.ndarray,
    probabilities_true_v: np.ndarray,
    calibration: np.ndarray,
    alpha: float = 0.1,
) -> Finding:
    """Returns coverage(S) − coverage(V) of conformal prediction sets.

    (Shi et al., arXiv 2501.19403, whose coverage of S alone rewards a model that errs on S more
    than one that never saw it.) The set of an example holds the labels y with 1 − p_y ≤ q̂; q̂ is
    the ⌈(n+1)(1−α)⌉-th smallest 1 − p of the true labels of n calibration examples, ∞ where that
    exceeds n. The interval is Newcombe's (Statistics in Medicine 1998, method 10, of two score
    intervals); it takes q̂ as given. The null value, 0, is that of an S which is as difficult as V.

    Args:
      probabilities_true_s: p of the true label on S, float[n_S].
      probabilities_true_v: on examples that the model never saw, float[n_V].
      calibration: on other examples that it never saw, float[n].
      alpha: the share that the sets may miss.

    Raises:
      InvalidInputError: no examples in one of the three, numbers outside 0…1, or no such share.

    Examples:
      >>> unseen = np.linspace(0.0, 0.99, 100)
      >>> finding = coverage_difference(np.full(50, 0.9), unseen, unseen)
      >>> round(finding.value, 2), finding.low > 0, finding.null
      (0.09, True, 0.0)
    """
    alpha = check_share("alpha", alpha)
    ours = _check_probabilities("probabilities_true_s", probabilities_true_s)
    theirs = _check_probabilities("probabilities_true_v", probabilities_true_v)
    scores = np.sort(1 - _check_probabilities("calibration", calibration))

    # The quantile; what rounding adds to (n+1)(1−α) is no further example.
    position = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    quantile = scores[position - 1] if position <= len(scores) else np.inf

    covered = [int(np.sum(1 - side <= quantile)) for side in (ours, theirs)]
    return difference(covered[0], len(ours), covered[1], len(theirs))


def _check_probabilities(what: str, values: np.ndarray) -> np.ndarray:
    """Returns probabilities as float64[n], of at least one example.

    Raises:
      InvalidInputError: no examples, or numbers outside 0…1.
    """
    probabilities = check_scores(what, values)
    if probabilities.min() < 0 or probabilities.max() > 1 + 1e-6:
        raise InvalidInputError(f"{what}: some are outside 0…1; wanted softmax probabilities")
    return probabilities
