"""Every configuration that is shipped, on a few made images, and small enough to run in seconds."""

import pathlib

import flax.linen as nn
import numpy as np

from rumjax.lab import settings
from rumjax.types import Outputs

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))
SHAPES = {  # height and width, channels, classes
    "fashion_mnist_mini": (28, 1, 10),
    "fashion_mnist": (28, 1, 10),
    "cifar10": (32, 3, 10),
    "cifar100": (32, 3, 100),
    "tiny_imagenet": (64, 3, 200),
}
TRAIN, TEST = 40, 10


class Linear(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images):
        found = images.mean(axis=(1, 2))
        return Outputs(nn.Dense(self.num_classes)(found), found)


def write_data(path, side, channels, classes):
    random = np.random.default_rng(0)
    arrays = {"class_names": np.arange(classes).astype(str)}
    for split, count in (("train", TRAIN), ("validation", TEST), ("test", TEST)):
        shape = (count, side, side, channels)
        arrays[f"{split}_images"] = random.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % classes
    np.savez(path, **arrays)


STUDIES = ("algorithms", "budgets", "difficulty", "refinement", "proxies", "requests")
PAPER = [path.name for path in CONFIGS if path.stem.removesuffix("_rum") in settings.SETTINGS]
"""configurations of one form, whose networks a study of difficulty has too"""
TRACED = [path.name for path in CONFIGS if path.stem not in STUDIES and path.name not in PAPER]
SMALLER = ("fashion_mnist_mini", "fashion_mnist", "cifar10")
TRACED += [f"difficulty.py:{name}" for name in SMALLER]
LARGER = [f"difficulty.py:{name}" for name in settings.SETTINGS if name not in SMALLER]
"""which take two minutes to be traced"""


def with_images(config, path, *shape):
    """The configuration, but for where its images come from."""
    write_data(path, *shape)
    return {**config, "data": {"name": "npz", "data_dir": str(path)}}


CASES, METHODS = {"requests": 3, "algorithms": 1, "budgets": 1}, {"difficulty": 3, "algorithms": 2}
"""of studies in which more of the same would follow"""


def shrunk(config):
    """A few steps of a linear model; what is compiled is the same for all, as far as can be."""

    most = {"epochs": 3, "max_epochs": 1}

    def small(options):
        values = {key: each for key, each in options.items() if isinstance(each, tuple)}
        firsts = {**options, **settings.first(values)}
        return {key: min(each, most.get(key, each)) for key, each in firsts.items()}

    def brief(method):
        select = {part: small(given) for part, given in method["select"].items()}
        rest = {key: value for key, value in method.items() if key != "budget"}
        return {**rest, "select": select}

    def one(grid):
        if isinstance(next(iter(grid.values())), dict):
            return {part: one(each) for part, each in grid.items()}
        return {key: (value,) for key, value in small(grid).items()}

    def fewer(section, size):
        return {**section, "forget": {**section["forget"], "size": size}}

    kind = config.get("study", {}).get("kind", config["name"].split("_")[-1])
    if kind == "budgets":  # the methods of one case within one budget, of one algorithm
        cases = {name: {"forget": case["forget"]} for name, case in config["cases"].items()}
        methods = {
            name: method
            for name, method in config["cases"]["mixed_5"]["methods"].items()
            if name.startswith(("finetune", "rum")) and name.endswith("_50")
        }
        config = {**config, "cases": cases, "methods": methods}
    sized = [
        item for item in config.get("cases", {}).items() if "size" in item[1].get("forget", {})
    ]
    cases = {
        name: fewer(case, 5 if "after" in case else 3) for name, case in sized[: CASES.get(kind)]
    }
    tuning = dict(config.get("tuning", {"grids": {}}))
    tuning |= {"seeds": (7,), "settings": None}
    tuning["grids"] = {name: one(grid) for name, grid in tuning["grids"].items()}
    if "select" in tuning:
        select = tuning["select"].items()
        # Nothing or the one candidate for each of three parts, in one order, are eight.
        tuning["select"] = {
            name: {**options, "budget": 8, "candidates": options["candidates"][:1]}
            for name, options in select
        }

    methods, audit = dict(list(config["methods"].items())[: METHODS.get(kind)]), {}
    if "audit" in config:  # three seeds at least, and so few methods; other studies have them all
        audit = {"audit": {**config["audit"], "models": 16}, "seeds": 3}
        methods = {"rum": methods["rum"]}
        tuning = None  # as in other configurations
    if tuning:  # grids for algorithms that are still used
        used = {part["algorithm"] for one in methods.values() for part in one["select"].values()}
        tuning["grids"] = {
            name: grid for name, grid in tuning["grids"].items() if name in used | set(methods)
        }
        tuning["select"] = {
            name: chosen for name, chosen in tuning.get("select", {}).items() if name in methods
        }
    study = dict(config.get("study", {}))
    if "size" in study:
        study["size"] = 5
    training = {**config["training"], "epochs": 3, "batch_size": 16, "augmentation": "none"}
    if "milestones" in training:
        training["milestones"] = (1, 2)
    return {
        **config,
        **({"cases": cases} if cases else fewer(config, 3)),
        **({"study": study} if study else {}),
        "tuning": tuning,
        "budget": None,
        "seeds": 1,
        "model": {"name": f"{__name__}:Linear"},
        "training": training,
        "bank": {**config["bank"], "models": 16, "fraction": 0.5, "per_device": 1},
        "methods": {name: brief(method) for name, method in methods.items()},
        "attack": {"samples": None},
        **audit,
    }
