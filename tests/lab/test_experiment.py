"""A configuration becomes an experiment, or a message that says what is wrong with it."""

import copy

import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.lab.building import refinement
from rumjax.lab.experiment import build
from rumjax.lab.methods import (
    REFINEMENTS,
    SCORES,
    rum,
    rum_f,
    shuffle,
    strategies,
    vanilla,
)
from rumjax.lab.schema import REQUIRED
from rumjax.lab.stages.forget_sets import choose_set
from rumjax.refine import by_class, by_score, whole
from rumjax.types import Scores
from rumjax.unlearn import ALGORITHMS

FINETUNE = {"algorithm": "finetune", "epochs": 2, "learning_rate": 0.05}
SIZE = 90


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    arrays = {}
    for split, count in (("train", SIZE), ("validation", 9), ("test", 30)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 8, 8, 1), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 3
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def config(data_file):
    return {
        "name": "tiny",
        "seed": 4,
        "seeds": 2,
        "data": {"name": "npz", "data_dir": data_file},
        "model": {"name": "cnn", "options": {"widths": (4,), "hidden": 4}},
        "training": {"epochs": 2, "batch_size": 32, "augmentation": "flip", "learning_rate": 0.1},
        "bank": {"models": 4, "fraction": 0.5, "seed": 0, "per_device": 1},
        "forget": {"by": "memorization", "size": 5},
        "unlearning": {"momentum": 0.8},
        "methods": {"plain": vanilla(FINETUNE)},
        "attack": {"samples": None},
    }


def changed(config, path, value):
    """A copy in which one entry is another, or absent if the value is `...`."""
    found = copy.deepcopy(config)
    *sections, last = path.split("/")
    place = found
    for section in sections:
        place = place[section]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return found


def method(config, options, name="mine"):
    return {each.name: each for each in build({**config, "methods": {name: options}}).methods}[name]


def options_of(made):
    """The numbers that an unlearner was made with, and its batch size."""
    return {
        key: getattr(made, key) if key == "augmentation" else pytest.approx(getattr(made, key))
        for key in ("batch_size", "augmentation", "momentum", "epochs", "learning_rate")
    }


def test_a_configuration_becomes_its_objects(config):
    made = build(config)
    assert made.name == "tiny"
    assert made.seeds == (4, 5)
    assert made.data.num_classes == made.model.num_classes == 3
    assert made.model.module.widths == (4,)
    assert made.recipe.batch_size == 32
    assert made.recipe.augmentation.flip
    assert made.config.written == config
    train = made.data.train.images / 255
    assert made.model.mean == pytest.approx((train.mean(),))
    assert made.model.std == pytest.approx((train.std(),))


def test_the_method_that_does_nothing_is_always_there(config):
    assert [each.name for each in build(config).methods] == ["original", "plain"]
    made = build(config).methods[0]
    assert (made.algorithm, made.strategy, made.epochs) == ("original", "vanilla", 0)


@pytest.mark.parametrize("section", REQUIRED)
def test_every_section_is_needed(config, section):
    with pytest.raises(InvalidInputError, match=f"lacks {section}"):
        build(changed(config, section, ...))


@pytest.mark.parametrize("section", ["data", "training", "bank", "unlearning", "methods", "attack"])
def test_a_section_holds_options_by_name(config, section):
    with pytest.raises(InvalidInputError, match=f"{section}: wanted options by name, got 3"):
        build(changed(config, section, 3))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainin", {}, "unknown section of the configuration 'trainin'; did you mean 'training'"),
        ("name", "", "name: wanted some text"),
        ("name", 5, "name: wanted some text"),
        ("seed", -1, "seed: wanted a whole number of at least 0, got -1"),
        ("seed", "zero", "seed: wanted a whole number"),
        ("seeds", 0, "seeds: wanted a whole number of at least 1"),
        ("seeds", None, "seeds: wanted a whole number"),
        ("data/name", "fashion_mnist_mimi", "fashion_mnist_mini"),
        ("data/name", ..., "data: missing a required argument: 'name'"),
        ("data/data_dir", "/no/where.npz", "/no/where.npz does not exist"),
        ("data/datadir", "x", "unknown option in data 'datadir'; did you mean 'data_dir'"),
        ("model/name", "resnet188", "unknown model 'resnet188'; did you mean 'resnet18'"),
        ("model/name", "no_such_package:Net", "no_such_package"),
        ("model/depth", 3, "unknown option in model 'depth'"),
        ("model/options", {"depth": 3}, "depth"),
        ("training/epoch", 3, "unknown option in training 'epoch'; did you mean 'epochs'"),
        ("training/epochs", ..., "training: missing a required argument: 'epochs'"),
        ("training/epochs", "ten", "training.epochs: wanted a whole number, got 'ten'"),
        ("training/learning_rate", "fast", "learning_rate: wanted a number, got 'fast'"),
        ("training/augmentation", "blur", "unknown augmentation 'blur'"),
        ("training/schedule", "linear", "unknown schedule 'linear'"),
        ("bank/models", 1, "bank.models: wanted a whole number of at least 2, got 1"),
        ("bank/models", ..., "bank: missing a required argument: 'models'"),
        ("bank/fraction", "half", "bank.fraction: wanted a number"),
        ("bank/fraction", 1.5, "bank.fraction: wanted finite numbers in 0…1"),
        ("bank/per_devices", 2, "unknown option in bank 'per_devices'; did you mean 'per_device'"),
        ("forget/by", "memorisation", "unknown by in forget 'memorisation'; did you mean"),
        ("forget/by", ..., "forget: it lacks 'by'"),
        ("forget/sizes", 5, "unknown option in forget 'sizes'; did you mean 'size'"),
        ("unlearning/momentun", 0.5, "unknown option in unlearning 'momentun'; did you mean"),
        ("attack/sample", 5, "unknown option in attack 'sample'; did you mean 'samples'"),
        ("attack/samples", "all", "attack.samples: wanted a whole number"),
        ("attack/samples", ..., "attack: missing a required argument: 'samples'"),
        ("methods/plain", FINETUNE, "methods.plain: write it with vanilla, shuffle, rum_f or rum"),
        ("methods/plain", "finetune", "methods.plain: write it with vanilla"),
        ("methods/a b", vanilla(FINETUNE), "choose another name"),
        ("methods/retrain_second", vanilla(FINETUNE), "choose another name"),
        ("methods/plain/refine", "memory", "unknown refinement in methods.plain 'memory'"),
        ("methods/plain/select/all/algorithm", "finetun", "did you mean 'finetune'"),
        ("methods/plain/select/all/algorithm", ..., "it lacks 'algorithm'"),
        ("methods/plain/select/all/penalty", 1, "option in methods.plain.select.all 'penalty'"),
        ("methods/plain/select/all/epochs", 0, "epochs: wanted a whole number of at least 1"),
        ("methods/plain/select/all/model", 3, "unknown option in methods.plain.select.all 'model'"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_trained(config, path, value, message):
    with pytest.raises(InvalidInputError) as raised:
        build(changed(config, path, value))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        rum({"low": FINETUNE, "medium": FINETUNE}),
        rum({"low": FINETUNE, "medium": FINETUNE, "hihg": FINETUNE}),
        rum_f(FINETUNE, order=("low", "high")),
        rum_f(FINETUNE, order=("low", "high", "high")),
        rum({"class_0": FINETUNE}, refine="class", order=("class_0", "class_1")),
    ],
)
def test_parts_selection_and_order_must_agree(config, options):
    message = r"methods\.mine\.\w+: (names .*, but the parts are|a name occurs twice)"
    with pytest.raises(InvalidInputError, match=message):
        method(config, options)


@pytest.mark.parametrize("refine", REFINEMENTS)
def test_every_refinement_can_be_named(config, refine):
    parts = ("all",) if refine == "whole" else ("class_0", "class_1")
    made = method(config, rum_f(FINETUNE, refine=refine, parts=parts))
    assert made.refine == refine
    assert set(made.select) == set(parts)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "retrain"])
def test_every_algorithm_can_be_named(config, algorithm):
    assert method(config, vanilla({"algorithm": algorithm})).algorithm == algorithm


def test_defaults_come_from_training_then_unlearning_then_the_method(config):
    def made(**given):
        return options_of(method(config, vanilla({**FINETUNE, **given})).select["all"])

    assert made()["batch_size"] == 32
    assert made()["augmentation"].flip
    assert made()["momentum"] == 0.8
    assert made(batch_size=8, augmentation="none", momentum=0.1)["batch_size"] == 8
    assert not made(augmentation="none")["augmentation"].flip
    assert made(momentum=0.1)["momentum"] == 0.1
    config = changed(config, "unlearning/batch_size", 16)
    assert made()["batch_size"] == 16
    # Of training, only what a pass over data looks like is inherited.
    assert made()["epochs"] == 2
    assert made()["learning_rate"] == 0.05


def test_defaults_that_an_algorithm_does_not_take_are_left_out_but_refused_if_given(config):
    config = changed(config, "unlearning/penalty", 1e-4)
    made = method(config, vanilla({"algorithm": "original"}))
    assert made.options["select"] == {"all": {"algorithm": "original"}}
    assert float(method(config, vanilla({"algorithm": "l1_sparse"})).select["all"].penalty) == (
        pytest.approx(1e-4)
    )
    assert "penalty" not in method(config, vanilla(FINETUNE)).options["select"]["all"]
    with pytest.raises(InvalidInputError, match=r"unknown option .*'penalty'"):
        method(config, vanilla({**FINETUNE, "penalty": 1e-4}))


def test_the_options_of_a_method_hold_its_defaults(config):
    resolved = method(config, vanilla(FINETUNE)).options["select"]["all"]
    assert resolved == {**FINETUNE, "batch_size": 32, "augmentation": "flip", "momentum": 0.8}


def test_labels_of_relabeling_algorithms_have_the_classes_of_the_data(config):
    assert method(config, vanilla({"algorithm": "random_label"})).select["all"].num_classes == 3


def test_methods_are_called_by_their_algorithms_in_the_order_of_use(config):
    salun, nothing = {"algorithm": "salun"}, {"algorithm": "original"}
    select = {"low": nothing, "medium": FINETUNE, "high": salun}
    assert method(config, rum(select)).algorithm == "original>finetune>salun"
    backwards = rum(select, order=("high", "medium", "low"))
    assert method(config, backwards).algorithm == "salun>finetune>original"
    assert method(config, rum(dict.fromkeys(select, salun))).algorithm == "salun"
    assert method(config, rum_f(FINETUNE)).algorithm == "finetune"
    assert method(config, rum_f(FINETUNE)).strategy == "rum_f"
    assert method(config, rum_f(FINETUNE)).epochs == 6
    assert method(config, rum(select)).epochs == 2 + 10
    assert method(config, shuffle(FINETUNE)).parts == ("first", "second", "third")


def test_strategies_are_three_methods_of_each_unlearner():
    found = strategies({"finetune": FINETUNE, "mine": {"algorithm": "salun"}})
    assert found["finetune_vanilla"] == vanilla(FINETUNE)
    assert found["finetune_shuffle"] == shuffle(FINETUNE)
    assert found["mine_rum_f"] == rum_f({"algorithm": "salun"})
    assert len(found) == 6


@pytest.mark.parametrize(
    ("by", "refine", "expected"),
    [
        ("random", "random", False),
        ("c_proxy", "entropy", False),
        ("random", "memorization", True),
        ("memorization", "random", True),
    ],
)
def test_a_bank_is_trained_only_if_memorization_is_looked_at(config, by, refine, expected):
    config = changed(config, "forget/by", by)
    config["methods"] = {"mine": rum_f(FINETUNE, refine=refine)}
    assert build(config).needs_bank is expected


def test_refinements_are_those_of_rum(config):
    labels = np.arange(SIZE) % 3
    scores = {"entropy": Scores(np.linspace(1, 0, SIZE).astype(np.float32))}
    forget = np.arange(30, 60, dtype=np.int32)

    def refined(options, seed=0):
        return refinement(method(config, options), scores, labels, seed)(forget)

    def same(found, expected):
        assert list(found) == list(expected)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)

    same(refined(vanilla(FINETUNE)), whole("all")(forget))
    levels = ("low", "high")
    by_entropy = rum_f(FINETUNE, refine="entropy", parts=levels)
    same(refined(by_entropy), by_score(scores["entropy"], parts=levels)(forget))
    classes = ("class_0", "class_1", "class_2")
    per_class = rum_f(FINETUNE, refine="class", parts=classes)
    same(refined(per_class), by_class(labels)(forget))
    one, other = (np.concatenate(list(refined(shuffle(FINETUNE), s).values())) for s in (0, 1))
    assert sorted(one) == sorted(other) == forget.tolist()
    assert one.tolist() != other.tolist()


# Forget sets

MEMORY = np.random.default_rng(1).random(SIZE).astype(np.float32)
EMBEDDINGS = np.random.default_rng(2).normal(size=(SIZE, 3)).astype(np.float32)


def forget(config, **options):
    made = build({**config, "forget": options})
    named = dict.fromkeys(SCORES, Scores(MEMORY))
    return choose_set(made.cases[0].forget, made.data, named, lambda: EMBEDDINGS).parts


@pytest.mark.parametrize("by", [*SCORES, "entanglement"])
def test_forget_sets_by_score_or_entanglement_have_three_disjoint_levels(config, by):
    found = forget(config, by=by, size=5)
    assert list(found) == ["low", "medium", "high"]
    assert len(set(np.concatenate(list(found.values())).tolist())) == 15


def test_forget_sets_by_score_take_the_extremes_and_the_center(config):
    order = np.argsort(MEMORY)
    found = forget(config, by="memorization", size=5)
    assert set(found["low"]) == set(order[:5])
    assert set(found["high"]) == set(order[-5:])
    assert set(found["medium"]) == set(np.argsort(np.abs(MEMORY - 0.5))[:5])
    ranked = forget(config, by="c_proxy", size=5)
    assert set(ranked["medium"]) == set(np.argsort(np.abs(MEMORY - np.median(MEMORY)))[:5])
    off = forget(config, by="memorization", size=5, center=0.3)
    assert set(off["medium"]) == set(np.argsort(np.abs(MEMORY - 0.3))[:5])


def test_forget_sets_by_class_chance_and_file(config, tmp_path):
    found = forget(config, by="class", classes=(2, 0))
    assert {name: set(part % 3) for name, part in found.items()} == {"class_2": {2}, "class_0": {0}}
    assert len(forget(config, by="random", size=7)["random"]) == 7
    (tmp_path / "some.txt").write_text("8\n2\n")
    assert forget(config, by="file", path=str(tmp_path / "some.txt"))["file"].tolist() == [2, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "memorization", "size": 30}, "leave nothing of 90 examples to retain"),
        ({"by": "memorization", "size": 0}, "size: wanted a whole number of at least 1"),
        ({"by": "memorization", "size": "few"}, "size: wanted a whole number"),
        ({"by": "memorization"}, "forget: missing a required argument: 'size'"),
        ({"by": "memorization", "size": 5, "levels": ("lo",)}, "levels: "),
        ({"by": "entanglement", "size": 40}, "overlap"),
        ({"by": "random", "size": 90}, "leave nothing to retain"),
        ({"by": "class", "classes": (3,)}, "no example has label 3"),
        ({"by": "class", "classes": (0, 1, 2)}, "covers all 90 examples"),
        ({"by": "file", "path": "/no/where.txt"}, "/no/where.txt"),
    ],
)
def test_forget_sets_that_cannot_be_made_are_refused(config, options, message):
    with pytest.raises(InvalidInputError) as raised:
        forget(config, **options)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["forget", "retain", "all"])
def test_parts_do_not_take_the_names_of_the_whole(config, tmp_path, name):
    np.savez(tmp_path / "parts.npz", **{name: np.arange(3), "rest": np.arange(3, 5)})
    with pytest.raises(
        InvalidInputError, match=f"(no part may be called {name}|{name!r} is no name of a part)"
    ):
        forget(config, by="file", path=str(tmp_path / "parts.npz"))
