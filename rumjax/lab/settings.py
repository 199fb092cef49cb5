"""Settings in which studies are made: data, model, training, sizes, and what may be searched.

Each is a dictionary of sections of a configuration, see `rumjax.lab.config`. It has `size` besides,
the number of examples of a forget set of one level, and `spaces`, the values of hyper-parameters
that are tried for each algorithm. Settings of Zhao et al., NeurIPS 2024, are those of its appendix:
SGD, rate .1, momentum .9, weight decay 5e-4, batches of 256, 3 runs, sets of 3 000. Settings of
other networks on CIFAR-10 differ from the paper's in how models are trained, see `NETWORKS`.
"""

import copy
from typing import Any

from ml_collections import ConfigDict

from rumjax.errors import check_choice
from rumjax.lab.methods import rum, strategies
from rumjax.lab.spaces import MEDIUM_SPACES, PAPER_SPACES, SMALL_SPACES

Setting = dict[str, Any]

PAPER_SGD = {"batch_size": 256, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
PAPER: Setting = {
    "seed": 0,
    "seeds": 3,
    "bank": {"models": 400, "fraction": 0.7, "seed": 0},
    "unlearning": {},
    "attack": {"samples": None},
    "size": 3000,
    "spaces": PAPER_SPACES,
    "tuning": {"seeds": (100,), "settings": 20},
}

TINY_IMAGENET: Setting = {
    **PAPER,
    "data": {
        "name": "tiny_imagenet",
        "data_dir": "tiny-imagenet-200",
        "validation_fraction": 0.1,
    },
    "bank": PAPER["bank"],
    "entanglement": {"groups": 100, "centers": (98, 50, 1)},
}

CIFAR10: Setting = {
    **PAPER,
    "data": {"name": "cifar10", "data_dir": None, "validation_fraction": 0.1},
}
AUGMENTED = {**PAPER_SGD, "augmentation": "crop_flip"}
TRANSFORMER = {
    "training": {
        "optimizer": "adamw",
        "batch_size": 256,
        "epochs": 200,
        "learning_rate": 3e-4,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warm_up": 10,
        "label_smoothing": 0.1,
        "augmentation": "crop_flip_cutout",
    },
    "unlearning": {"optimizer": "adamw", "weight_decay": 5e-4},
    "spaces": {
        name: {**space, "learning_rate": ("log", 1e-5, 1e-3)} if "learning_rate" in space else space
        for name, space in PAPER_SPACES.items()
    },
}
"""AdamW, its rate, decay and warm-up, and smoothing are those of ReGUn's code for Swin-T.

Unlearning has the decay of the benchmark of transformers by RUM's authors (arXiv 2602.20114), and
rates around its 1e-4. Epochs and cutout are a choice: small transformers overfit such images.
"""
WIDE = {
    "training": {
        **AUGMENTED,
        "batch_size": 128,
        "epochs": 200,
        "schedule": "steps",
        "milestones": (60, 120, 160),
        "decay": 0.2,
    }
}
"""As in Zagoruyko & Komodakis (BMVC 2016), section 3, but for Nesterov's momentum."""
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "cifar10_vit_ti4": ("vit_ti4", TRANSFORMER),
    "cifar10_vit_s4": ("vit_s4", TRANSFORMER),
    "cifar10_wrn28_2": ("wrn28_2", WIDE),
    "cifar10_wrn28_10": ("wrn28_10", WIDE),
    "cifar10_resnet9": (
        "resnet9",
        # As in TRAK's example for this network, whose rate falls in a straight line.
        {
            "training": {
                **AUGMENTED,
                "batch_size": 512,
                "epochs": 24,
                "learning_rate": 0.4,
                "schedule": "cosine",
                "warm_up": 5,
            }
        },
    ),
    "cifar10_resnet34": (
        "resnet34",
        # As AMUN's code trains ResNet-18.
        {
            "training": {
                **AUGMENTED,
                "epochs": 200,
                "schedule": "steps",
                "milestones": (40, 80, 120, 160),
                "decay": 0.1,
            }
        },
    ),
}
"""Settings of CIFAR-10 for other networks: the network, and sections that are not the paper's.

None of these recipes was run in full by the authors of this file.
"""

SMALL: Setting = {
    "seed": 0,
    "seeds": 3,
    "model": {"name": "cnn"},
    "training": {
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "augmentation": "none",
    },
    "unlearning": {},
    "spaces": SMALL_SPACES,
}
"""Sections of settings for two CPU cores."""

FASHION_MNIST: Setting = {
    **SMALL,
    "data": {"name": "fashion_mnist", "data_dir": None, "validation_fraction": 0.1},
    "model": {"name": "cnn", "options": {"widths": (8, 16, 32)}},
    "bank": {"models": 128, "fraction": 0.5, "seed": 0},
    "attack": {"samples": 2000},
    "spaces": MEDIUM_SPACES,
    "size": 3000,
    "tuning": {"seeds": (100,), "settings": None},
}

SETTINGS: dict[str, Setting] = {
    "fashion_mnist_mini": {
        **SMALL,
        "data": {"name": "fashion_mnist_mini", "data_dir": None},
        "bank": {"models": 64, "fraction": 0.5, "seed": 0},
        "attack": {"samples": 1000},
        "size": 300,
        "tuning": {"seeds": (100, 101), "settings": None},
    },
    "fashion_mnist": FASHION_MNIST,
    # Classifies .9986 of D and .9202 of T correctly (one seed). 620 000 parameters; 25 times as
    # many operations as the network above in its 10 epochs.
    "fashion_mnist_interpolating": {
        **FASHION_MNIST,
        "model": {"name": "cnn", "options": {"widths": (32, 64, 128), "hidden": 256}},
        "training": {**SMALL["training"], "epochs": 20},
    },
    "cifar10": {
        **CIFAR10,
        "model": {"name": "resnet18", "bfloat16": False},
        "training": {**PAPER_SGD, "epochs": 30, "schedule": "cosine", "augmentation": "none"},
    },
    "cifar100": {
        **PAPER,
        "data": {"name": "cifar100", "data_dir": None, "validation_fraction": 0.1},
        "model": {"name": "resnet50", "bfloat16": False},
        "training": {
            **AUGMENTED,
            "epochs": 150,
            "schedule": "steps",
            "milestones": (60, 120),
            "decay": 0.2,
        },
        "bank": PAPER["bank"],
    },
    "tiny_imagenet_resnet18": {
        **TINY_IMAGENET,
        "model": {"name": "resnet18", "bfloat16": False},
        "training": {**AUGMENTED, "epochs": 80, "schedule": "cosine"},
    },
    "tiny_imagenet_vgg16": {
        **TINY_IMAGENET,
        "model": {"name": "vgg16", "bfloat16": False},
        "training": {**AUGMENTED, "epochs": 100, "schedule": "cosine"},
    },
    **{
        name: {**CIFAR10, "model": {"name": network, "bfloat16": False}, **sections}
        for name, (network, sections) in NETWORKS.items()
    },
}


MIXED: dict[str, dict[str, Any]] = {
    "finetune": {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 10},
    "l1_sparse": {"algorithm": "l1_sparse", "learning_rate": 0.05, "epochs": 10, "penalty": 1e-5},
    "neggrad_plus": {"algorithm": "neggrad_plus", "learning_rate": 0.03, "epochs": 5, "beta": 0.95},
    "salun": {
        "algorithm": "salun",
        "learning_rate": 0.05,
        "epochs": 10,
        "mask_fraction": 0.5,
    },
    "nothing": {"algorithm": "original"},
}
"""Unlearners inside the ranges of the paper, which were not tuned here."""
GRIDS = {
    "finetune": {"learning_rate": (0.01, 0.03, 0.1)},
    "l1_sparse": {"learning_rate": (0.005, 0.03, 0.1), "penalty": (1e-6, 1e-5, 1e-4)},
    "neggrad_plus": {"learning_rate": (0.01, 0.03, 0.05), "beta": (0.85, 0.95, 0.99)},
    "salun": {"learning_rate": (0.005, 0.03, 0.1), "mask_fraction": (0.3, 0.5, 0.7)},
}
"""Grids over the ranges of the paper."""


def rum_config(name: str, low: str, medium: str, high: str) -> ConfigDict:
    """Returns the configuration of the paper's own study of RUM, in one of its settings.

    Each algorithm runs as vanilla, shuffle and RUM^F, and besides them a RUM of three algorithms.

    Args:
      name: one of the paper's settings.
      low: the algorithm for the least memorized part, a key of `MIXED`.
      medium: the algorithm for the part in between.
      high: the algorithm for the most memorized part.

    Examples:
      >>> config = rum_config("cifar10", low="nothing", medium="finetune", high="salun")
      >>> len(config.methods), config.methods.mixed_rum.select.high.algorithm
      (13, 'salun')
    """
    config = setting(name)
    size = config.pop("size")
    for key in ("spaces", "entanglement"):
        config.pop(key, None)
    select = {"low": MIXED[low], "medium": MIXED[medium], "high": MIXED[high]}
    return ConfigDict(
        {
            **config,
            "name": f"{name}_rum",
            "forget": {"by": "memorization", "size": size // 3},
            "methods": {
                **strategies({key: MIXED[key] for key in GRIDS}),
                "mixed_rum": rum(select),
            },
            "tuning": {"seeds": (100,), "grids": GRIDS},
        }
    )


def setting(name: str) -> Setting:
    """Returns a copy of one of `SETTINGS`, to be changed at will.

    Raises:
      InvalidInputError: there is none of that name.

    Examples:
      >>> setting("fashion_mnist_mini")["data"]["name"]
      'fashion_mnist_mini'
    """
    return copy.deepcopy(SETTINGS[check_choice("setting", name, SETTINGS)])


def first(space: dict[str, Any]) -> dict[str, Any]:
    """Returns the first value of every option of a space, or the lower end of a range."""
    return {
        name: values[1] if values[0] in ("log", "uniform") else values[0]
        for name, values in space.items()
    }
