"""What is searched of each algorithm: values of its options, or ranges that they are drawn from."""

from typing import Any

Space = dict[str, tuple[Any, ...]]
"""Values by option, or ("log", low, high) or ("uniform", low, high)."""

PAPER_SPACES: dict[str, Space] = {
    "finetune": {"learning_rate": ("log", 0.01, 0.1), "epochs": (10,)},
    "l1_sparse": {
        "learning_rate": ("log", 0.005, 0.1),
        "penalty": ("log", 1e-6, 1e-4),
        "epochs": (10,),
    },
    "neggrad": {"learning_rate": ("log", 1e-4, 0.1), "epochs": (5, 10)},
    "neggrad_plus": {
        "learning_rate": ("log", 0.01, 0.05),
        "beta": ("uniform", 0.85, 0.99),
        "epochs": (5,),
    },
    "scrub": {
        "learning_rate": ("log", 5e-4, 0.01),
        "max_epochs": (2, 3, 4, 5),
        "epochs": (6, 10),
    },
    "influence": {"alpha": ("log", 0.01, 100), "damping": (0.001, 0.01, 0.1)},
    "random_label": {"learning_rate": ("log", 0.01, 0.1), "epochs": (10,)},
    "salun": {
        "learning_rate": ("log", 0.005, 0.1),
        "mask_fraction": ("uniform", 0.3, 0.7),
        "epochs": (5, 10),
    },
}
"""The ranges of Zhao et al., NeurIPS 2024, and smaller steps of `influence` than its 1 to 100."""
SMALL_SPACES: dict[str, Space] = {
    "finetune": {"learning_rate": (0.02, 0.05, 0.1, 0.2), "epochs": (4,)},
    "l1_sparse": {"learning_rate": (0.05, 0.1), "penalty": (1e-5, 1e-4), "epochs": (4,)},
    "neggrad": {"learning_rate": (3e-4, 1e-3, 3e-3, 1e-2), "epochs": (2, 5)},
    "neggrad_plus": {"learning_rate": (0.01, 0.03), "beta": (0.9, 0.95, 0.98), "epochs": (3,)},
    "scrub": {"learning_rate": (0.005, 0.02), "max_epochs": (1, 2), "epochs": (4,)},
    "influence": {"alpha": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "damping": (0.01, 0.1)},
    "random_label": {"learning_rate": (0.02, 0.05, 0.1), "epochs": (3,)},
    "salun": {"learning_rate": (0.05, 0.1, 0.2), "mask_fraction": (0.3, 0.6), "epochs": (3,)},
}
RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
MEDIUM_SPACES: dict[str, Space] = {
    "finetune": {"learning_rate": RATES, "epochs": (4,)},
    "l1_sparse": {"learning_rate": RATES[1:5], "penalty": (1e-6, 1e-5), "epochs": (4,)},
    "neggrad": {"learning_rate": (3e-5, 1e-4, 3e-4, 1e-3), "epochs": (2, 5)},
    "neggrad_plus": {
        "learning_rate": (0.01, 0.03),
        "beta": (0.9, 0.95, 0.98, 0.99),
        "epochs": (3,),
    },
    "scrub": {"learning_rate": (5e-4, 1e-3, 2e-3, 5e-3), "max_epochs": (1, 2), "epochs": (4,)},
    "influence": {"alpha": (0.03, 0.1, 0.3, 1.0, 3.0), "damping": (0.01, 0.1)},
    "random_label": {"learning_rate": RATES[:5], "epochs": (3,)},
    "salun": {"learning_rate": RATES[1:5], "mask_fraction": (0.3, 0.6), "epochs": (3,)},
}
"""Values for ten times as many images, and so ten times as many steps in an epoch."""

PUBLISHED_SPACES: dict[str, Space] = {
    **PAPER_SPACES,
    "cf_k": {"k": (1, 4, 8), "learning_rate": ("log", 0.005, 0.1), "epochs": (10,)},
    "eu_k": {"k": (1, 4, 8), "learning_rate": ("log", 0.005, 0.1), "epochs": (10,)},
    "sharp_minmax": {
        "learning_rate": ("log", 0.005, 0.05),
        "beta": ("uniform", 0.85, 0.99),
        "mask_fraction": ("uniform", 0.1, 0.5),
        "epochs": (5, 10),
    },
    "sfr_on": {
        "learning_rate": ("log", 0.001, 0.1),
        "alpha": ("log", 1, 100),
        "epochs": (4,),
    },
    "bad_teacher": {"learning_rate": ("log", 1e-5, 1e-2), "epochs": (1, 2)},
    "lotus": {"learning_rate": ("log", 1e-5, 1e-3), "alpha": (2.0, 8.0), "epochs": (10,)},
    "delete": {"learning_rate": ("log", 1e-5, 1e-2), "epochs": (20,)},
    "regun": {
        "learning_rate": ("log", 0.001, 0.1),
        "forget_weight": ("uniform", 0.1, 0.9),
        "epochs": (10,),
    },
    "oracle_matching": {
        "learning_rate": ("log", 1e-5, 1e-3),
        "ratio": (1.0, 3.0, 10.0),
        "epochs": (5,),
    },
    "datamodel_matching": {
        "learning_rate": ("log", 1e-5, 1e-3),
        "ratio": (1.0, 3.0, 10.0),
        "epochs": (5,),
    },
    "amun": {
        "learning_rate": (0.1, 0.05, 0.01, 0.005, 1e-3, 1e-4, 1e-5),
        "decay_every": (1, 5, 10),
        "epochs": (10,),
    },
    "boundary_shrink": {"learning_rate": ("log", 1e-6, 1e-3), "epochs": (10,)},
    "boundary_expand": {"learning_rate": ("log", 1e-6, 1e-3), "epochs": (10,)},
    "unsir": {"learning_rate": ("log", 0.001, 0.05), "epochs": (2,)},
    "localized_reset": {
        "learning_rate": ("log", 0.005, 0.1),
        "fraction": ("uniform", 0.05, 0.5),
        "epochs": (30,),
    },
    "msg": {
        "learning_rate": ("log", 1e-5, 0.1),
        "fraction": ("uniform", 0.0, 1.0),
        "epochs": (5,),
    },
    "ct": {"learning_rate": ("log", 1e-5, 0.1), "epochs": (3, 5)},
    "ssd": {"alpha": ("log", 1, 100), "dampening": ("log", 0.1, 10)},
    "lfssd": {"alpha": ("log", 1, 100), "dampening": ("log", 0.1, 10)},
    "assd": {"dampening": ("log", 0.1, 1)},
    "fisher_noise": {"alpha": ("log", 1e-8, 1e-5)},
}
"""Ranges around what the papers and their code say, of every algorithm; see its factory."""

EMBEDDED_SPACES: dict[str, Space] = {
    "finetune": {"learning_rate": ("log", 0.02, 0.3), "epochs": (6,)},
    "l1_sparse": {
        "learning_rate": ("log", 0.02, 0.3),
        "penalty": ("log", 1e-5, 1e-3),
        "epochs": (6,),
    },
    "cf_k": {"k": (1, 2, 3), "learning_rate": ("log", 0.02, 0.3), "epochs": (6,)},
    "eu_k": {"k": (1, 2, 3), "learning_rate": ("log", 0.02, 0.3), "epochs": (6,)},
    "neggrad": {
        "learning_rate": ("log", 1e-4, 1e-2),
        "forget_loss_cap": (2.3, 5.0),
        "epochs": (6, 20),
    },
    "neggrad_plus": {
        "learning_rate": ("log", 0.005, 0.05),
        "beta": ("uniform", 0.8, 0.99),
        "forget_loss_cap": (2.3, 5.0),
        "epochs": (6,),
    },
    "sharp_minmax": {
        "learning_rate": ("log", 0.02, 0.15),
        "beta": ("uniform", 0.97, 0.999),
        "mask_fraction": ("uniform", 0.05, 0.3),
        "forget_loss_cap": (2.3, 5.0),
        "epochs": (6,),
    },
    "sfr_on": {
        "learning_rate": ("log", 0.01, 0.1),
        "alpha": ("log", 0.5, 10),
        "beta": (0.5, 1.0),
        "epochs": (6,),
    },
    "scrub": {
        "learning_rate": ("log", 5e-4, 0.03),
        "max_epochs": (1, 3),
        "epochs": (6,),
    },
    "bad_teacher": {
        "learning_rate": ("log", 1e-3, 0.03),
        "teacher": ("random", "uniform"),
        "epochs": (6,),
    },
    "lotus": {"learning_rate": ("log", 1e-4, 1e-2), "alpha": (2.0, 8.0), "epochs": (6,)},
    "delete": {"learning_rate": ("log", 3e-4, 0.02), "epochs": (6, 20)},
    "regun": {
        "learning_rate": ("log", 0.02, 0.2),
        "forget_weight": ("log", 0.02, 0.5),
        "batch_size": (32,),
        "epochs": (10, 30),
    },
    "oracle_matching": {
        "learning_rate": ("log", 1e-4, 1e-2),
        "ratio": (3.0, 10.0),
        "epochs": (6, 20),
    },
    "datamodel_matching": {
        "learning_rate": ("log", 1e-4, 1e-2),
        "ratio": (3.0, 10.0),
        "epochs": (6, 20),
    },
    "random_label": {"learning_rate": ("log", 0.01, 0.2), "epochs": (6,)},
    "salun": {
        "learning_rate": ("log", 0.01, 0.2),
        "mask_fraction": ("uniform", 0.3, 0.7),
        "epochs": (6,),
    },
    "amun": {
        "learning_rate": ("log", 0.01, 0.2),
        "variant": ("full", "adversarial_only"),
        "decay": (1.0, 0.1),
        "decay_every": (3,),
        "epochs": (6,),
    },
    "boundary_shrink": {
        "learning_rate": ("log", 1e-4, 0.03),
        "bound": (0.03, 0.1),
        "epochs": (6, 20),
    },
    "boundary_expand": {"learning_rate": ("log", 1e-5, 2e-3), "epochs": (6, 20)},
    "unsir": {"learning_rate": ("log", 0.01, 0.2), "epochs": (2,)},
    "localized_reset": {
        "learning_rate": ("log", 0.02, 0.3),
        "fraction": ("uniform", 0.05, 0.5),
        "epochs": (6,),
    },
    "msg": {
        "learning_rate": ("log", 0.01, 0.3),
        "fraction": ("uniform", 0.05, 0.5),
        "epochs": (6,),
    },
    "ct": {"learning_rate": ("log", 0.005, 0.1), "epochs": (6,)},
    "ssd": {"alpha": ("log", 1, 30), "dampening": ("log", 0.3, 10)},
    "lfssd": {"alpha": ("log", 0.3, 5), "dampening": ("log", 0.3, 3)},
    "assd": {"dampening": ("log", 0.03, 3), "importance": ("example", "batch")},
    "fisher_noise": {"alpha": ("log", 1e-7, 1e-4), "per_unit": (False, True)},
    "influence": {"alpha": ("log", 0.03, 3), "damping": (0.01, 0.1)},
}
"""Ranges for the embedded images, of every algorithm: at most a third of the 18 epochs in which
`configs/algorithms.py` trains. Of S alone there are more passes, which take fewer gradients."""
