"""A model that diverges has a row that says so, and the others go on."""

import io

import numpy as np
import pytest
from rich.console import Console

from rumjax import ensemble
from rumjax.errors import DivergenceError
from rumjax.lab import bank, experiment, files, pipeline
from rumjax.lab.answers import from_arrays
from rumjax.lab.bank import ModelBank
from rumjax.lab.methods import vanilla
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from tests.runs import stamps, start, table
from tests.tiny import SIZE, TESTS

FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}
WILD = "--config.methods.finetune_rum_f.select.medium.learning_rate=1e30"


def diverging(names, monkeypatch):
    """Lets models of these names diverge, whatever their numbers are."""
    make = ensemble.run

    def run(works, *arguments, **options):
        for made in make(works, *arguments, **options):
            errors = [
                DivergenceError(f"Recipe (D, {name}) diverged in epoch 1.")
                if name in names
                else old
                for name, old in zip(made.names, made.diverged, strict=True)
            ]
            assert options["diverging"] == "noted" or not any(errors)
            yield made._replace(diverged=errors)

    monkeypatch.setattr(ensemble, "run", run)


@pytest.mark.usefixtures("no_figures")
def test_one_method_that_diverges_leaves_the_others_and_a_status(place, finished, run, capsys):
    (run / "rows" / "finetune_rum_f_seed0.json").unlink()
    assert start(place / "tiny.py", run, WILD) == 4
    lines = capsys.readouterr().out
    assert "Finetune (medium, seed 0) diverged" in lines
    assert "Some models diverged" in lines
    assert lines.splitlines()[-1] == "diverged: finetune_rum_f on seed 0"

    # Its row has no measures, and all others are as they were.
    rows = {row["name"]: row for row in table(run / "results.csv")}
    others = {row["name"]: row for row in table(finished / "results.csv")}
    wild = rows.pop("finetune_rum_f")
    assert wild["diverged"] == "1.0"
    assert {wild[name] for name in ("tow", "tow_mia", "forget_accuracy", "mia")} == {""}
    assert {row.pop("diverged") for row in rows.values()} == {""}
    del others["finetune_rum_f"]
    assert rows == others
    summary = {row["name"]: row for row in table(run / "summary.csv")}
    assert summary["finetune_rum_f"]["tow"] == ""
    assert summary["finetune_rum_f"]["diverged"] == "1"
    assert "finetune_rum_f (1 of 1)" in (run / "report.html").read_text()

    # The same again makes nothing, and another setting is made anew.
    before = stamps(run / "rows")
    assert start(place / "tiny.py", run, WILD) == 4
    assert stamps(run / "rows") == before
    assert start(place / "tiny.py", run, "--recompute=unlearn/finetune_rum_f") == 0
    assert table(run / "results.csv", ("seconds", "rte")) == table(
        finished / "results.csv", ("seconds", "rte")
    )


def test_one_seed_that_diverges_takes_the_mean_of_its_method_and_no_other_seed(
    place, tmp_path, monkeypatch
):
    sections = {
        "seeds": 2,
        "forget": {"by": "random", "size": 30},
        "methods": {"fine": vanilla(FINETUNE), "again": vanilla({**FINETUNE, "epochs": 2})},
    }
    run = experiment.build({**configuration(str(place / "tiny.py")), **sections})
    made_by = ensemble.make_groups

    def make_groups(groups, *arguments, **options):
        for job, result in made_by(groups, *arguments, **options):
            is_wild = job.name == "seed 1" and job.steps[-1].unlearner.epochs == 1
            is_unlearning = job.variables is not None
            error = DivergenceError("diverged") if is_wild and is_unlearning else None
            yield job, result._replace(diverged=error)

    monkeypatch.setattr(ensemble, "make_groups", make_groups)
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(run, work, console=Console(quiet=True), figures=False)
        assert pipeline.diverged_models(run, work) == ["fine on seed 1"]
        summary = {row["name"]: row for row in table(work.path / "summary.csv")}
    found = {(row["name"], row["seed"]): row for row in rows}
    assert "tow" in found["fine", 0]
    assert "tow" not in found["fine", 1]
    assert summary["fine"]["tow"] == ""
    assert summary["fine"]["rte"] != ""
    assert summary["again"]["tow"] != ""


def test_a_bank_goes_on_without_a_model_that_diverged(place, tmp_path, monkeypatch):
    run = experiment.build({**configuration(str(place / "tiny.py")), "methods": {}})
    diverging({"model 3", "model 20"}, monkeypatch)
    with WorkDirectory(tmp_path / "run") as work:
        shown = io.StringIO()
        console = Console(file=shown, width=500)
        pipeline.run_experiment(run, work, console=console, figures=False)
        said = shown.getvalue()
        assert "model 3) diverged in epoch 1. The bank goes on without it." in said
        diverged = pipeline.diverged_models(run, work)
        assert diverged == ["model 3 of the bank", "model 20 of the bank"]
        page = (work.path / "report.html").read_text()
        assert "2 of its models diverged and are left out" in page
        memorization = work.read_arrays(files.SCORES)["memorization"]

        # Memorization is that of the other 22, by its definition.
        models = ModelBank.open(work)
        sound = [model for model in range(24) if model not in (3, 20)]
        correct = np.stack(
            [
                from_arrays(work.read_arrays(files.bank_row(model)), SIZE + TESTS).correct[:SIZE]
                for model in sound
            ]
        )
        member = np.stack([models.member(model) for model in sound])
        seen = np.sum(correct * member, 0) / np.sum(member, 0)
        unseen = np.sum(correct * ~member, 0) / np.sum(~member, 0)
        np.testing.assert_allclose(memorization, seen - unseen, atol=1e-6)

        # Nothing is trained again, and a copy knows what diverged.
        assert bank.lacking(models, 24) == []
        with WorkDirectory(tmp_path / "copy") as other:
            copy = ModelBank(other, models.header)
            copy.merge(models)
            assert list(copy.diverged()) == [3, 20]
            np.testing.assert_array_equal(copy.memorization().values, memorization)


def test_a_bank_of_which_most_diverge_is_an_error(place, tmp_path, monkeypatch):
    run = experiment.build(configuration(str(place / "tiny.py")))
    diverging({f"model {model}" for model in range(13)}, monkeypatch)
    with (
        WorkDirectory(tmp_path / "run") as work,
        pytest.raises(DivergenceError, match="13 of the 24 models of the bank diverged"),
    ):
        pipeline.run_experiment(run, work, console=Console(quiet=True), figures=False)
