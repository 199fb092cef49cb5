"""The unlearners that several test files share, so that they also share their compilations."""

import dataclasses
import pathlib

import jax
import numpy as np

from rumjax.unlearn import ALGORITHMS

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = tuple(ALGORITHMS)
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
