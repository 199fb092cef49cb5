"""Runs every algorithm once, on the most memorized images of the set that comes with rumjax.

Data: 6 000 training and 2 000 test images of Fashion-MNIST, which come with the package; the forget
set is the 200 most memorized. Model: a small convolutional network. Hardware: two CPU cores are
enough.

    python -m rumjax.launch --config=fashion_mnist_algorithms.py
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import vanilla


def get_config():
    config = ConfigDict()
    config.name = "fashion_mnist_algorithms"
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
    config.forget = {"by": "memorization", "size": 200, "levels": ("high",)}
    config.unlearning = {}
    config.attack = {"samples": 1000}  # members and non-members a side
    # Chosen by the search at the end, whose seeds are not reported here.
    chosen = {
        "finetune": {"learning_rate": 0.2, "epochs": 8},
        "l1_sparse": {"learning_rate": 0.2, "epochs": 5, "penalty": 1e-4},
        "neggrad": {"learning_rate": 0.003, "epochs": 5},
        "neggrad_plus": {"learning_rate": 0.01, "epochs": 5, "beta": 0.95},
        "scrub": {"learning_rate": 0.03, "epochs": 5, "max_epochs": 3},
        "influence": {"alpha": 1.0, "damping": 0.01},
        "random_label": {"learning_rate": 0.05, "epochs": 5},
        "salun": {"learning_rate": 0.2, "epochs": 5, "mask_fraction": 0.3},
    }
    config.methods = {
        name: vanilla({"algorithm": name, **options}) for name, options in chosen.items()
    }
    # What `python -m rumjax.tune` searched.
    rates = (0.05, 0.1, 0.2)
    config.tuning = {
        "seeds": (100, 101),
        "grids": {
            "finetune": {"learning_rate": rates, "epochs": (5, 8)},
            "l1_sparse": {"learning_rate": rates, "epochs": (5,), "penalty": (1e-5, 1e-4)},
            "neggrad": {"learning_rate": (3e-4, 1e-3, 3e-3), "epochs": (2, 5)},
            "neggrad_plus": {
                "learning_rate": (0.01, 0.02),
                "epochs": (5,),
                "beta": (0.92, 0.95, 0.98),
            },
            "scrub": {"learning_rate": (0.003, 0.01, 0.03), "epochs": (5,), "max_epochs": (1, 3)},
            "influence": {"alpha": (0.01, 0.03, 0.1, 0.3, 1.0), "damping": (1e-2, 1e-1)},
            "random_label": {"learning_rate": rates, "epochs": (3, 5)},
            "salun": {"learning_rate": rates, "epochs": (5,), "mask_fraction": (0.3, 0.6)},
        },
    }
    return config
