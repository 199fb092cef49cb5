"""Every configuration that is shipped, on a few made images of its data's shape and classes.

The models at full width are only traced; those that run are narrow, and ResNets shallow as well,
since compiling the full ones takes minutes on a CPU.
"""

import pathlib

import jax
import numpy as np
import pytest
from rich.console import Console

from rumjax import experiment, launch, models, pipeline
from rumjax.checkpoint import WorkDirectory

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))
SHAPES = {  # height and width, channels, classes
    "fashion_mnist_mini": (28, 1, 10),
    "cifar10": (32, 3, 10),
    "cifar100": (32, 3, 100),
    "tiny_imagenet": (64, 3, 200),
}
SMALL = {
    "cnn": {"widths": (4,), "hidden": 4},
    "resnet18": {"width": 4, "depths": (1, 1)},
    "resnet50": {"width": 4, "depths": (1, 1)},
    "vgg16": {"width": 4},
}
TRAIN, TEST = 40, 10


def write_data(path, name):
    side, channels, classes = SHAPES[name]
    random = np.random.default_rng(0)
    arrays = {"class_names": np.arange(classes).astype(str)}
    for split, count in (("train", TRAIN), ("validation", TEST), ("test", TEST)):
        shape = (count, side, side, channels)
        arrays[f"{split}_images"] = random.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % classes
    np.savez(path, **arrays)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request, tmp_path):
    """A shipped configuration, but for where its images come from."""
    found = launch.configuration(str(request.param))
    write_data(tmp_path / "data.npz", found["data"]["name"])
    return {**found, "data": {"name": "npz", "data_dir": str(tmp_path / "data.npz")}}


@pytest.fixture
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def shrunk(config):
    """A few steps of a narrow model, everything else as it is."""

    def brief(method):
        select = {
            part: {key: 1 if key == "epochs" else value for key, value in options.items()}
            for part, options in method["select"].items()
        }
        return {**method, "select": select}

    def once(options):
        return {"epochs": 1, "learning_rate": 1e-3} | {
            key: value for key, value in options.items() if key not in ("epochs", "learning_rate")
        }

    training = {**once(config["training"]), "batch_size": 8}
    if "milestones" in training:
        training["milestones"] = (1,)
    return {
        **config,
        "seeds": 1,
        "model": {**config["model"], "options": SMALL[config["model"]["name"]]},
        "training": training,
        "bank": {**config["bank"], "models": 16, "fraction": 0.5, "per_device": 1},
        "forget": {**config["forget"], "size": 2},
        "methods": {name: brief(method) for name, method in config["methods"].items()},
    }


def test_the_full_model_fits_the_data(config):
    built = experiment.build(config)
    side, channels, classes = built.data.train.images.shape[1], *built.data.train.images.shape[3:], built.data.num_classes
    images = jax.ShapeDtypeStruct((2, side, side, channels), np.uint8)
    like = jax.eval_shape(built.model.init, jax.random.key(0), images)
    outputs = jax.eval_shape(lambda v, x: models.predict(built.model, v, x), like, images)
    assert outputs.logits.shape == (2, classes)
    assert outputs.embeddings.shape[1] >= 1
    assert built.needs_bank


def test_the_whole_pipeline_runs(config, tmp_path, quick_compilation, monkeypatch):
    monkeypatch.setattr("rumjax.report.figures.draw", lambda *_: [])
    built = experiment.build(shrunk(config))
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(built, work, console=Console(quiet=True))
    assert {row["name"] for row in rows} == {
        "original",
        "retrain_reference",
        "retrain_second",
        *config["methods"],
    }
    assert all(np.isfinite(row["tow"]) for row in rows)
    assert (tmp_path / "run" / "report.html").exists()
