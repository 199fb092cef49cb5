"""The unlearners that several test files share, so that they also share their compilations."""

import dataclasses
import pathlib

import jax
import numpy as np

from rumjax.unlearn import ALGORITHMS

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = (
    *("original", "retrain", "finetune", "l1_sparse", "neggrad", "neggrad_plus"),
    *("scrub", "influence", "random_label", "salun"),
)
"""those whose twins are in `tests.references.unlearning`; others have tests of their own"""
DESCENDING = tuple(name for name in NAMES if name not in ("original", "influence"))
EPOCHS = 2
BATCH_SIZE = 8
SIZE = 60
FORGET = np.arange(0, 52, 4)
"""13 examples: two batches, the second partial, and so is the last of the retain set's six."""

OWN = {
    "original": {},
    "retrain": {"learning_rate": 0.1},
    "finetune": {"learning_rate": 0.05},
    "l1_sparse": {"learning_rate": 0.05, "penalty": 0.01},
    "neggrad": {"learning_rate": 0.02},
    "neggrad_plus": {"learning_rate": 0.05, "beta": 0.8},
    "scrub": {
        "learning_rate": 0.02,
        "max_epochs": 1,
        "beta": 0.3,
        "gamma": 0.7,
        "temperature": 3.0,
    },
    "influence": {"fisher_examples": 20, "micro_batch": 8, "damping": 0.01},
    "random_label": {"learning_rate": 0.05, "num_classes": 3},
    "salun": {"learning_rate": 0.05, "num_classes": 3, "mask_fraction": 0.4},
    "cf_k": {"learning_rate": 0.05},
    "eu_k": {"learning_rate": 0.05},
    "sharp_minmax": {"learning_rate": 0.05, "mask_fraction": 0.4},
    "sfr_on": {"learning_rate": 0.05, "alpha": 0.5, "forget_every": 2, "beta": 0.7},
    "bad_teacher": {"learning_rate": 0.01, "retain_share": 0.4},
    "lotus": {"learning_rate": 0.01, "alpha": 3.0},
    "delete": {"learning_rate": 0.05},
    "regun": {"learning_rate": 0.05},
    "oracle_matching": {"learning_rate": 0.01, "ratio": 1.5},
    "datamodel_matching": {"learning_rate": 0.01},
    "amun": {"learning_rate": 0.05, "steps": 10},
    "boundary_shrink": {"learning_rate": 0.05},
    "boundary_expand": {"learning_rate": 0.05},
    "unsir": {"learning_rate": 0.05, "noise_images": 8, "repeats": 3, "noise_steps": 5},
    "localized_reset": {"learning_rate": 0.05},
    "msg": {"learning_rate": 0.05, "fraction": 0.4},
    "ct": {"learning_rate": 0.05},
    "ssd": {"alpha": 1.5, "micro_batch": 8},
    "lfssd": {"alpha": 1.2, "micro_batch": 8},
    "assd": {"micro_batch": 8},
    "fisher_noise": {"alpha": 1e-4, "micro_batch": 8},
}
SEEN = []
"""images of every batch, in the order in which they were drawn"""


@dataclasses.dataclass(frozen=True)
class Negative:
    """An augmentation that notes what it is given and inverts it, so that its use can be seen."""

    def __call__(self, key, images):
        jax.debug.callback(lambda seen: SEEN.append(np.asarray(seen)), images, ordered=True)
        return 255 - images


def unlearner(name, model, batch_norm="update", **changes):
    """The algorithm of that name with small settings."""
    options = dict(OWN[name], **changes)
    if name in DESCENDING:
        options = {
            "epochs": EPOCHS,
            "momentum": 0.8,
            "weight_decay": 0.02,
            "augmentation": Negative(),
            "batch_norm": batch_norm,
            **options,
        }
    if name != "original":
        options.setdefault("batch_size", BATCH_SIZE)
    return ALGORITHMS[name](model, **options)
