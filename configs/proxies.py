"""Which cheap score can stand in for memorization?

Six proxies (Zhao & Triantafillou, arXiv 2410.16516), self-influence and nearness to the mean
embedding are compared with the memorization that a bank of models estimates: how alike they rank
images, which sets they choose, what they cost, and how well RUM^F does when it refines by them.

    python -m rumjax.launch --config=proxies.py:fashion_mnist_mini

The settings that may follow the colon are those of difficulty.py.
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import SCORES, rum_f, shuffle, vanilla
from rumjax.lab.settings import first, setting

COMMAND = "python -m rumjax.launch --config=proxies.py"
ALGORITHM = "salun"
DRIVEN = {each: f"refined_by_{each}" for each in (*SCORES, "entanglement")}


def get_config(name="fashion_mnist_mini"):
    config = setting(name)
    size, spaces = config.pop("size"), config.pop("spaces")
    config.pop("entanglement", None)
    base = {"algorithm": ALGORITHM, **first(spaces[ALGORITHM])}
    config["name"] = f"{name}_proxies"
    config["forget"] = {"by": "memorization", "size": size // 3}
    config["methods"] = {
        "vanilla": vanilla(base),
        "shuffle": shuffle(base),
        **{method: rum_f(base, refine=score) for score, method in DRIVEN.items()},
    }
    config["study"] = {
        "kind": "proxies",
        "command": f"{COMMAND}:{name}",
        "size": size,
        "driven": DRIVEN,
    }
    tuned = DRIVEN["memorization"]
    config["tuning"] |= {
        "adopt": True,
        "grids": {
            "vanilla": spaces[ALGORITHM],
            tuned: {**spaces[ALGORITHM], "epochs": (2,)},
        },
        "like": {method: tuned for method in ("shuffle", *DRIVEN.values()) if method != tuned},
    }
    return ConfigDict(config)
