"""Machine unlearning for image classifiers in JAX: score, refine, unlearn, and measure.

The main path, on arrays of one's own, is a few calls: `retrain` gives the original model,
`rum` turns a forget set into steps, `run` runs them, and `rumjax.metrics` judges the result.
"""

from rumjax import data, errors, forget_sets, mesh, metrics, models, scores
from rumjax.models import Model
from rumjax.refine import at_random, by_class, by_score, rum, whole
from rumjax.types import Dataset, Scores, Splits, Subset, Task, Unlearner, Variables, subset, task
from rumjax.unlearn import (
    ALGORITHMS,
    Step,
    chain,
    finetune,
    grid,
    influence,
    l1_sparse,
    neggrad,
    neggrad_plus,
    original,
    random_label,
    retrain,
    run,
    run_pure,
    salun,
    scrub,
)

__version__ = "0.1.0"

__all__ = [
    "ALGORITHMS",
    "Dataset",
    "Model",
    "Scores",
    "Splits",
    "Step",
    "Subset",
    "Task",
    "Unlearner",
    "Variables",
    "at_random",
    "by_class",
    "by_score",
    "chain",
    "data",
    "errors",
    "finetune",
    "forget_sets",
    "grid",
    "influence",
    "l1_sparse",
    "mesh",
    "metrics",
    "models",
    "neggrad",
    "neggrad_plus",
    "original",
    "random_label",
    "retrain",
    "rum",
    "run",
    "run_pure",
    "salun",
    "scores",
    "scrub",
    "subset",
    "task",
    "whole",
]
