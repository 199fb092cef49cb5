"""Audits of unlearned models: attacks that tell them from models that never saw the forget set.

All take margins of many models on the same examples, a `Population`; NumPy, SciPy and scikit-learn
on the host. `audit` runs all that the models allow for.
"""

from rumjax.audits.challenge import challenge_score, epsilons, forgetting_quality
from rumjax.audits.games import (
    auc,
    balanced_accuracy,
    bootstrap,
    per_example,
    roc_curve,
    true_positive_rate,
)
from rumjax.audits.kl_margins import corrected_klom, klom
from rumjax.audits.likelihood_ratio import lira, offline_lira, unlearning_lira
from rumjax.audits.linear_probe import matched, probe
from rumjax.audits.pairwise_ratio import offline_rmia, rmia
from rumjax.audits.population import (
    FORGOTTEN,
    IN,
    OUT,
    Game,
    Population,
    margins,
    worlds_of_task,
)
from rumjax.audits.ruli import ruli_efficacy, ruli_privacy
from rumjax.audits.suite import Audited, Finding, audit, read_game

__all__ = [
    "FORGOTTEN",
    "IN",
    "OUT",
    "Audited",
    "Finding",
    "Game",
    "Population",
    "auc",
    "audit",
    "balanced_accuracy",
    "bootstrap",
    "challenge_score",
    "corrected_klom",
    "epsilons",
    "forgetting_quality",
    "klom",
    "lira",
    "margins",
    "matched",
    "offline_lira",
    "offline_rmia",
    "per_example",
    "probe",
    "read_game",
    "rmia",
    "roc_curve",
    "ruli_efficacy",
    "ruli_privacy",
    "true_positive_rate",
    "unlearning_lira",
    "worlds_of_task",
]
