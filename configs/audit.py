"""Can anyone tell unlearned models from models that never saw the forget set?

This configuration audits six algorithms, RUM^F and RUM by U-LiRA, LiRA, RMIA, RULI, KLOM, the score
of the NeurIPS 2023 challenge, and measures of populations. Each audit is shown beside what it finds
in retrained models, and in models that forgot nothing. The forget set holds images of low, medium
and high memorization in equal numbers. 64 models forget all of it, and each is compared with an
oracle of its own; 192 models of the bank forget a part of what they saw of it.

    python -m rumjax.launch --config=audit.py:fashion_mnist_mini

The settings that may follow the colon are those of difficulty.py. To audit another method, add it
to `methods`: only its unlearned models are made, and all others are used again.
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import rum, rum_f, vanilla
from rumjax.lab.settings import first, setting

COMMAND = "python -m rumjax.launch --config=audit.py"
REFINED = ("neggrad_plus", "salun")


def get_config(name="fashion_mnist_mini"):
    config = setting(name)
    size, spaces = config.pop("size"), config.pop("spaces")
    config.pop("entanglement", None)
    config["name"] = f"{name}_audit"
    config["seeds"] = 64
    config["bank"]["models"] = 192
    if config["model"]["name"] == "cnn":  # 700 of them are trained, and as many unlearned by each
        config["model"]["options"] = {"widths": (8, 16, 32)}
    config["forget"] = {"by": "memorization", "size": 2 * size // 3}
    for close_relative in ("l1_sparse", "random_label"):  # of fine-tuning and of SalUn
        del spaces[close_relative]
    base = {each: {"algorithm": each, **first(space)} for each, space in spaces.items()}
    nothing = {"algorithm": "original"}
    config["methods"] = {
        **{each: vanilla(options) for each, options in base.items()},
        **{f"{each}_rum_f": rum_f(base[each]) for each in REFINED},
        "rum": rum({"low": nothing, "medium": base["finetune"], "high": base["salun"]}),
    }
    config["audit"] = {"models": 192, "command": f"{COMMAND}:{name}"}
    short = {each: {**spaces[each], "epochs": (2,)} for each in REFINED}
    config["tuning"] |= {
        "adopt": True,
        "grids": {
            **spaces,
            **{f"{each}_rum_f": short[each] for each in REFINED},
            "rum": {
                "medium": {"learning_rate": spaces["finetune"]["learning_rate"], "epochs": (2,)},
                "high": spaces["salun"],
            },
        },
    }
    return ConfigDict(config)
