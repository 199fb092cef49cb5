"""The unlearning algorithms, and what runs them.

An algorithm is a record with `init`, `epoch` and `finish`, or an `Sgd` with `passes`; a factory
that validates its arguments and has a card; and a line in `ALGORITHMS`. README.md has the table.
"""

from collections.abc import Callable
from typing import Any

from rumjax.training import recipe
from rumjax.types import Unlearner
from rumjax.unlearn.ascent import neggrad, neggrad_plus
from rumjax.unlearn.base import OnEpoch, run, warm_up
from rumjax.unlearn.cards import CARDS, Card, card, table
from rumjax.unlearn.distillation import scrub
from rumjax.unlearn.finetuning import finetune, l1_sparse
from rumjax.unlearn.newton import influence
from rumjax.unlearn.nothing import original
from rumjax.unlearn.pure import grid, run_pure
from rumjax.unlearn.relabelling import random_label, salun
from rumjax.unlearn.steps import Step, chain

retrain = card("CE on R, from scratch by the recipe of the original model", "", ("R",), "both")(
    recipe
)

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
    "CARDS",
    "Card",
    "OnEpoch",
    "Step",
    "card",
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
    "table",
    "warm_up",
]
