"""Tuning on models: a whole grid is one program, and what is found is kept and adopted."""

import io
import itertools
import json

import jax
import pytest
from rich.console import Console

from rumjax import tune
from rumjax.errors import InvalidInputError
from rumjax.lab import experiment, pipeline
from rumjax.lab.context import context_of, load_original, stage_key
from rumjax.lab.grids import fingerprint
from rumjax.lab.making import steps_of
from rumjax.lab.measuring import look, measure, measure_oracle
from rumjax.lab.methods import rum, rum_f, vanilla
from rumjax.lab.stages import forget_sets
from rumjax.lab.stages.tuning import with_setting
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.metrics import tug_of_war
from rumjax.types import Dataset
from rumjax.unlearn import run
from tests import tiny


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
    context = next(context_of(built, work, Console(quiet=True)).cases)
    forget_set = forget_sets.read(context)
    found = pieces(work, "fine")
    assert len(found) == len(RATES) * len(EPOCHS)
    for piece in found:
        options = piece["options"]["select"]["all"]
        for seed, score in zip((7, 8), piece["scores"], strict=True):
            expected = 0.0
            if options["learning_rate"] < 1e30:
                tried = with_setting(built, built.methods[1], {"all": options})
                steps = steps_of(context, tried, {}, forget_set, seed)
                start = load_original(context, seed)
                key = stage_key(seed, "unlearn/fine")
                only_train = Dataset(*(part[: tiny.SIZE] for part in context.data))
                after = run(key, steps, start, only_train)
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
    assert "tow" not in wild
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
    console = Console(file=io.StringIO(), width=200)
    with WorkDirectory(tmp_path / "run") as work:
        best = pipeline.tune_experiment(built, work, console=console)
        assert work.names("checkpoints/oracle_*") == []
        scores = tune.scores_of(built, work, best)
        assert scores["tiny", "fine"] == max(piece["score"] for piece in pieces(work, "fine"))
        console.print(tune.table(best, scores))
        # Of two values the best is the smallest or the largest.
        rate = best["tiny"]["fine"]["select"]["all"]["learning_rate"]
        edge = {0.01: "smallest", 0.1: "largest"}[rate]
        text = console.file.getvalue()
        assert f"at the edge: learning_rate {rate} is the {edge} that was tried" in text
        assert text.count(f"{scores['tiny', 'fine']:.4f}") == 2
        assert all(0 <= piece["score"] <= 1 for piece in pieces(work, "fine"))


@pytest.mark.thorough
def test_an_attack_judges_the_models_of_all_seeds_together(place, tmp_path):
    built = experiment.build(
        config(
            place,
            {"fine": vanilla(FINETUNE)},
            criterion="ulira",
            seeds=tuple(range(100, 108)),
            grids={"finetune": {"learning_rate": (1e-9, 0.1, 1e30)}},
        )
    )
    with WorkDirectory(tmp_path / "run") as work:
        pipeline.tune_experiment(built, work, console=Console(quiet=True), figures=False)
        by_rate = {
            piece["options"]["select"]["all"]["learning_rate"]: piece
            for piece in pieces(work, "fine")
        }
        assert len(work.names("checkpoints/oracle_reference_seed10*")) == 8
    assert by_rate[1e30]["scores"] == [0.0] * 8
    for rate in (1e-9, 0.1):
        (score,) = set(by_rate[rate]["scores"])
        assert 0 < score <= 1


def test_where_all_settings_diverge_a_method_keeps_its_own(place, tmp_path):
    methods = {
        "wild": vanilla(FINETUNE),
        "fine": vanilla(FINETUNE),
        "chosen": rum(dict.fromkeys(("low", "medium", "high"), FINETUNE)),
    }
    searched = {
        "grids": {"wild": {"learning_rate": (1e30, 1e35)}, "fine": {"learning_rate": (1e30, 0.1)}},
        "select": {"chosen": {"candidates": ("wild", "fine"), "budget": 1}},
    }
    built = experiment.build(
        config(place, methods, adopt=True, criterion="validation", seeds=(7,), **searched)
    )
    shown = io.StringIO()
    with WorkDirectory(tmp_path / "run") as work:
        best = pipeline.tune_experiment(
            built, work, console=Console(file=shown, width=200), figures=False
        )
        scores = tune.scores_of(built, work, best)
        assert pipeline.diverged_models(built, work) == ["all settings that were tried of wild"]
        pasted = (work.path / "tuned_methods.py").read_text()
    assert "wild: all 2 settings diverged" in shown.getvalue()
    assert "1 of 2 settings diverged" in shown.getvalue()
    assert scores["tiny", "wild"] is None
    assert best["tiny"]["wild"] == built.methods[1].options
    assert best["tiny"]["fine"]["select"]["all"]["learning_rate"] == 0.1
    # A search for RUM starts from the candidate that scored highest.
    chosen = best["tiny"]["chosen"]["select"].values()
    assert [part["learning_rate"] for part in chosen] == [0.1] * 3
    assert "wild" not in pasted
    assert "fine" in pasted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criterion": "guess"}, "criterion"),
        ({"criterion": "ulira"}, "at least 8, got 2"),
        ({"seeds": ()}, "tuning.seeds"),
        ({"settings": 0}, "tuning.settings"),
        ({"adopt": 1}, "tuning.adopt"),
        ({"grid": {}}, "grid"),
        ({"grids": {"fin": {}}}, "fine"),
        ({"like": {"fine": "other"}}, "fine is like"),
        ({"like": {"other": "fine"}}, r"tuning\.like"),
        ({"select": {"other": {}}}, r"tuning\.select"),
        ({"select": {"fine": {}}}, "missing a required argument: .candidates."),
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


@pytest.mark.thorough
def test_all_devices_hold_a_grid_and_results_do_not_depend_on_them(searched, monkeypatch, tmp_path):
    built, work, _, _ = searched
    alone = {fingerprint(each["options"]): each["scores"] for each in pieces(work, "fine")}
    monkeypatch.setattr("jax.local_devices", lambda: jax.devices()[:3])
    with WorkDirectory(tmp_path / "run") as other:
        pipeline.tune_experiment(built, other, console=Console(quiet=True))
        spread = pieces(other, "fine")
    assert {fingerprint(each["options"]): each["scores"] for each in spread} == alone
    assert len(list(itertools.product(RATES, EPOCHS))) == len(spread)
