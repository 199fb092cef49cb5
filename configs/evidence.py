"""Models to try the evidence of `python -m rumjax.forget` on: can it tell what has forgotten?

64 seeds give an original model each, which remembers everything, and two oracles for each of two
forget sets, which never saw it: the most memorized images, and a random part of D. A bank of 64
models is there to compare single examples with. `benchmarks/evidence.py` reads what this leaves.

    python -m rumjax.launch --config=evidence.py
"""

from ml_collections import ConfigDict

from rumjax.lab.settings import setting

SIZE = 200


def get_config():
    config = setting("fashion_mnist_mini")
    for other in ("size", "spaces", "entanglement", "tuning"):
        config.pop(other, None)
    config["name"] = "evidence"
    config["seeds"] = 64
    config["bank"]["models"] = 64
    config["model"]["options"] = {"widths": (8, 16, 32)}  # 448 models are trained
    config["methods"] = {}
    config["cases"] = {
        "high": {"forget": {"by": "memorization", "size": SIZE, "levels": ("high",)}},
        "random": {"forget": {"by": "random", "size": SIZE}},
    }
    return ConfigDict(config)
