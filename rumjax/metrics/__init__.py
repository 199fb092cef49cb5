"""Measures of unlearned models: accuracy, tug of war, membership inference, intervals. NumPy."""

from rumjax.metrics.comparisons import holm, paired_p_value
from rumjax.metrics.divergence import (
    activation_distance,
    jensen_shannon,
    zero_retrain_forgetting,
)
from rumjax.metrics.evaluation import Measured, accuracy, compare, disagreement, measure
from rumjax.metrics.intervals import Interval, mean_interval
from rumjax.metrics.membership import (
    SIGNALS,
    Predictions,
    all_attacks,
    confidence,
    correctness,
    entropy,
    membership_attack,
    modified_entropy,
)
from rumjax.metrics.tow import Accuracies, tug_of_war, tug_of_war_mia
from rumjax.metrics.trends import (
    Trend,
    jonckheere,
    least_p_value,
    overlap,
    rank_correlation,
)

__all__ = [
    "SIGNALS",
    "Accuracies",
    "Interval",
    "Measured",
    "Predictions",
    "Trend",
    "accuracy",
    "activation_distance",
    "all_attacks",
    "compare",
    "confidence",
    "correctness",
    "disagreement",
    "entropy",
    "holm",
    "jensen_shannon",
    "jonckheere",
    "least_p_value",
    "mean_interval",
    "measure",
    "membership_attack",
    "modified_entropy",
    "overlap",
    "paired_p_value",
    "rank_correlation",
    "tug_of_war",
    "tug_of_war_mia",
    "zero_retrain_forgetting",
]
