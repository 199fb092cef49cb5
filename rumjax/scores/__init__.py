"""Scores of examples and of forget sets: memorization, its proxies, entanglement."""

from rumjax.scores.entanglement import entanglement_score, mmd_squared
from rumjax.scores.memorization import influence, memorization, random_subset
from rumjax.scores.proxies import PROXIES, TrainingDynamics

__all__ = [
    "PROXIES",
    "TrainingDynamics",
    "entanglement_score",
    "influence",
    "memorization",
    "mmd_squared",
    "random_subset",
]
