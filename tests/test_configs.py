"""Every configuration that is shipped, on a few made images.

Networks at full size are traced on their data's shape and classes, in training and in every
unlearner, but not compiled, which would take minutes each on a CPU. What runs from images to the
report is a linear model on small images of ten classes, the same for all.
"""

import pathlib

import flax.linen as nn
import jax
import numpy as np
import pytest
from rich.console import Console

from rumjax import launch, models
from rumjax.lab import experiment, pipeline, settings
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Dataset, Outputs, task

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


STUDIES = ("difficulty", "refinement", "proxies", "requests")
TRACED = [path.name for path in CONFIGS if path.stem not in STUDIES]
TRACED += [f"difficulty.py:{name}" for name in settings.SETTINGS]


@pytest.fixture(params=[path.name for path in CONFIGS])
def config(request):
    return launch.configuration(request.param)


def with_images(config, path, *shape):
    """The configuration, but for where its images come from."""
    write_data(path, *shape)
    return {**config, "data": {"name": "npz", "data_dir": str(path)}}


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def shrunk(config):
    """A few steps of a linear model; what is compiled is the same for all, as far as can be."""

    most = {"epochs": 3, "max_epochs": 1}

    def small(options):
        firsts = {
            key: each[0] if isinstance(each, tuple) else each for key, each in options.items()
        }
        return {key: min(each, most.get(key, each)) for key, each in firsts.items()}

    def brief(method):
        select = {part: small(given) for part, given in method["select"].items()}
        return {**method, "select": select}

    def one(grid):
        if isinstance(next(iter(grid.values())), dict):
            return {part: one(each) for part, each in grid.items()}
        return {key: (value,) for key, value in small(grid).items()}

    def fewer(section, size):
        return {**section, "forget": {**section["forget"], "size": size}}

    cases = {
        name: fewer(case, 5 if "after" in case else 3)
        for name, case in config.get("cases", {}).items()
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

    methods, audit = config["methods"], {}
    if "audit" in config:  # three seeds at least, and so few methods; other studies have them all
        audit = {"audit": {**config["audit"], "models": 16}, "seeds": 3}
        methods = {"rum": methods["rum"]}
        tuning["grids"] = {"rum": tuning["grids"]["rum"]}
    training = {**config["training"], "epochs": 3, "batch_size": 16, "augmentation": "none"}
    if "milestones" in training:
        training["milestones"] = (1, 2)
    return {
        **config,
        **({"cases": cases} if cases else fewer(config, 3)),
        **({"study": {**config["study"], "size": 5}} if "study" in config else {}),
        "tuning": tuning,
        "seeds": 1,
        "model": {"name": f"{__name__}:Linear"},
        "training": training,
        "bank": {**config["bank"], "models": 16, "fraction": 0.5, "per_device": 1},
        "methods": {name: brief(method) for name, method in methods.items()},
        "attack": {"samples": None},
        **audit,
    }


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("name", TRACED)
def test_training_and_every_unlearner_can_be_traced_at_full_size(name, tmp_path):
    config = launch.configuration(name)
    side, channels, classes = SHAPES[config["data"]["name"]]
    built = experiment.build(with_images(config, tmp_path / "data.npz", side, channels, classes))
    images = jax.ShapeDtypeStruct((TRAIN, side, side, channels), np.uint8)
    data = Dataset(images, jax.ShapeDtypeStruct((TRAIN,), np.int32))
    key = jax.random.key(0)
    variables = jax.eval_shape(built.model.init, key, images)
    outputs = jax.eval_shape(lambda v, x: models.predict(built.model, v, x), variables, images)
    assert outputs.logits.shape == (TRAIN, classes)
    assert outputs.embeddings.shape[1] >= 1
    unlearners = {type(each): each for method in built.methods for each in method.select.values()}
    for unlearner in (built.recipe, *unlearners.values()):
        kind, work = type(unlearner), task(range(6), TRAIN)
        state = jax.eval_shape(kind.init, unlearner, key, variables, data, work)
        if unlearner.epochs:
            later, metrics = jax.eval_shape(kind.epoch, unlearner, state, data, work)
            assert shapes(later) == shapes(state)
            assert all(value.shape == () for value in metrics.values())
        assert shapes(jax.eval_shape(kind.finish, unlearner, state)) == shapes(variables)


def test_the_whole_pipeline_runs(config, tmp_path, monkeypatch, quick_compilation):
    monkeypatch.setattr("rumjax.lab.report.figures.draw", lambda *_: [])
    monkeypatch.setattr("rumjax.lab.report.write_tuning", lambda *_: None)
    built = experiment.build(with_images(shrunk(config), tmp_path / "data.npz", 8, 3, 10))
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(built, work, console=Console(quiet=True))
    assert (tmp_path / "run" / "study.html").exists() == ("study" in config)
    assert (tmp_path / "run" / "audit.html").exists() == ("audit" in config)
    lines = {"original", "retrain_reference", "retrain_second", *built.config.methods}
    assert {row["name"] for row in rows} == lines
    assert all(np.isfinite(row["tow"]) for row in rows)
    for case in built.cases:
        assert (tmp_path / "run" / case.folder / "report.html").exists()
