"""What makes forgetting hard? Every algorithm on sets of low, medium and high difficulty.

Forget sets are chosen by entanglement with the rest of the data and by memorization (Zhao et al.,
NeurIPS 2024, section 4). On each of the six, hyper-parameters are searched for every algorithm
against the oracle of a seed that is not reported, and the best is run on the reported seeds.

    python -m rumjax.launch --config=difficulty.py:fashion_mnist_mini

After the colon comes one of `rumjax.lab.settings.SETTINGS`: fashion_mnist_mini, fashion_mnist,
cifar10, cifar100, tiny_imagenet_resnet18, tiny_imagenet_vgg16. The first two suit two CPU cores;
the others are the paper's, take an accelerator, and were not run in full by the authors of this
file.
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import vanilla
from rumjax.lab.settings import first, setting
from rumjax.refine import LEVELS

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
