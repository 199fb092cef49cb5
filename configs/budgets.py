"""When does it pay to refine a forget set: in which regime, and within which budget?

Five algorithms run on the whole set (vanilla), on random parts in sequence (shuffle), and on parts
by memorization (RUM^F), and RUM runs with the best algorithm for each part: all of them within 2 to
50 % of the gradients of retraining, with as many settings tried. Forget sets hold 1, 5 or 10 % of
D, of all levels of memorization or of the highest alone.

    python -m rumjax.launch --config=budgets.py:fashion_mnist_mini,interpolating

After the colon come a setting of difficulty.py and a regime: "underfit" trains as that setting
does, "interpolating" (the default) twice as long, until the network fits D, and "noisy" three times
as long, with a tenth of the labels replaced.
"""

import math

from ml_collections import ConfigDict

from rumjax.errors import check_choice
from rumjax.lab.methods import LEVELS, SHUFFLED, rum, rum_f, shuffle, vanilla, within
from rumjax.lab.settings import first, setting

REGIMES = {
    "underfit": {"longer": 1},
    "interpolating": {"longer": 2},
    "noisy": {"longer": 3, "label_noise": 0.1},
}
BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.33, 0.5)
"""Of the gradients of retraining."""
SIZES = (0.01, 0.05, 0.1)
"""Of D."""
EXAMPLES = {"fashion_mnist_mini": 6_000, "fashion_mnist": 54_000, "cifar10": 45_000}
"""In D."""
SETTINGS = 8
"""Settings that are tried of each method."""
CHOICES = 16
"""Choices of RUM that are tried: the best RUM^F, and each algorithm or nothing for each part."""
SPACES = {
    "finetune": {"learning_rate": ("log", 0.02, 0.3)},
    "l1_sparse": {"learning_rate": ("log", 0.02, 0.3), "penalty": ("log", 1e-6, 1e-4)},
    "neggrad_plus": {"learning_rate": ("log", 0.005, 0.1), "beta": ("uniform", 0.8, 0.99)},
    "salun": {"learning_rate": ("log", 0.02, 0.3), "mask_fraction": ("uniform", 0.3, 0.9)},
    "scrub": {"learning_rate": ("log", 1e-3, 0.03)},
}
GRADIENTS = {"neggrad_plus": 2}
"""Of an example of R in an epoch, where they are not one."""
OF_FORGET = {"salun": 1}
"""Gradients of an example of S in an epoch, where they are any."""
ONCE = {"salun": 1, "scrub": 1}
"""Gradients of an example of S besides: of SalUn's mask, and SCRUB's max epoch."""
LEAST = 2
"""Epochs of a step: SCRUB descends in at least one more than it ascends in."""
LEAST_SHARE = 0.01
"""Of R, below which an algorithm does not fit a budget, as S alone takes it."""
FORMS = {"vanilla": (vanilla, ()), "shuffle": (shuffle, SHUFFLED), "rum_f": (rum_f, LEVELS)}
"""How methods are written, and the parts of those that have any."""


def get_config(name="fashion_mnist_mini"):
    named, _, regime = name.partition(",")
    config = setting(named)
    chosen = REGIMES[check_choice("regime", regime or "interpolating", REGIMES)]
    for other in ("size", "spaces", "entanglement", "forget", "methods"):
        config.pop(other, None)
    config["name"] = f"{named}_budgets" + (f"_{regime}" if regime in REGIMES else "")
    config["seeds"] = 8
    config["training"]["epochs"] *= chosen["longer"]
    config["data"]["label_noise"] = chosen.get("label_noise", 0.0)
    # Hundreds of models are attacked in a case, and fitting an attack would take longer than most.
    config["attack"] = {"samples": 300}

    # Some algorithms do not fit a small budget where S is large.
    epochs, count = config["training"]["epochs"], EXAMPLES[named]
    batch_size = config["training"]["batch_size"]
    fitting = {
        budget: [name for name in SPACES if fits(name, budget * epochs, count, batch_size)]
        for budget in BUDGETS
    }

    # Forget sets of several sizes, mixed or of the most memorized examples alone.
    config["cases"] = {}
    for size in SIZES:
        forgotten = round(size * count)
        retained = count - forgotten
        methods = methods_of(fitting, epochs, forgotten / retained, batch_size / retained)
        sets = {
            "mixed": {"by": "memorization", "size": forgotten // 3},
            "high": {"by": "memorization", "size": forgotten, "levels": ("high",)},
        }
        for kind, forget in sets.items():
            config["cases"][f"{kind}_{100 * size:.0f}"] = {"forget": forget, "methods": methods}

    # As many settings of every method, each part with numbers of its own; RUM is made of what RUM^F
    # is tuned to.
    config["tuning"] = {
        "seeds": (100,),
        "settings": SETTINGS,
        "adopt": True,
        "grids": {
            f"{each}_{form}_{label(budget)}": dict.fromkeys(parts, SPACES[each]) or SPACES[each]
            for budget in BUDGETS
            for each in fitting[budget]
            for form, (_, parts) in FORMS.items()
        },
        "select": {
            f"rum_{label(budget)}": {
                "candidates": [f"{each}_rum_f_{label(budget)}" for each in fitting[budget]],
                "orders": "configured",
                "budget": CHOICES,
            }
            for budget in BUDGETS
        },
    }
    return ConfigDict(config)


def fits(name, epochs, count, batch_size):
    """Whether an algorithm has something left for R in every form, for S of all sizes."""
    return all(
        plan(name, epochs, size / (1 - size), batch_size / (count * (1 - size)), steps)[1]
        >= LEAST_SHARE
        for size in SIZES
        for steps in (1, 3)
    )


def methods_of(fitting, epochs, forget, batch):
    """All methods for a recipe of so many epochs, S and batches of such shares of R."""
    methods = {}
    for budget in BUDGETS:
        for name in fitting[budget]:
            for form, (written, parts) in FORMS.items():
                passes, share = plan(name, budget * epochs, forget, batch, len(parts) or 1)
                options = {"algorithm": name, **first(SPACES[name]), "epochs": passes}
                if name == "scrub":
                    options["max_epochs"] = 1
                method = within(written(options), budget=budget, retain_share=share)
                methods[f"{name}_{form}_{label(budget)}"] = method

        # What a search chooses for a part takes as many epochs as in RUM^F.
        chosen = rum({part: {"algorithm": "original"} for part in LEVELS})
        methods[f"rum_{label(budget)}"] = within(chosen, budget=budget)
    return methods


def plan(name, epochs, forget, batch, steps):
    """The passes of each step, and the share of R in them, that take as many epochs in all."""
    per_example = GRADIENTS.get(name, 1)
    passes = max(LEAST, math.ceil(epochs / steps))
    of_forget = forget * (passes * OF_FORGET.get(name, 0) + ONCE.get(name, 0))
    if per_example > 1:  # whole batches of S beside those of R
        of_forget += passes * steps * batch
    # What is to be forgotten later is retained until then.
    retained = per_example * passes * (steps + forget * (steps - 1) / 2)
    share = math.floor(990 * (epochs - of_forget) / retained) / 1000
    return passes, min(1.0, share)


def label(budget):
    return f"{100 * budget:.0f}"
