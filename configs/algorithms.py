"""Which algorithm forgets best, and what does a RUM of the best of them gain?

All algorithms forget 200 images of low, of medium and of high memorization, 200 random ones, and a
class, each tuned with the same number of settings within a third of retraining's epochs. On 200
images of each level of memorization together, all run on the whole set and, with a third of the
epochs, on its parts in sequence (RUM^F); and RUM runs with the best algorithm for each part, out of
all of them, that a search finds.

    python benchmarks/algorithms.py --workdir=runs/algorithms

makes this run, attacks the models besides, and writes docs/studies/algorithms. The run alone:

    python -m rumjax.launch --config=algorithms.py

UNSIR forgets the class alone, since it cannot forget less.
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import LEVELS, rum, rum_f, vanilla
from rumjax.lab.settings import first, setting
from rumjax.lab.spaces import EMBEDDED_SPACES

EPOCHS = 18
"""Of training. With 10, as elsewhere, the network would not fit what it is to forget."""
SETTINGS = 8
"""Settings that are tried of each method."""
SIZE, CLASS = 200, 3


def get_config():
    config = setting("fashion_mnist_mini")
    for other in ("size", "spaces"):
        config.pop(other)
    config["name"] = "algorithms"
    config["seeds"] = 5
    config["model"]["options"] = {"widths": (8, 16, 32)}
    config["training"]["epochs"] = EPOCHS
    config["unlearning"] = {"batch_size": 128}

    # Methods on the whole set, and on its parts with as many passes in all.
    spaces = {**EMBEDDED_SPACES, "scrub_rewind": EMBEDDED_SPACES["scrub"]}
    base = {each: {"algorithm": each, **first(space)} for each, space in spaces.items()}
    base["scrub_rewind"] |= {"algorithm": "scrub", "rewind": True}
    whole = {each: vanilla(options) for each, options in base.items()}
    unsir = whole.pop("unsir")
    short = {each: shortened(spaces[each]) for each in whole}
    refined = {f"{each}_rum_f": rum_f({**base[each], **first(short[each])}) for each in whole}
    chosen = rum({level: {**base["finetune"], **first(short["finetune"])} for level in LEVELS})

    # Sets of one kind, and one of all levels.
    sets = {level: {"by": "memorization", "size": SIZE, "levels": (level,)} for level in LEVELS} | {
        "random": {"by": "random", "size": SIZE}
    }
    config["cases"] = {
        **{name: {"forget": forget} for name, forget in sets.items()},
        "class": {
            "forget": {"by": "class", "classes": (CLASS,)},
            # Nothing of a class is expected to be known, and LoTUS is told so.
            "methods": {
                **whole,
                "lotus": vanilla({**base["lotus"], "held_out_accuracy": 0.0}),
                "unsir": unsir,
            },
        },
        "mixed": {"methods": {**whole, **refined, "rum": chosen}},
    }
    config["forget"] = {"by": "memorization", "size": SIZE}
    config["methods"] = whole
    config["tuning"] = {
        "seeds": (100,),
        "settings": SETTINGS,
        "adopt": True,
        "grids": {**spaces, **{f"{each}_rum_f": space for each, space in short.items()}},
        "select": {
            "rum": {
                # What needs models retrained without S is a bound, and no way to forget.
                "candidates": [name for name in refined if not name.startswith("oracle")],
                "search": "ascent",
                "orders": "configured",
                "budget": 4 * len(refined),
            }
        },
    }
    return ConfigDict(config)


def shortened(space):
    """A space of a third of the epochs."""
    shorter = {**space, "epochs": tuple(max(1, one // 3) for one in space.get("epochs", ()))}
    if "max_epochs" in space:
        shorter["max_epochs"] = (1,)
    return shorter if "epochs" in space else space
