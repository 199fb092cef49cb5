"""What is searched, how it is judged, and that a whole grid is one program."""

import itertools
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limited
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import roc_auc_score

from rumjax.errors import InvalidInputError
from rumjax.lab import experiment, pipeline
from rumjax.lab.answers import Answers
from rumjax.lab.context import load_original, on_device, stage_key
from rumjax.lab.grids import fingerprint, settings
from rumjax.lab.making import steps_of
from rumjax.lab.measuring import look, measure, measure_oracle
from rumjax.lab.methods import rum, rum_f, vanilla
from rumjax.lab.search import ascend, exhaust
from rumjax.lab.sections import Tuning
from rumjax.lab.stages import forget_sets
from rumjax.lab.stages.tuning import with_setting
from rumjax.lab.trials import against_oracle, area_under_curve, on_validation
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.metrics import Accuracies, tug_of_war
from rumjax.unlearn import run

PARTS = ("low", "high")

pytestmark = pytest.mark.usefixtures("quick_compilation")


# What is tried


def test_a_plain_grid_holds_for_all_parts_alike():
    found = list(settings({"learning_rate": (0.1, 0.2), "epochs": (3,)}, PARTS))
    assert found == [
        {part: {"learning_rate": rate, "epochs": 3} for part in PARTS} for rate in (0.1, 0.2)
    ]


def test_a_grid_by_part_is_searched_jointly():
    grid = {"low": {"epochs": (1, 2)}, "high": {"epochs": (3, 4)}}
    found = list(settings(grid, PARTS))
    assert len(found) == 4
    assert {"low": {"epochs": 2}, "high": {"epochs": 3}} in found


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_a_grid_has_as_many_settings_as_its_product(values):
    assert len(list(settings({"epochs": values, "batch_size": (8, 16)}, PARTS))) == 2 * len(values)


def test_ranges_are_drawn_from_without_repetition_and_the_same_each_time():
    grid = {"learning_rate": ("log", 1e-3, 1e-1), "beta": ("uniform", 0.5, 0.9), "epochs": (1, 2)}
    found, again = (list(settings(grid, PARTS, draw=50)) for _ in range(2))
    assert found == again
    assert len({fingerprint(each) for each in found}) == len(found) == 50
    rates = np.array([each["low"]["learning_rate"] for each in found])
    assert ((rates >= 1e-3) & (rates <= 1e-1)).all()
    assert 0.2 < (rates < 1e-2).mean() < 0.8  # half of a logarithmic range lies below its middle
    assert all(0.5 <= each["low"]["beta"] <= 0.9 for each in found)
    assert {each["low"]["epochs"] for each in found} == {1, 2}


def test_more_draws_than_a_grid_has_are_the_whole_grid():
    grid = {"epochs": (1, 2, 3), "batch_size": (8, 16)}
    drawn = {fingerprint(each) for each in settings(grid, PARTS, draw=100)}
    assert drawn == {fingerprint(each) for each in settings(grid, PARTS)}


def test_a_range_with_fewer_values_than_are_wanted_ends():
    found = list(settings({"beta": ("uniform", 0.5, 0.502)}, PARTS, draw=50))
    assert {each["low"]["beta"] for each in found} == {0.5, 0.501, 0.502}
    assert len(list(settings({"epochs": (2, 2)}, PARTS, draw=2))) == 1


def test_a_range_has_no_whole_grid():
    with pytest.raises(InvalidInputError, match=r"learning_rate is a range.*tuning\.settings"):
        list(settings({"learning_rate": ("log", 1e-3, 1e-1)}, PARTS))


def test_a_method_has_its_own_grid_before_that_of_its_algorithm():
    grids = {"finetune": {"epochs": (1,)}, "finetune_rum_f": {"epochs": (2,)}}
    tuning = Tuning(seeds=(0,), grids=grids)
    assert tuning.grid("finetune_rum_f", "finetune") == {"epochs": (2,)}
    assert tuning.grid("other", "finetune") == {"epochs": (1,)}
    assert tuning.grid("other", "salun") == {}


def test_fingerprints_tell_settings_apart_whatever_the_order_of_keys():
    first = {"all": {"learning_rate": 0.1, "epochs": 3}}
    assert fingerprint(first) == fingerprint({"all": {"epochs": 3, "learning_rate": 0.1}})
    assert fingerprint(first) != fingerprint({"all": {"epochs": 3, "learning_rate": 0.2}})


# How it is judged


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
@limited(deadline=None, max_examples=50)
def test_the_area_under_the_curve_is_that_of_scikit_learn(positive, negative):
    truth = np.repeat([1, 0], [len(positive), len(negative)])
    expected = roc_auc_score(truth, [*positive, *negative])
    found = area_under_curve(np.array(positive), np.array(negative))
    assert found == pytest.approx(expected)


def test_the_criterion_with_an_oracle_is_the_tug_of_war():
    random = np.random.default_rng(0)
    ours, oracle = (Answers(np.zeros(30), random.random(30) < p) for p in (0.8, 0.6))
    sets = dict(zip(("forget", "retain", "test"), np.arange(30).reshape(3, 10), strict=True))

    def accuracies(answers):
        return Accuracies(*(answers.correct[each].mean() for each in sets.values()))

    expected = tug_of_war(accuracies(ours), accuracies(oracle))
    assert against_oracle(ours, oracle, sets) == expected


def test_without_an_oracle_forgotten_images_should_look_like_validation_images():
    sets = {"forget": np.arange(4), "validation": np.arange(4, 8)}
    margins = np.array([1.0, 2, 3, 4, 1, 2, 3, 4])
    right = np.ones(8, bool)
    original = Answers(margins, right)
    alike = on_validation(Answers(margins, right), original, sets)
    told = margins + np.array([9.0] * 4 + [0.0] * 4)
    apart = on_validation(Answers(told, right), original, sets)
    half = right & (np.arange(8) % 2 == 0)
    worse = on_validation(Answers(margins, half), original, sets)
    assert (alike, apart, worse) == (1.0, 0.0, 0.5)


# Searching


@given(st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=4), min_size=1, max_size=4))
@limited(deadline=None, max_examples=50)
def test_coordinate_ascent_finds_the_best_of_a_sum(gains):
    values = [range(len(each)) for each in gains]
    asked = []

    def evaluate(choices):
        asked.extend(choices)
        return [sum(each[at] for each, at in zip(gains, c, strict=True)) for c in choices]

    start = tuple(0 for _ in gains)
    best, score = ascend(start, values, evaluate, budget=1000)
    everything = exhaust(start, values, evaluate, budget=1000)
    assert score == everything[1] == sum(map(max, gains))
    assert evaluate([best]) == [score]
    few = ascend(start, values, evaluate, budget=3)
    assert evaluate([start])[0] <= few[1] <= score


def test_coordinate_ascent_keeps_to_its_budget_and_asks_for_nothing_twice():
    random, asked = np.random.default_rng(0), []

    def evaluate(choices):
        asked.extend(choices)
        return random.random(len(choices)).tolist()

    ascend((0, 0, 0), [range(5)] * 3, evaluate, budget=17)
    assert len(asked) == len(set(asked)) <= 17


def test_an_exhaustive_search_says_beforehand_that_it_exceeds_its_budget():
    with pytest.raises(InvalidInputError, match=r"125 selections exceed the budget of 100"):
        exhaust((0, 0, 0), [range(5)] * 3, lambda _: pytest.fail("evaluated"), 100)


# On models


def config(place, methods, **tuned):
    found = configuration(str(place / "tiny.py"))
    return {**found, "methods": methods, "tuning": {"seeds": (7, 8), **tuned}}


FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}
RATES, EPOCHS = (0.01, 0.1, 1e30), (1, 2)


@pytest.fixture(scope="module")
def searched(place):
    """A grid that was searched, one of its rates far too high, and the directory it is in."""
    grid = {"learning_rate": RATES, "epochs": EPOCHS}
    built = experiment.build(config(place, {"fine": vanilla(FINETUNE)}, grids={"finetune": grid}))
    traced = []
    trace = type(built.methods[1].select["all"]).epoch

    def counted(*arguments):
        traced.append(1)
        return trace(*arguments)

    with pytest.MonkeyPatch.context() as patch, WorkDirectory(place / "searched") as work:
        patch.setattr(type(built.methods[1].select["all"]), "epoch", counted)
        found = pipeline.tune_experiment(built, work, console=Console(quiet=True))
        yield built, work, found["tiny"], len(traced)


def pieces(work, name):
    return [work.read_json(each) for each in work.names(f"tuning/{name}_*.json")]


def test_a_grid_is_traced_as_often_as_a_single_setting(searched):
    # Once for the epoch itself, and once to know the shape of what it returns.
    assert searched[3] == 2


def test_each_setting_scores_what_it_does_on_its_own(searched):
    built, work, _, _ = searched
    context = next(on_device(built, work, Console(quiet=True)).cases)
    forget_set = forget_sets.choose(context, {})
    found = pieces(work, "fine")
    assert len(found) == len(RATES) * len(EPOCHS)
    for piece in found:
        options = piece["options"]["select"]["all"]
        for seed, score in zip((7, 8), piece["scores"], strict=True):
            expected = 0.0
            if options["learning_rate"] < 1e30:
                tried = with_setting(context, built.methods[1], {"all": options})
                steps = steps_of(context, tried, {}, forget_set, seed)
                start = load_original(context, seed)
                key = stage_key(seed, "unlearn/fine")
                after = run(key, steps, start, context.data)
                measured = measure(context, forget_set, seed, look(context, after))
                oracle = measure_oracle(context, forget_set, seed)
                expected = tug_of_war(measured.accuracies, oracle.accuracies)
            assert score == pytest.approx(expected, abs=1e-6)


def test_the_best_is_kept_and_listed_and_can_be_pasted(searched):
    _, work, found, _ = searched
    best = max(pieces(work, "fine"), key=lambda piece: piece["score"])
    assert work.read_json("tuning/fine.json") == {
        "options": best["options"],
        "score": best["score"],
    }
    assert json.loads(json.dumps(found["fine"])) == best["options"]
    rows = (work.path / "tuning.csv").read_text().splitlines()
    assert rows[1].startswith(f"fine,oracle,{best['score']}")
    assert len(rows) == 1 + len(RATES) * len(EPOCHS)
    pasted = {}
    exec((work.path / "tuned_methods.py").read_text(), pasted)
    assert json.loads(json.dumps(pasted["methods"]["fine"])) == best["options"]
    assert work.has("figures/tuning_fine.png")


def test_what_was_tried_is_not_tried_again(searched, monkeypatch):
    built, work, found, _ = searched

    def refuse(*_, **__):
        raise AssertionError("something is made")

    monkeypatch.setattr("rumjax.ensemble.run", refuse)
    again = pipeline.tune_experiment(built, work, console=Console(quiet=True))
    assert again["tiny"] == found


def test_what_is_not_to_be_tuned_is_named(searched):
    built, work, _, _ = searched
    with pytest.raises(InvalidInputError, match=r"fine"):
        pipeline.tune_experiment(built, work, console=Console(quiet=True), only=["fins"])


def test_a_run_adopts_what_it_finds_and_others_take_it_over(place, tmp_path):
    methods = {
        "fine": rum_f(FINETUNE),
        "backwards": rum_f(FINETUNE, order=("high", "medium", "low")),
        "five": rum_f(FINETUNE, parts=tuple("abcde")),
        "wild": vanilla({**FINETUNE, "learning_rate": 1e30}),
        "chosen": rum(dict.fromkeys(("low", "medium", "high"), FINETUNE)),
    }
    built = experiment.build(
        config(
            place,
            methods,
            adopt=True,
            grids={"fine": {"learning_rate": (0.2,), "epochs": (2,)}},
            like={"backwards": "fine", "five": "fine"},
            select={"chosen": {"candidates": ("fine",), "search": "exhaustive", "budget": 200}},
        )
    )
    with WorkDirectory(tmp_path / "run") as work:
        pipeline.run_experiment(built, work, console=Console(quiet=True), figures=False)
        wild = work.read_json("rows/wild_seed0.json")["row"]
        epochs = {name: len(work.read_json(f"rows/{name}_seed0.json")["curve"]) for name in methods}
        tried = pieces(work, "chosen")
        best = work.read_json("tuning/chosen.json")
    # A setting that was found may diverge on another seed, and does not stop the run.
    assert wild["tow"] == wild["tow_mia"] == 0.0
    assert wild["diverged"] == 1.0
    assert epochs["fine"] == epochs["backwards"] == 3 * 2
    assert epochs["five"] == 5 * 2
    # For each of three parts nothing or the tuned unlearner, in six orders.
    assert len(tried) == 2**3 * 6
    assert best["score"] == max(piece["score"] for piece in tried)
    select = best["options"]["select"].values()
    assert epochs["chosen"] == sum(each.get("epochs", 0) for each in select)


def test_without_an_oracle_none_is_trained(place, tmp_path):
    built = experiment.build(
        config(
            place,
            {"fine": vanilla(FINETUNE)},
            criterion="validation",
            grids={"finetune": {"learning_rate": (0.01, 0.1)}},
        )
    )
    with WorkDirectory(tmp_path / "run") as work:
        pipeline.tune_experiment(built, work, console=Console(quiet=True))
        assert work.names("checkpoints/oracle_*") == []
        assert all(0 <= piece["score"] <= 1 for piece in pieces(work, "fine"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criterion": "guess"}, "criterion"),
        ({"seeds": ()}, "tuning.seeds"),
        ({"settings": 0}, "tuning.settings"),
        ({"adopt": 1}, "tuning.adopt"),
        ({"grid": {}}, "grid"),
        ({"grids": {"fin": {}}}, "fine"),
        ({"like": {"fine": "other"}}, "fine is like"),
        ({"like": {"other": "fine"}}, r"tuning\.like"),
        ({"select": {"other": {}}}, r"tuning\.select"),
        ({"select": {"fine": {}}}, "no candidates"),
        ({"select": {"fine": {"candidates": ("other",)}}}, "candidate"),
        ({"select": {"fine": {"candidates": ("fine",), "search": "luck"}}}, "ascent"),
        ({"select": {"fine": {"candidates": ("fine",), "orders": "some"}}}, "configured"),
        ({"select": {"fine": {"candidates": ("fine",), "budget": 0}}}, "budget"),
        ({"select": {"fine": {"candidates": ("fine",), "buget": 1}}}, "budget"),
    ],
)
def test_a_section_that_is_none_is_refused(place, change, message):
    found = config(place, {"fine": vanilla(FINETUNE)}, grids={})
    with pytest.raises(InvalidInputError, match=message):
        experiment.build({**found, "tuning": {**found["tuning"], **change}})


def test_all_devices_hold_a_grid_and_results_do_not_depend_on_them(searched, monkeypatch, tmp_path):
    built, work, _, _ = searched
    alone = {fingerprint(each["options"]): each["scores"] for each in pieces(work, "fine")}
    monkeypatch.setattr("jax.local_devices", lambda: jax.devices()[:3])
    with WorkDirectory(tmp_path / "run") as other:
        pipeline.tune_experiment(built, other, console=Console(quiet=True))
        spread = pieces(other, "fine")
    assert {fingerprint(each["options"]): each["scores"] for each in spread} == alone
    assert len(list(itertools.product(RATES, EPOCHS))) == len(spread)
