"""The option `budget`: no method takes more of the gradients of retraining, tuned or not."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from rumjax import launch
from rumjax.errors import InvalidInputError
from rumjax.lab import dependencies, experiment, pipeline
from rumjax.lab.building import steps_on
from rumjax.lab.checking import check
from rumjax.lab.costs import share_of_retraining
from rumjax.lab.methods import rum, rum_f, shuffle, vanilla, within
from rumjax.lab.stages.tuning import candidate_of, options_of, rebuilt
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Scores
from rumjax.unlearn import finetune
from rumjax.unlearn.finetuning import Finetune
from tests.lab.test_audits import Network
from tests.runs import table

BUDGET = 0.4
FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}
SCRUB = {"algorithm": "scrub", "learning_rate": 0.001, "epochs": 2, "max_epochs": 1}
GRID = {"learning_rate": ("log", 0.01, 0.1), "epochs": (1, 2, 3, 4)}


class Own(Finetune):
    """May do more than what it is derived from."""


def own(model):
    return Own(**vars(finetune(model, epochs=1)))


def config(place, methods, budget=BUDGET, **tuned):
    """Retraining takes six epochs of 90 examples."""
    found = launch.configuration(str(place / "tiny.py"))
    sections = {
        "model": {"name": f"{Network.__module__}:Network"},
        "forget": {"by": "random", "size": 30},
        "methods": methods,
        "budget": budget,
    }
    sections |= {"tuning": tuned} if tuned else {}
    return {**found, "training": {**found["training"], "epochs": 6}, **sections}


def adopting(place, methods, **tuned):
    """Some settings of each method are drawn, and the best of them used."""
    return config(place, methods, seeds=(7,), settings=4, adopt=True, **tuned)


def build(*arguments, **options):
    built = experiment.build(config(*arguments, **options))
    check(built)
    return built


@pytest.mark.parametrize(
    ("method", "share"),
    [
        (vanilla({**FINETUNE, "epochs": 3}), "0.5"),
        (shuffle(FINETUNE), "0.556"),  # three epochs, the first ones on some of S as well
        (rum({"low": FINETUNE, "medium": FINETUNE, "high": SCRUB}), "0.741"),
    ],
)
def test_a_method_that_takes_more_is_refused_before_anything_is_trained(place, method, share):
    with pytest.raises(InvalidInputError, match=rf"methods.far: it takes {share}\d* .*budget is"):
        build(place, {"far": method})


def test_a_method_may_take_as_much_as_the_budget(place):
    built = build(place, {"near": vanilla({**FINETUNE, "epochs": 2})})
    assert built.methods[1].epochs == 2


@pytest.mark.parametrize("budget", [0, -1, np.nan, np.inf, "much", True])
def test_a_budget_is_a_number_above_0(place, budget):
    with pytest.raises(InvalidInputError, match=r"^(configuration\.)?budget"):
        build(place, {"fine": vanilla(FINETUNE)}, budget)


def test_what_nobody_can_count_is_refused(place):
    own = vanilla({"algorithm": f"{__name__}:own"})
    with pytest.raises(InvalidInputError, match=r"methods.own.*gradients.* are not known"):
        build(place, {"own": own})


def test_grids_of_which_nothing_is_left_are_refused(place):
    methods = {"fine": rum_f(FINETUNE)}
    with pytest.raises(InvalidInputError, match=r"methods.fine: all settings in tuning.grids"):
        check(experiment.build(adopting(place, methods, grids={"fine": {"epochs": (2, 3)}})))


def test_no_row_takes_more_and_all_forms_try_as_many_settings(place, tmp_path):
    halves = {"parts": ("low", "high")}
    methods = {
        "fine": vanilla(FINETUNE),
        "refined": rum_f(FINETUNE, refine="max_confidence", **halves),
        "scrubbed": vanilla(SCRUB),
        "like": shuffle(FINETUNE, **halves),
        "likened": vanilla(FINETUNE),
        "chosen": rum({"low": FINETUNE, "high": FINETUNE}, refine="max_confidence", **halves),
    }
    select = {"candidates": ("refined", "scrubbed"), "search": "exhaustive", "budget": 20}
    written = adopting(
        place,
        methods,
        grids={
            "fine": GRID,
            "refined": GRID,
            "scrubbed": {"learning_rate": GRID["learning_rate"], "epochs": (2, 3)},
            "likened": {"learning_rate": (0.02, 0.05), "epochs": (1, 2)},
        },
        like={"like": "likened"},
        select={"chosen": select},
    )
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(
            experiment.build(written), work, console=Console(quiet=True), figures=False
        )
        tried = {
            name: [work.read_json(each) for each in work.names(f"tuning/{name}_*.json")]
            for name in methods
        }
    # What is tried keeps to the budget, and so does what is run with the best of it.
    assert [len(tried[name]) for name in ("fine", "refined", "scrubbed")] == [4, 4, 4]
    shares = {row["name"]: row["rge"] for row in rows}
    for name in methods:
        assert shares[name] <= BUDGET, name
    assert shares["retrain_reference"] == shares["retrain_second"] == 1
    assert max(shares.values()) > 0.2

    # A setting is not tried either with which another method would take more.
    assert {piece["options"]["select"]["all"]["epochs"] for piece in tried["likened"]} == {1}
    written = table(tmp_path / "run" / "results.csv")
    assert all(float(row["rge"]) <= BUDGET for row in written if row["method"] != "retrain")
    assert "0.4 of the gradients of retraining" in (tmp_path / "run/report.html").read_text()


def test_another_budget_is_another_search(place):
    methods, grids = {"fine": vanilla(FINETUNE)}, {"fine": GRID}
    written = adopting(place, methods, grids=grids)
    first, second = (
        dependencies.configurations(experiment.build({**written, "budget": budget}))
        for budget in (0.4, 0.3)
    )
    assert first["unlearn/fine"] != second["unlearn/fine"]
    assert first["oracle"] == second["oracle"]


def test_a_budget_of_its_own_comes_before_the_run_s(place):
    longer = vanilla({**FINETUNE, "epochs": 3})
    build(place, {"long": within(longer, budget=0.5)}, 0.1)
    build(place, {"long": within(longer, budget=0.5)}, None)
    with pytest.raises(InvalidInputError, match=r"methods.long: it takes 0.5 .*budget is 0.3;"):
        build(place, {"long": within(longer, budget=0.3)}, 0.9)
    with pytest.raises(InvalidInputError, match=r"methods.long.budget: wanted a share above 0"):
        build(place, {"long": within(longer, budget=0)})


# Less than an epoch


def test_a_share_of_what_is_retained_is_drawn_for_each_step_and_counted(place):
    built = build(
        place,
        {
            "short": within(vanilla({**FINETUNE, "epochs": 2}), retain_share=0.5),
            "long": within(rum_f(FINETUNE, refine="max_confidence"), retain_share=0.3),
        },
        0.2,
    )
    short, long = built.methods[1:]
    steps = [on_random(method, seed) for method in (short, long) for seed in (0, 1)]
    assert [int(one.task.retain.size) for one in steps[0]] == [45]
    assert [int(one.task.retain.size) for one in steps[2]] == [33, 30, 27]
    assert len({drawn(one) for each in steps for one in each}) == 8
    data = built.data.train
    assert share_of_retraining(steps[0], 90, built.recipe, data) == pytest.approx(2 * 45 / 540)
    assert share_of_retraining(steps[2], 90, built.recipe, data) == pytest.approx(90 / 540)
    # Nothing is compiled anew for another share.
    whole = on_random(dataclasses.replace(short, retain_share=1.0), 0)
    assert jax.tree.map(np.shape, whole[0].task) == jax.tree.map(np.shape, steps[0][0].task)


def on_random(method, seed):
    labels = np.zeros(120, np.int32)
    random = np.random.default_rng(0).random(120).astype(np.float32)
    known = {"max_confidence": Scores(random)}
    return steps_on(method, np.arange(30), np.arange(30, 120), known, labels, seed)


def drawn(step):
    kept = np.asarray(step.task.retain.indices[: int(step.task.retain.size)])
    assert len(set(kept)) == len(kept)
    assert not set(kept) & set(np.asarray(step.task.forget.indices[: int(step.task.forget.size)]))
    return tuple(kept)


BY_PART = {"low": 0.5, "medium": 1.0, "high": 0.2}


def test_each_part_may_have_a_share_of_its_own(place):
    method = rum_f(FINETUNE, refine="max_confidence")
    shared = within(method, retain_share=BY_PART)
    built = build(place, {"even": method, "shared": shared}, None)
    even, own = (on_random(each, 0) for each in built.methods[1:])
    assert [int(one.task.retain.size) for one in own] == [55, 100, 18]
    assert drawn(own[1]) == drawn(even[1])
    assert all(set(drawn(one)) <= set(drawn(other)) for one, other in zip(own, even, strict=True))


@pytest.mark.parametrize(
    ("shares", "match"),
    [
        ({"low": 0.5, "high": 0.5}, "low, high, but the parts are low, medium, high, each once"),
        ({**BY_PART, "other": 0.5}, "the parts are low, medium, high, each once"),
        ({**BY_PART, "low": 0}, "wanted a share above 0"),
        ({**BY_PART, "low": 1.5}, "retain_share"),
        ({**BY_PART, "low": "half"}, "retain_share"),
        ({}, "the parts are low, medium, high, each once"),
    ],
)
def test_shares_by_part_are_of_the_method_s_parts(place, shares, match):
    with pytest.raises(InvalidInputError, match=match):
        build(place, {"fine": within(rum_f(FINETUNE), retain_share=shares)})


def test_what_is_selected_for_a_part_comes_with_its_share(place):
    candidates = {
        "few": within(rum_f(FINETUNE), retain_share=0.4),
        "by_part": within(rum_f(SCRUB), retain_share=BY_PART),
        "whole": vanilla(FINETUNE),
    }
    built = build(place, {**candidates, "rum": rum_f(FINETUNE)}, None)
    few, by_part, whole, chosen = built.methods[1:]
    parts = {
        "low": candidate_of(by_part, "low"),
        "medium": candidate_of(few, "medium"),
        "high": candidate_of(whole, "high"),
    }
    made = rebuilt(built, chosen, options_of(chosen, parts, ("high", "low", "medium")))
    assert made.retain_share == {"low": 0.5, "medium": 0.4, "high": 1.0}
    assert made.order == ("high", "low", "medium")
    assert made.algorithm == "finetune>scrub>finetune"
    assert rebuilt(built, chosen, json.loads(json.dumps(made.options))) == made
    everything = dict.fromkeys(parts, candidate_of(whole, "low"))
    assert "retain_share" not in options_of(made, everything, made.order)


@pytest.mark.parametrize("share", [0, 1.5, -0.1, np.nan, "half"])
def test_a_share_is_a_number_up_to_1(place, share):
    with pytest.raises(InvalidInputError, match="retain_share"):
        build(place, {"fine": within(vanilla(FINETUNE), retain_share=share)})
