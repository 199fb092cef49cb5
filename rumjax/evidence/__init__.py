"""Evidence on one unlearned model without retrained ones: numbers with interval and null value.

Pure estimators on arrays; NumPy and SciPy on the host. Each is a statement about an attack that was
run: none proves that S is forgotten, and a p-value above .05 proves nothing. φ is the margin of an
example, its true label's logit less the logsumexp of the others; a larger one is fitted better. V
are examples that the model never saw, θu is the unlearned model, shadows are others of its recipe.
"""

from rumjax.evidence.conformal import coverage_difference
from rumjax.evidence.exposure import Exposure, more_exposed
from rumjax.evidence.findings import Finding, difference, proportion
from rumjax.evidence.group import (
    GroupTest,
    group_statistic_p_value,
    shadow_group_p_value,
    shadow_group_test,
)
from rumjax.evidence.matching import residuals, strata
from rumjax.evidence.one_run import ceiling, epsilon_lower_bound, guess
from rumjax.evidence.ranks import RankTest, rank_p_values, rank_test
from rumjax.evidence.rates import exposed
from rumjax.evidence.residue import nearest_similarities, neighbour_rank
from rumjax.evidence.single_examples import (
    Calibration,
    calibration,
    example_p_values,
    least_p_value,
    shadow_calibration,
    standardized,
)

__all__ = [
    "Calibration",
    "Exposure",
    "Finding",
    "GroupTest",
    "RankTest",
    "calibration",
    "ceiling",
    "coverage_difference",
    "difference",
    "epsilon_lower_bound",
    "example_p_values",
    "exposed",
    "group_statistic_p_value",
    "guess",
    "least_p_value",
    "more_exposed",
    "nearest_similarities",
    "neighbour_rank",
    "proportion",
    "rank_p_values",
    "rank_test",
    "residuals",
    "shadow_calibration",
    "shadow_group_p_value",
    "shadow_group_test",
    "standardized",
    "strata",
]
