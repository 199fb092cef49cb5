"""Scores of examples and of forget sets: memorization, its proxies, entanglement."""

from rumjax.scores.entanglement import entanglement_score, mmd_squared
from rumjax.scores.memorization import (
    Tally,
    influence,
    memorization,
    memorization_of,
    random_subset,
    tally,
)
from rumjax.scores.proxies import PROXIES, TrainingDynamics

__all__ = [
    "PROXIES",
    "Tally",
    "TrainingDynamics",
    "entanglement_score",
    "influence",
    "memorization",
    "memorization_of",
    "mmd_squared",
    "random_subset",
    "tally",
]
