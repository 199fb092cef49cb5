"""What happens when requests to forget keep coming?

A forget set arrives in five requests of equal difficulty. Each method goes on from its own result
of the request before, and is compared with models that were retrained without everything requested
so far. RUM^F refines each request by hold-out retraining, either with the scores of the original
model or with new scores, made for each request with the model that is to forget it.

    python -m rumjax.launch --config=requests.py:fashion_mnist_mini

The settings that may follow the colon are those of difficulty.py.
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.settings import first, setting

COMMAND = "python -m rumjax.launch --config=requests.py"
REQUESTS = 5
KEPT, ANEW = "rum_f_scores_kept", "rum_f_scores_anew"


def get_config(name="fashion_mnist_mini"):
    config = setting(name)
    size, spaces = config.pop("size"), config.pop("spaces")
    config.pop("entanglement", None)
    base = {
        each: {"algorithm": each, **first(spaces[each])}
        for each in ("finetune", "neggrad_plus", "salun")
    }
    config["name"] = f"{name}_requests"
    forget = {"by": "memorization", "size": size // 3, "requests": REQUESTS}
    config["cases"] = {
        f"request_{number}": {
            "forget": {**forget, "until": number},
            "after": f"request_{number - 1}" if number > 1 else None,
        }
        for number in range(1, REQUESTS + 1)
    }
    config["methods"] = {
        **{each: vanilla(options) for each, options in base.items()},
        KEPT: rum_f(base["salun"], refine="holdout_retraining"),
        ANEW: rum_f(base["salun"], refine="rescored"),
    }
    config["study"] = {
        "kind": "requests",
        "command": f"{COMMAND}:{name}",
        "pairs": {KEPT: ANEW},
    }
    config["tuning"] |= {
        "adopt": True,
        "grids": {
            **{each: spaces[each] for each in base},
            KEPT: {**spaces["salun"], "epochs": (2,)},
        },
        "like": {ANEW: KEPT},
    }
    return ConfigDict(config)
