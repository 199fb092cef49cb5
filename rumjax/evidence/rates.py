"""The share of S that an attack picks out at a fixed false positive rate."""

import math

import numpy as np

from rumjax.errors import check_share
from rumjax.evidence.findings import NAN, Finding, check_scores, proportion


def exposed(
    forget_scores: np.ndarray, unseen_scores: np.ndarray, false_positive_rate: float = 0.01
) -> Finding:
    """Returns the share of S above a threshold that an unseen example exceeds with probability a.

    (Carlini et al., S&P 2022, arXiv 2112.03570, for rates at a low false positive rate.) The
    threshold is the k-th largest score of V, k = ⌊a(n_V + 1)⌋: another example like those of V
    exceeds it with probability k/(n_V + 1) ≤ a, ties never being split. The interval is that of
    Clopper and Pearson. It describes other samples of S where S is a random sample, with the
    threshold as given; for a chosen S the randomness of models matters more, and the same number of
    a few retrained models shows that.

    Args:
      forget_scores: of S, float[n_S]; larger means more likely trained on: margins, or p-values
        with their sign turned.
      unseen_scores: of V, which the model never saw, float[n_V].
      false_positive_rate: a.

    Returns:
      The share, with null value a. Value and interval are NaN where V has fewer than 1/a − 1
      examples, which cannot show so low a rate.

    Raises:
      InvalidInputError: no examples on a side, numbers that are not finite, or no such rate.

    Examples:
      >>> unseen = np.arange(99.0)
      >>> exposed(np.array([97.0, 98.0, 99.0, 100.0]), unseen).value
      0.5
      >>> exposed(np.array([97.0, 98.0, 99.0, 100.0]), unseen, 0.02).value
      0.75
    """
    rate = check_share("false_positive_rate", false_positive_rate)
    ours = check_scores("forget_scores", forget_scores)
    theirs = check_scores("unseen_scores", unseen_scores)

    # What rounding takes off a(n_V + 1) is no example less.
    allowed = math.floor(rate * (len(theirs) + 1) + 1e-9)
    if not allowed:
        return Finding(NAN, NAN, NAN, rate, len(ours))
    threshold = np.sort(theirs)[-allowed]
    return proportion(int(np.sum(ours > threshold)), len(ours), null=rate)
