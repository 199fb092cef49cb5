"""The unlearning algorithms, and what runs them.

An algorithm is a record with `init`, `epoch` and `finish`, or an `Sgd` with `passes`; a factory
that validates its arguments and has a card; and a line in `ALGORITHMS`. The table is in
docs/methods.md.
"""

from collections.abc import Callable
from typing import Any

from rumjax.training import recipe
from rumjax.types import Unlearner
from rumjax.unlearn.adversarial import amun
from rumjax.unlearn.alternating import sfr_on
from rumjax.unlearn.ascent import neggrad, neggrad_plus
from rumjax.unlearn.base import OnEpoch, run, warm_up
from rumjax.unlearn.boundaries import boundary_expand, boundary_shrink
from rumjax.unlearn.cards import CARDS, Card, card, table
from rumjax.unlearn.dampening import assd, lfssd, ssd
from rumjax.unlearn.distillation import scrub
from rumjax.unlearn.finetuning import finetune, l1_sparse
from rumjax.unlearn.guided import regun
from rumjax.unlearn.impairing import unsir
from rumjax.unlearn.localizing import cf_k, eu_k, localized_reset
from rumjax.unlearn.matching import datamodel_matching, oracle_matching
from rumjax.unlearn.minmax import sharp_minmax
from rumjax.unlearn.newton import influence
from rumjax.unlearn.noise import fisher_noise
from rumjax.unlearn.noisy_teacher import lotus
from rumjax.unlearn.nothing import original
from rumjax.unlearn.perturbing import ct, msg
from rumjax.unlearn.pure import grid, run_pure
from rumjax.unlearn.relabelling import random_label, salun
from rumjax.unlearn.steps import Step, chain
from rumjax.unlearn.teachers import bad_teacher, delete

retrain = card("CE on R, from scratch by the recipe of the original model", "", ("R",), "both")(
    recipe
)

ALGORITHMS: dict[str, Callable[..., Unlearner[Any]]] = {
    "original": original,
    "retrain": retrain,
    "finetune": finetune,
    "l1_sparse": l1_sparse,
    "cf_k": cf_k,
    "eu_k": eu_k,
    "neggrad": neggrad,
    "neggrad_plus": neggrad_plus,
    "sharp_minmax": sharp_minmax,
    "sfr_on": sfr_on,
    "scrub": scrub,
    "bad_teacher": bad_teacher,
    "lotus": lotus,
    "delete": delete,
    "regun": regun,
    "oracle_matching": oracle_matching,
    "datamodel_matching": datamodel_matching,
    "random_label": random_label,
    "salun": salun,
    "amun": amun,
    "boundary_shrink": boundary_shrink,
    "boundary_expand": boundary_expand,
    "unsir": unsir,
    "localized_reset": localized_reset,
    "msg": msg,
    "ct": ct,
    "ssd": ssd,
    "lfssd": lfssd,
    "assd": assd,
    "fisher_noise": fisher_noise,
    "influence": influence,
}
"""Factories by name: each takes the model first and its hyper-parameters by keyword."""

__all__ = [
    "ALGORITHMS",
    "CARDS",
    "Card",
    "OnEpoch",
    "Step",
    "amun",
    "assd",
    "bad_teacher",
    "boundary_expand",
    "boundary_shrink",
    "card",
    "cf_k",
    "chain",
    "ct",
    "datamodel_matching",
    "delete",
    "eu_k",
    "finetune",
    "fisher_noise",
    "grid",
    "influence",
    "l1_sparse",
    "lfssd",
    "localized_reset",
    "lotus",
    "msg",
    "neggrad",
    "neggrad_plus",
    "oracle_matching",
    "original",
    "random_label",
    "regun",
    "retrain",
    "run",
    "run_pure",
    "salun",
    "scrub",
    "sfr_on",
    "sharp_minmax",
    "ssd",
    "table",
    "unsir",
    "warm_up",
]
