"""Data and a configuration so small that a run takes seconds."""

import os
import pathlib

import numpy as np

import rumjax

SIZE, TESTS, CLASSES, LEVEL = 120, 60, 3, 10
CONFIG = """
from ml_collections import ConfigDict

from rumjax.lab.methods import rum, rum_f, shuffle, vanilla


def get_config():
    config = ConfigDict()
    config.name = "tiny"
    config.seed = 0
    config.seeds = 1
    config.data = {"name": "npz", "data_dir": DATA}
    config.model = {"name": "cnn", "options": {"widths": (4,), "hidden": 8}}
    config.training = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1}
    config.bank = {"models": 24, "fraction": 0.5, "seed": 0, "per_device": 1}
    config.forget = {"by": "memorization", "size": 10}
    config.unlearning = {}
    finetune = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 2}
    neggrad_plus = {"algorithm": "neggrad_plus", "learning_rate": 0.02, "epochs": 1}
    config.methods = {
        "finetune_vanilla": vanilla(finetune),
        "finetune_rum_f": rum_f(finetune),
        "mixed": rum({"low": {"algorithm": "original"}, "medium": finetune, "high": neggrad_plus}),
    }
    config.attack = {"samples": None}
    # MORE
    return config
"""


def write_data(path, **changes):
    random = np.random.default_rng(0)
    prototypes = random.integers(0, 256, (CLASSES, 8, 8, 1))
    arrays = {}
    for split, count in (("train", SIZE), ("validation", 9), ("test", TESTS)):
        labels = np.arange(count) % CLASSES
        images = prototypes[labels] / 2 + random.normal(64, 70, (count, 8, 8, 1))
        arrays[f"{split}_images"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    # Some that can only be memorized.
    arrays["train_labels"][::10] = random.integers(0, CLASSES, len(range(0, SIZE, 10)))
    np.savez(path, **(arrays | changes))


def write_config(folder, name="tiny.py", more="", data="data.npz"):
    text = CONFIG.replace("DATA", repr(str(folder / data))).replace("# MORE", more)
    (folder / name).write_text(text)


def environment(compiled):
    """Variables for processes of their own, which keep what they have compiled in a folder."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(pathlib.Path(rumjax.__file__).parents[1]),
        # So that a second start need not compile what the first has.
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
