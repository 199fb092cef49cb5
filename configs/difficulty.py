"""What makes forgetting hard?

Every algorithm forgets sets of low, medium and high difficulty, which are chosen by entanglement
with the rest of the data, and by memorization (Zhao et al., NeurIPS 2024, section 4). For each of
the six sets and each algorithm, hyper-parameters are searched against oracles of seeds that are not
reported, and the best are run on the reported seeds.

    python -m rumjax.launch --config=difficulty.py:fashion_mnist_mini

One of `rumjax.lab.settings.SETTINGS` follows the colon: fashion_mnist_mini, fashion_mnist,
fashion_mnist_interpolating, cifar10, cifar100, tiny_imagenet_resnet18 or tiny_imagenet_vgg16. Two
CPU cores are enough for the first two. The others take an accelerator, and the authors of this file
did not run them in full: fashion_mnist_interpolating, whose network fits all of D, and the paper's.
So do those of other networks: cifar10_vit_ti4, cifar10_vit_s4, cifar10_wrn28_2, cifar10_wrn28_10,
cifar10_resnet9 and cifar10_resnet34.
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import LEVELS, vanilla
from rumjax.lab.settings import first, setting

COMMAND = "python -m rumjax.launch --config=difficulty.py"


def get_config(name="fashion_mnist_mini"):
    config = setting(name)
    size, spaces = config.pop("size"), config.pop("spaces")
    axes = {"entanglement": config.pop("entanglement", {}), "memorization": {}}
    config["name"] = f"{name}_difficulty"
    config["study"] = {"kind": "difficulty", "command": f"{COMMAND}:{name}"}
    config["cases"] = {
        f"{by}_{level}": {"forget": {"by": by, "size": size, "levels": (level,), **options}}
        for by, options in axes.items()
        for level in LEVELS
    }
    config["methods"] = {
        each: vanilla({"algorithm": each, **first(space)}) for each, space in spaces.items()
    }
    config["tuning"] |= {"grids": spaces, "adopt": True}
    return ConfigDict(config)
