"""Which algorithm forgets best, and what does a RUM of the best of them gain?

All algorithms forget the 200 images of low, medium and high memorization and 200 random ones, each
tuned with the same number of settings within a third of retraining's epochs. On 200 images of each
level of memorization together, all run on the whole set and, with a third of the epochs, on its
parts in sequence (RUM^F); and RUM runs with the best algorithm for each part, out of all of them,
that a search finds.

    python benchmarks/algorithms.py --workdir=runs/algorithms

makes this run, attacks the models besides, and writes docs/studies/algorithms. The run alone:

    python -m rumjax.launch --config=algorithms.py
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import LEVELS, rum, rum_f, vanilla
from rumjax.lab.settings import first, setting

EPOCHS = 18
"""Of training. With 10, as elsewhere, the network would not fit what it is to forget."""
BUDGET = EPOCHS // 3
"""Passes over the retained images, and over the forgotten ones"""
SETTINGS = 8
"""Settings that are tried of each method."""


def get_config(name="fashion_mnist_mini"):
    config = setting(name)
    config.pop("size")
    spaces = within(config.pop("spaces"), BUDGET)
    config["name"] = f"{name}_algorithms"
    config["seeds"] = 5
    config["model"]["options"] = {"widths": (8, 16, 32)}
    config["training"]["epochs"] = EPOCHS
    config["forget"] = {"by": "memorization", "size": 200}

    # Sets of one kind, and one of all levels.
    whole = {each: vanilla({"algorithm": each, **first(space)}) for each, space in spaces.items()}
    parts = within(spaces, BUDGET // len(LEVELS))
    refined = {
        f"{each}_rum_f": rum_f({"algorithm": each, **first(space)}) for each, space in parts.items()
    }
    chosen = rum({level: {"algorithm": "finetune", **first(parts["finetune"])} for level in LEVELS})
    by_level = {
        level: {"forget": {"by": "memorization", "size": 200, "levels": (level,)}}
        for level in LEVELS
    }
    config["cases"] = {
        **by_level,
        "random": {"forget": {"by": "random", "size": 200}},
        "mixed": {"methods": {**whole, **refined, "rum": chosen}},
    }
    config["methods"] = whole
    config["tuning"] = {
        "seeds": (100, 101),
        "settings": SETTINGS,
        "adopt": True,
        "grids": {**spaces, **{f"{each}_rum_f": space for each, space in parts.items()}},
        "select": {
            "rum": {
                "candidates": list(refined),
                "search": "ascent",
                "orders": "configured",
                "budget": 4 * len(refined),
            }
        },
    }
    return ConfigDict(config)


def within(spaces, epochs):
    """Spaces in which no algorithm takes more epochs."""
    return {
        name: space if "epochs" not in space else {**space, "epochs": (epochs,)}
        for name, space in spaces.items()
    }
