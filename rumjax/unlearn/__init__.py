"""The unlearning algorithms, and what runs them.

| name | what it minimizes, from θo |
|---|---|
| `original` | nothing |
| `retrain` | CE on R, from scratch by the recipe of the original model |
| `finetune` | CE on R |
| `l1_sparse` | CE on R + γ_t ‖θ‖₁ |
| `neggrad` | −CE on S |
| `neggrad_plus` | β·CE on R − (1−β)·CE on S |
| `scrub` | −KL(teacher‖student) on S, then γ·CE + β·KL(teacher‖student) on R |
| `influence` | one damped Newton step up the loss of S and down that of R |
| `random_label` | CE on R ∪ S, S with wrong labels |
| `salun` | the same, on the parameters that S's gradient says matter |
"""

from collections.abc import Callable
from typing import Any

from rumjax.training import recipe as retrain
from rumjax.types import Unlearner
from rumjax.unlearn.ascent import neggrad, neggrad_plus
from rumjax.unlearn.base import OnEpoch, Step, chain, run, warm_up
from rumjax.unlearn.distillation import scrub
from rumjax.unlearn.finetuning import finetune, l1_sparse
from rumjax.unlearn.newton import influence
from rumjax.unlearn.nothing import original
from rumjax.unlearn.pure import grid, run_pure
from rumjax.unlearn.relabelling import random_label, salun

ALGORITHMS: dict[str, Callable[..., Unlearner[Any]]] = {
    "original": original,
    "retrain": retrain,
    "finetune": finetune,
    "l1_sparse": l1_sparse,
    "neggrad": neggrad,
    "neggrad_plus": neggrad_plus,
    "scrub": scrub,
    "influence": influence,
    "random_label": random_label,
    "salun": salun,
}
"""Factories by name: each takes the model first and its hyper-parameters by keyword."""

__all__ = [
    "ALGORITHMS",
    "OnEpoch",
    "Step",
    "chain",
    "finetune",
    "grid",
    "influence",
    "l1_sparse",
    "neggrad",
    "neggrad_plus",
    "original",
    "random_label",
    "retrain",
    "run",
    "run_pure",
    "salun",
    "scrub",
    "warm_up",
]
