"""Does it pay to refine a forget set, and to choose an algorithm for each of its parts?

The forget set holds images of low, medium and high memorization in equal numbers (Zhao et al.,
NeurIPS 2024, section 5). Each algorithm runs on all of it (vanilla), on random parts in sequence
(shuffle), and on parts by memorization (RUM^F). RUM runs with an algorithm for each part: those
that the paper chooses by hand, those that a search finds within a budget, and the best of all
choices. RUM^F also runs in all orders of its parts, with other scores that refine, and with 2 to 6
parts.

    python -m rumjax.launch --config=refinement.py:fashion_mnist_mini

The settings that may follow the colon are those of difficulty.py.
"""

import itertools

from ml_collections import ConfigDict

from rumjax.lab.methods import LEVELS, rum, rum_f, strategies
from rumjax.lab.settings import first, setting

COMMAND = "python -m rumjax.launch --config=refinement.py"
ALGORITHMS = ("finetune", "l1_sparse", "neggrad_plus", "salun", "scrub")
FORMS = ("vanilla", "shuffle", "rum_f")
ORDERS = {">".join(each): f"order_{'_'.join(each)}" for each in itertools.permutations(LEVELS)}
REFINERS = {
    each: f"refined_by_{each}" for each in ("c_proxy", "holdout_retraining", "entanglement")
}
PARTS = {str(count): f"parts_{count}" for count in (2, 4, 5, 6)}


def get_config(name="fashion_mnist_mini"):
    config = setting(name)
    size, spaces = config.pop("size"), config.pop("spaces")
    config.pop("entanglement", None)
    base = {each: {"algorithm": each, **first(spaces[each])} for each in ALGORITHMS}
    nothing = {"algorithm": "original"}
    config["name"] = f"{name}_refinement"
    config["forget"] = {"by": "memorization", "size": size // 3}
    config["methods"] = {
        **strategies(base),
        "by_hand": rum({"low": nothing, "medium": base["finetune"], "high": base["salun"]}),
        "by_search": rum(dict.fromkeys(LEVELS, base["finetune"])),
        "by_exhaustion": rum(dict.fromkeys(LEVELS, base["finetune"])),
        **{
            method: rum_f(base["neggrad_plus"], order=order.split(">"))
            for order, method in ORDERS.items()
        },
        **{method: rum_f(base["salun"], refine=refiner) for refiner, method in REFINERS.items()},
        **{
            method: rum_f(base["salun"], parts=[f"part_{n + 1}" for n in range(int(count))])
            for count, method in PARTS.items()
        },
    }
    config["study"] = {
        "kind": "rum",
        "command": f"{COMMAND}:{name}",
        "strategies": {each: {form: f"{each}_{form}" for form in FORMS} for each in ALGORITHMS},
        "mixed": {
            "by hand": "by_hand",
            "by search": "by_search",
            "by exhaustion": "by_exhaustion",
        },
        "orders": ORDERS,
        "refiners": {"random": "salun_shuffle", "memorization": "salun_rum_f", **REFINERS},
        "parts": {**PARTS, "3": "salun_rum_f"},
    }
    candidates = [f"{each}_rum_f" for each in ("finetune", "neggrad_plus", "salun")]
    # Parts in sequence take about as many epochs in all as vanilla's one step.
    short = {each: {**spaces[each], "epochs": (2,)} for each in ALGORITHMS}
    short["scrub"]["max_epochs"] = (1,)
    config["tuning"] |= {
        "adopt": True,
        "grids": {
            **{f"{each}_vanilla": spaces[each] for each in ALGORITHMS},
            **{f"{each}_{form}": short[each] for each in ALGORITHMS for form in FORMS[1:]},
            "by_hand": {
                "medium": {"learning_rate": spaces["finetune"]["learning_rate"], "epochs": (2,)},
                "high": spaces["salun"],
            },
        },
        "select": {
            "by_search": {"candidates": candidates, "search": "ascent", "budget": 40},
            "by_exhaustion": {  # each of these or nothing for each part, in one order
                "candidates": candidates,
                "search": "exhaustive",
                "orders": "configured",
                "budget": 64,
            },
        },
        # These differ from a tuned method in order, refinement or number of parts alone.
        "like": {
            **dict.fromkeys(ORDERS.values(), "neggrad_plus_rum_f"),
            **dict.fromkeys([*REFINERS.values(), *PARTS.values()], "salun_rum_f"),
        },
    }
    return ConfigDict(config)
