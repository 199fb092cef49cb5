"""Odd values for every place of a configuration that has every section."""

import pathlib

import numpy as np

from rumjax.lab.methods import rum, rum_f, vanilla
from tests.lab import own_parts

OWN = own_parts.__name__

FINETUNE = {
    "algorithm": "finetune",
    "epochs": 2,
    "learning_rate": 0.05,
    "batch_size": 16,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "augmentation": "none",
    "batch_norm": "update",
}
SALUN = {"algorithm": "salun", "epochs": 1, "mask_fraction": 0.5, "saliency": "mean"}
SCRUB = {"algorithm": "scrub", "epochs": 2, "max_epochs": 1, "temperature": 4.0, "gamma": 0.99}
INFLUENCE = {"algorithm": "influence", "alpha": 0.1, "damping": 0.1, "fisher_examples": 8}

ODD = (
    None,
    True,
    -1,
    0,
    1.5,
    3.0,
    float("nan"),
    float("inf"),
    2**40,
    10**400,
    "",
    "x",
    "3",
    "a:b",
    "os:path",
    "builtins:print",
    "a/b\x00",
    (),
    (1,),
    [None],
    ("x", "x"),
    {},
    {"a": 1},
    {3: 1},
    {1, "a"},
    range(2),
    np.int64(3),
    np.float32(0.5),
    np.nan * np.ones(2),
    np.arange(3),
    np.zeros((2, 2)),
    np.array("text"),
    1j,
    b"bytes",
    object(),
    len,
    pathlib.Path("/nowhere"),
)
"""Values that some option may be given by mistake, or by NumPy."""


def whole_configuration(data_file):
    """A configuration with every section, and as many options as go together."""
    return {
        "name": "odd",
        "seed": 0,
        "seeds": 3,
        "data": {"name": "npz", "data_dir": data_file, "seed": 0, "limit": 60},
        "model": {"name": "cnn", "bfloat16": False, "options": {"widths": (4,), "hidden": 4}},
        "training": {
            "epochs": 2,
            "batch_size": 32,
            "learning_rate": 0.1,
            "schedule": "steps",
            "milestones": (1,),
            "decay": 0.2,
            "warm_up": 0.5,
            "label_smoothing": 0.1,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "augmentation": "flip",
            "batch_norm": "update",
        },
        "bank": {"models": 24, "fraction": 0.5, "seed": 0, "per_device": 1, "checkpoints": False},
        "forget": {"by": "random", "size": 12, "seed": 0, "requests": 3, "until": 3},
        "unlearning": {"momentum": 0.8, "beta": 0.9},
        "methods": {
            "plain": vanilla(FINETUNE),
            "levels": rum_f(SALUN),
            "mixed": rum({"low": SCRUB, "medium": INFLUENCE, "high": SALUN}),
        },
        "attack": {"samples": 10},
        "cases": {
            "first": {"forget": {"by": "memorization", "size": 4, "levels": ("low", "high")}},
            "classes": {"forget": {"by": "class", "classes": (1,), "fraction": 0.5}},
            "near": {
                "forget": {"by": "entanglement", "size": 4, "groups": 15, "centers": (14, 8, 3)}
            },
            "all": {},
        },
        "tuning": {
            "seeds": (100,),
            "grids": {
                "plain": {"learning_rate": (0.1, 0.2), "epochs": (1,)},
                "levels": {"low": {"learning_rate": ("log", 0.1, 0.2)}},
            },
            "settings": 2,
            "criterion": "validation",
            "adopt": True,
            "select": {
                "mixed": {"candidates": ("plain", "levels"), "budget": 3, "search": "ascent"}
            },
            "like": {},
        },
        "scores": {"own": {"mine": f"{OWN}:uncertainty"}},
        "audit": {"models": 8, "share": 0.5, "methods": ("plain",)},
        "study": {"kind": "difficulty", "command": "python"},
        "measures": {"mine": f"{OWN}:agreement"},
    }


def places(value, path=()):
    """The paths of everything in a nested dictionary, sections too."""
    for name, item in value.items():
        yield (*path, name)
        if isinstance(item, dict):
            yield from places(item, (*path, name))


def replaced(config, path, value):
    """A copy with another value at a place."""
    first, *rest = path
    return {**config, first: replaced(config[first], rest, value) if rest else value}
