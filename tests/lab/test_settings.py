"""The settings of studies are those of the paper, where they say so."""

import jax.numpy as jnp
import pytest

from rumjax import launch, models, training
from rumjax.data import augmentation
from rumjax.errors import InvalidInputError
from rumjax.lab import experiment, settings, spaces
from rumjax.lab.building import with_augmentation
from rumjax.unlearn import ALGORITHMS
from tests.shipped import with_images

PAPER = {  # model, epochs, schedule, milestones, augmentation
    "cifar10": ("resnet18", 30, "cosine", None, "none"),
    "cifar100": ("resnet50", 150, "steps", (60, 120), "crop_flip"),
    "tiny_imagenet_resnet18": ("resnet18", 80, "cosine", None, "crop_flip"),
    "tiny_imagenet_vgg16": ("vgg16", 100, "cosine", None, "crop_flip"),
}
RANGES = {  # option: lowest and highest that the paper searches
    "finetune": {"learning_rate": (0.01, 0.1), "epochs": (10, 10)},
    "l1_sparse": {"learning_rate": (0.005, 0.1), "penalty": (1e-6, 1e-4), "epochs": (10, 10)},
    "neggrad": {"learning_rate": (1e-4, 0.1), "epochs": (5, 10)},
    "neggrad_plus": {"learning_rate": (0.01, 0.05), "beta": (0.85, 0.99), "epochs": (5, 5)},
    "scrub": {"learning_rate": (5e-4, 0.01), "max_epochs": (2, 5), "epochs": (3, 10)},
    "random_label": {"learning_rate": (0.01, 0.1), "epochs": (10, 10)},
    "salun": {"learning_rate": (0.005, 0.1), "mask_fraction": (0.3, 0.7), "epochs": (5, 10)},
}


@pytest.mark.parametrize("name", PAPER)
def test_training_is_the_papers(name):
    found = settings.setting(name)
    training = found["training"]
    model, epochs, schedule, milestones, augmentation = PAPER[name]
    assert found["model"]["name"] == model
    assert (training["epochs"], training["schedule"]) == (epochs, schedule)
    assert training.get("milestones") == milestones
    assert training["augmentation"] == augmentation
    assert milestones is None or training["decay"] == 0.2
    sgd = {"batch_size": 256, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    assert {key: training[key] for key in sgd} == sgd
    assert found["data"]["validation_fraction"] == 0.1
    assert (found["bank"]["models"], found["bank"]["fraction"]) == (400, 0.7)
    assert (found["seeds"], found["size"], found["attack"]["samples"]) == (3, 3000, None)


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("algorithm", RANGES)
def test_what_is_searched_lies_in_the_papers_ranges(name, algorithm):
    space = settings.setting(name)["spaces"][algorithm]
    assert space.keys() == RANGES[algorithm].keys()
    for option, (low, high) in RANGES[algorithm].items():
        numbers = [each for each in space[option] if not isinstance(each, str)]
        assert low <= min(numbers) <= max(numbers) <= high


@pytest.mark.parametrize("table", [spaces.PUBLISHED_SPACES, spaces.EMBEDDED_SPACES])
def test_every_algorithm_that_can_be_tuned_has_a_space(table):
    assert table.keys() == ALGORITHMS.keys() - {"original", "retrain"}


@pytest.mark.parametrize("name", settings.SETTINGS)
def test_settings_search_what_the_paper_compares(name):
    assert settings.setting(name)["spaces"].keys() == spaces.PAPER_SPACES.keys()


@pytest.mark.parametrize("name", settings.NETWORKS)
def test_other_networks_on_cifar_10_can_be_studied_as_the_papers_are(name):
    network = settings.setting(name)
    assert network["data"] == settings.setting("cifar10")["data"]
    config = launch.configuration(f"difficulty.py:{name}")
    assert config["model"] == {"name": name.removeprefix("cifar10_"), "bfloat16": False}
    assert config["methods"].keys() == spaces.PAPER_SPACES.keys()
    recipe = training.recipe(
        models.build(config["model"]["name"], 10), **with_augmentation(config["training"])
    )
    assert float(recipe.rate(jnp.float32(recipe.epochs))) < 0.01
    assert float(recipe.rate(recipe.warm_up)) == 1


def test_transformers_descend_by_adamw_at_rates_of_its_own():
    for name in ("cifar10_vit_ti4", "cifar10_vit_s4"):
        network = settings.setting(name)
        assert network["training"]["optimizer"] == network["unlearning"]["optimizer"] == "adamw"
        rates = [each.get("learning_rate") for each in network["spaces"].values()]
        assert set(rates) == {None, ("log", 1e-5, 1e-3)}
    assert settings.setting("cifar10")["spaces"]["salun"]["learning_rate"] == ("log", 0.005, 0.1)


def test_a_study_of_a_transformer_can_be_built(tmp_path):
    config = launch.configuration("difficulty.py:cifar10_vit_ti4")
    run = experiment.build(with_images(config, tmp_path / "data.npz", 32, 3, 10))
    finetune = next(one for one in run.methods if one.name == "finetune").select["all"]
    assert (finetune.optimizer, run.recipe.optimizer) == ("adamw", "adamw")
    assert float(finetune.weight_decay) == pytest.approx(5e-4)
    assert finetune.augmentation == run.recipe.augmentation == augmentation("crop_flip_cutout")


def test_tiny_imagenet_has_levels_of_entanglement_of_its_own():
    found = settings.setting("tiny_imagenet_vgg16")["entanglement"]
    # Of 100 groups counted from the center, low is 97 to 99, medium 49 to 51, high 0 to 2.
    assert found == {"groups": 100, "centers": (98, 50, 1)}


def test_a_setting_may_be_changed_at_will():
    settings.setting("cifar10")["training"]["epochs"] = 1
    assert settings.setting("cifar10")["training"]["epochs"] == 30


def test_an_unknown_setting_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidInputError, match="cifar10"):
        settings.setting("cifar1")


def test_the_first_of_a_range_is_its_lower_end():
    space = {"learning_rate": ("log", 0.01, 0.1), "epochs": (3, 5)}
    assert settings.first(space) == {"learning_rate": 0.01, "epochs": 3}
