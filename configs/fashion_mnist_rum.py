"""Compares RUM with its baselines, on the images that come with rumjax.

Data: 6 000 training and 2 000 test images of Fashion-MNIST, which come with the package.
Model: a small convolutional network. Hardware: two CPU cores are enough.

    python -m rumjax.launch --config=fashion_mnist_rum.py
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import LEVELS, SHUFFLED, rum, rum_f, shuffle, vanilla


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
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "cosine",
        "weight_decay": 5e-4,
        "augmentation": "none",
    }
    config.bank = {"models": 64, "fraction": 0.5, "seed": 0}
    config.forget = {"by": "memorization", "size": 200}
    config.unlearning = {}
    config.attack = {"samples": 1000}  # members and non-members a side
    # Chosen by the search at the end, whose seeds are not reported here.
    config.methods = {
        "finetune_vanilla": vanilla(finetune(0.2, 8)),
        "finetune_shuffle": shuffle(finetune(0.1, 1), finetune(0.2, 2), finetune(0.1, 5)),
        "finetune_rum_f": rum_f(finetune(0.1, 1), finetune(0.1, 2), finetune(0.2, 5)),
        "neggrad_plus_vanilla": vanilla(neggrad_plus(0.01, 8, 0.92)),
        "neggrad_plus_shuffle": shuffle(
            neggrad_plus(0.01, 1, 0.99), neggrad_plus(0.02, 2, 0.97), neggrad_plus(0.02, 5, 0.95)
        ),
        "neggrad_plus_rum_f": rum_f(
            neggrad_plus(0.01, 1, 0.99), neggrad_plus(0.02, 2, 0.97), neggrad_plus(0.01, 5, 0.95)
        ),
        "salun_vanilla": vanilla(salun(0.1, 5, 0.3)),
        "salun_shuffle": shuffle(salun(0.05, 1, 0.5), salun(0.1, 2, 0.5), salun(0.2, 5, 0.6)),
        "salun_rum_f": rum_f(salun(0.05, 1, 0.5), salun(0.1, 2, 0.5), salun(0.1, 5, 0.6)),
        "mixed_rum": rum(
            {
                "low": {"algorithm": "original"},
                "medium": finetune(0.2, 2),
                "high": salun(0.1, 8, 0.3),
            }
        ),
    }
    # What `python -m rumjax.tune` searched. Shuffle and RUM^F have grids of one size: short steps
    # first, and the last one searched like the only one of vanilla.
    grids = {
        "finetune": {"learning_rate": (0.05, 0.1, 0.2)},
        "neggrad_plus": {"learning_rate": (0.01, 0.02), "beta": (0.92, 0.95, 0.98)},
        "salun": {"learning_rate": (0.05, 0.1, 0.2), "mask_fraction": (0.3, 0.6)},
    }
    early = {
        "finetune": ({"learning_rate": (0.1,)}, {"learning_rate": (0.1, 0.2)}),
        "neggrad_plus": (
            {"learning_rate": (0.01,), "beta": (0.99,)},
            {"learning_rate": (0.02,), "beta": (0.97,)},
        ),
        "salun": ({"learning_rate": (0.05,)}, {"learning_rate": (0.1,)}),
    }
    config.tuning = {
        "seeds": (100, 101),
        "grids": {
            **{f"{name}_vanilla": {**grid, "epochs": (5, 8)} for name, grid in grids.items()},
            **{
                f"{name}_{strategy}": {
                    parts[0]: {**early[name][0], "epochs": (1,)},
                    parts[1]: {**early[name][1], "epochs": (2,)},
                    parts[2]: {**grid, "epochs": (5,)},
                }
                for name, grid in grids.items()
                for strategy, parts in {"shuffle": SHUFFLED, "rum_f": LEVELS}.items()
            },
            "mixed_rum": {
                "medium": {"learning_rate": (0.1, 0.2), "epochs": (2,)},
                # 8 epochs were tried after the others, with the better rate of medium.
                "high": {**grids["salun"], "epochs": (5, 8)},
            },
        },
    }
    return config
