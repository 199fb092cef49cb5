"""The stage of unlearning: what a row says of its own model and seed."""

import time

from rich.console import Console

from rumjax.lab import experiment, files, pipeline
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.results import read_row
from rumjax.lab.stages import unlearning
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration

FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}


STOPPED = {"algorithm": "lotus", "epochs": 1, "held_out_accuracy": 1.0}
"""It ends once S is known no better than all held-out images, which is at once."""


def test_rows_have_times_of_scores_made_anew_and_say_what_has_changed_nothing(
    place, tmp_path, monkeypatch
):
    def scores_for(context, method, scores, start, seed):
        time.sleep(1.0 if seed == 0 and method.refine == "rescored" else 0.0)
        return original(context, method, scores, start, seed)

    original = unlearning.scores_for
    monkeypatch.setattr(unlearning, "scores_for", scores_for)
    sections = {
        "seeds": 2,
        "forget": {"by": "random", "size": 30},
        "methods": {"anew": rum_f(FINETUNE, refine="rescored"), "stopped": vanilla(STOPPED)},
    }
    run = experiment.build({**configuration(str(place / "tiny.py")), **sections})
    with WorkDirectory(tmp_path / "run") as work:
        pipeline.run_experiment(run, work, console=Console(quiet=True), figures=False)
        seconds = {}
        for seed in run.seeds:
            row = read_row(work, "anew", seed)
            retraining = read_row(work, "retrain_reference", seed)["seconds"]
            seconds[seed] = (row["rte_with_scores"] - row["rte"]) * retraining
            assert "unchanged" not in row
            assert read_row(work, "stopped", seed)["unchanged"] == 1.0
        said = " ".join((tmp_path / "run" / files.REPORT).read_text().split())
    assert seconds[1] < 1.0 <= seconds[0]
    assert "selected no parameter or took no step: stopped (2 of 2)." in said
