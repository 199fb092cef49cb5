"""Scores of examples and of forget sets: memorization, its proxies, entanglement."""

from rumjax.scores.datamodels import Effect, removal_effect
from rumjax.scores.entanglement import distances, entanglement_score, mmd_squared
from rumjax.scores.estimators import (
    Tally,
    influence,
    memorization,
    memorization_of,
    random_subset,
    tally,
)
from rumjax.scores.files import (
    about_published,
    has_published,
    image_hashes,
    load_published,
    load_scores,
    places,
    publish,
    published,
)
from rumjax.scores.proxies import (
    EXTRA_PROXIES,
    GRADIENT_PROXIES,
    PROXIES,
    TrainingDynamics,
    holdout_retraining,
    symmetric_kl,
)

__all__ = [
    "EXTRA_PROXIES",
    "GRADIENT_PROXIES",
    "PROXIES",
    "Effect",
    "Tally",
    "TrainingDynamics",
    "about_published",
    "distances",
    "entanglement_score",
    "has_published",
    "holdout_retraining",
    "image_hashes",
    "influence",
    "load_published",
    "load_scores",
    "memorization",
    "memorization_of",
    "mmd_squared",
    "places",
    "publish",
    "published",
    "random_subset",
    "removal_effect",
    "symmetric_kl",
    "tally",
]
