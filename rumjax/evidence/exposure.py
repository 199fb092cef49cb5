"""Whether unlearning some examples exposes others: attack scores before and after."""

from typing import Literal, NamedTuple

import numpy as np

from rumjax.errors import check_choice, check_scalar
from rumjax.evidence.findings import NAN, Finding, check_scores, proportion

ALTERNATIVES = ("greater", "less", "two-sided")


class Exposure(NamedTuple):
    """How many examples are exposed before and after: their score is above a threshold.

    Examples:
      >>> exposure = more_exposed(np.array([0.0, 2.0, 0.0]), np.array([2.0, 0.0, 2.0]), 1.0)
      >>> round(exposure.risen.value, 2), round(exposure.fallen.value, 2)
      (0.67, 0.33)
    """

    before: Finding
    """the share above the threshold before; its null value is not known here, NaN"""
    after: Finding
    """the share above it after; its null value is the share before"""
    risen: Finding
    """the share below before and above after; its null value is the share that fell"""
    fallen: Finding
    """the share above before and below after; its null value is the share that rose"""
    p_value: float
    """the probability of so many risen among all that crossed, if either way were as likely"""


def more_exposed(
    before: np.ndarray,
    after: np.ndarray,
    threshold: float,
    *,
    alternative: Literal["greater", "less", "two-sided"] = "greater",
) -> Exposure:
    """Counts the examples whose attack score moved over a threshold.

    (Carlini et al., NeurIPS 2022, arXiv 2206.10469, observed that removing examples exposes
    others.) The p-value is McNemar's, exact: of the examples that crossed the threshold, as many
    would rise as fall. Intervals are those of Clopper and Pearson. Both take examples as
    independent.

    Args:
      before: scores of the model that was unlearned from, float[n]; larger means more exposed.
      after: of the unlearned model on the same examples, float[n].
      threshold: fixed before the scores are seen, on other examples for instance; a score is above
        it if it is larger.
      alternative: "greater" where only more exposure counts, "less" where only less.

    Raises:
      InvalidInputError: no examples, sizes that differ, numbers that are not finite, or an unknown
        alternative.

    Examples:
      >>> before, after = np.zeros(10), np.append(np.ones(5), np.zeros(5))
      >>> exposure = more_exposed(before, after, 0.5)
      >>> exposure.after.value, exposure.p_value
      (0.5, 0.03125)
    """
    from scipy import stats

    check_choice("alternative", alternative, ALTERNATIVES)
    check_scalar("threshold", threshold, least=-np.inf)
    earlier = check_scores("before", before) > threshold
    later = check_scores("after", after, size=len(earlier)) > threshold

    # Those that crossed, either way.
    count = len(earlier)
    rose, fell = int(np.sum(later & ~earlier)), int(np.sum(earlier & ~later))
    crossed = rose + fell
    p_value = 1.0
    if crossed:
        p_value = float(stats.binomtest(rose, crossed, alternative=alternative).pvalue)

    share = float(earlier.mean())
    return Exposure(
        before=proportion(int(earlier.sum()), count, null=NAN),
        after=proportion(int(later.sum()), count, null=share),
        risen=proportion(rose, count, null=fell / count),
        fallen=proportion(fell, count, null=rose / count),
        p_value=p_value,
    )
