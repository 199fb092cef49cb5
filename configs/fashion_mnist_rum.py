"""Compares RUM with its baselines, on the images that come with rumjax.

Data: 6 000 training and 2 000 test images of Fashion-MNIST, which come with the package.
Model: a small convolutional network, trained until it fits all of them, as those of the paper do.
Budget: every method takes at most a third of the gradients of retraining. Hardware: two CPU cores
are enough.

    python -m rumjax.launch --config=fashion_mnist_rum.py
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import LEVELS, SHUFFLED, rum, rum_f, shuffle, vanilla, within


def finetune(learning_rate, epochs):
    return {"algorithm": "finetune", "learning_rate": learning_rate, "epochs": epochs}


def neggrad_plus(learning_rate, epochs, beta):
    settings = {"learning_rate": learning_rate, "epochs": epochs, "beta": beta}
    return {"algorithm": "neggrad_plus", **settings}


def salun(learning_rate, epochs, mask_fraction):
    settings = {"learning_rate": learning_rate, "epochs": epochs, "mask_fraction": mask_fraction}
    return {"algorithm": "salun", **settings}


def get_config():
    config = ConfigDict()
    config.name = "fashion_mnist_rum"
    config.seed = 0  # of the first run; the others follow
    config.seeds = 3
    config.data = {"name": "fashion_mnist_mini"}
    config.model = {"name": "cnn"}
    config.training = {
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "cosine",
        "weight_decay": 5e-4,
        "augmentation": "none",
    }
    config.budget = 1 / 3  # of the gradients of retraining
    config.bank = {"models": 64, "fraction": 0.5, "seed": 0}
    config.forget = {"by": "memorization", "size": 200}
    config.unlearning = {}
    config.attack = {"samples": 1000}  # members and non-members a side
    # Chosen by the search at the end, whose seeds are not reported here. Parts in sequence take as
    # many epochs in all as one step on all of S.
    config.methods = {
        "finetune_vanilla": vanilla(finetune(0.157, 6)),
        "finetune_shuffle": shuffle(finetune(0.045, 2), finetune(0.204, 2), finetune(0.0228, 2)),
        "finetune_rum_f": rum_f(finetune(0.253, 2), finetune(0.0203, 2), finetune(0.0921, 2)),
        "neggrad_plus_vanilla": vanilla(neggrad_plus(0.00749, 3, 0.856)),
        "neggrad_plus_shuffle": shuffle(
            neggrad_plus(0.0255, 1, 0.922),
            neggrad_plus(0.0417, 1, 0.897),
            neggrad_plus(0.0071, 1, 0.87),
        ),
        "neggrad_plus_rum_f": rum_f(
            neggrad_plus(0.0507, 1, 0.94),
            neggrad_plus(0.0125, 1, 0.961),
            neggrad_plus(0.00835, 1, 0.841),
        ),
        # The mask takes gradients too.
        "salun_vanilla": within(vanilla(salun(0.063, 6, 0.916)), retain_share=0.97),
        "salun_shuffle": shuffle(
            salun(0.084, 2, 0.796), salun(0.254, 2, 0.674), salun(0.0337, 2, 0.583)
        ),
        "salun_rum_f": rum_f(
            salun(0.0889, 2, 0.297), salun(0.223, 2, 0.707), salun(0.0342, 2, 0.366)
        ),
        "mixed_rum": rum(
            {
                "low": neggrad_plus(0.0507, 1, 0.94),
                "medium": salun(0.223, 2, 0.707),
                "high": salun(0.0342, 2, 0.366),
            }
        ),
    }
    # What `python -m rumjax.tune` searched: as many settings of every method, and numbers of their
    # own for parts.
    spaces = {
        "finetune": {"learning_rate": ("log", 0.02, 0.3)},
        "neggrad_plus": {"learning_rate": ("log", 0.005, 0.1), "beta": ("uniform", 0.8, 1.0)},
        "salun": {"learning_rate": ("log", 0.02, 0.3), "mask_fraction": ("uniform", 0.2, 1.0)},
    }
    config.tuning = {
        "seeds": (100, 101),
        "settings": 16,
        "grids": {
            f"{name}_{form}": dict.fromkeys(parts, space) if parts else space
            for name, space in spaces.items()
            for form, parts in {"vanilla": (), "shuffle": SHUFFLED, "rum_f": LEVELS}.items()
        },
        "select": {
            "mixed_rum": {
                "candidates": [f"{name}_rum_f" for name in spaces],
                "orders": "configured",
                "budget": 16,
            }
        },
    }
    return config
