"""A run whose configuration or images have changed, and stages that are made anew."""

import re
import shutil

import numpy as np
import pytest

from rumjax import launch
from rumjax.lab import dependencies
from rumjax.lab.experiment import build
from tests.runs import contents, same_results, start
from tests.tiny import CLASSES, SIZE, write_config, write_data


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=0.2", "'original' .*training.learning_rate: 0.1, now 0.2"),
        ("model.options.hidden=9", "'original' .*model.options.hidden: 8, now 9"),
        ("bank.seed=1", "'bank' .*bank.seed: 0, now 1"),
        ("bank.models=30", "'scores' .*models: 24, now 30"),
        ("forget.size=9", "'forget_sets' .*forget.size: 10, now 9"),
        ("seed=1", "'scores' .*first_seed: 0, now 1"),
        ("attack.samples=5", "'oracle' .*attack.samples: None, now 5"),
        (
            "methods.mixed.select.high.learning_rate=0.1",
            r"'unlearn/mixed' .*method.select.high.learning_rate: 0.02, now 0.1",
        ),
    ],
)
def test_a_changed_configuration_is_refused(
    place, untouched, no_training, capsys, override, message
):
    assert start(place / "tiny.py", untouched, f"--config.{override}") == 1
    error = capsys.readouterr().err
    assert "WorkDirectoryError" in error
    assert re.search(message, error)
    assert "--recompute=" in error


def test_changed_images_are_refused_and_moved_ones_are_not(place, run, tmp_path, capsys):
    for folder in ("moved", "other"):
        (tmp_path / folder).mkdir()
        write_config(tmp_path / folder)
    shutil.copy(place / "data.npz", tmp_path / "moved")
    write_data(tmp_path / "other" / "data.npz", train_labels=np.arange(SIZE) % CLASSES)
    before = contents(run)
    assert start(tmp_path / "other" / "tiny.py", run) == 1
    assert "data.sha256: " in capsys.readouterr().err
    assert contents(run) == before
    assert start(tmp_path / "moved" / "tiny.py", run) == 0


ROWS = {f"rows/{name}_seed0" for name in ("original", "finetune_vanilla", "finetune_rum_f")}
ROWS |= {"rows/mixed_seed0"}
RETRAINED = {f"rows/retrain_{which}_seed0" for which in ("reference", "second")}
RETRAINED |= {f"oracle_{which}_seed0" for which in ("reference", "second")}
BANK = {f"bank/{model:05d}" for model in range(24)}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("unlearn/mixed", {"rows/mixed_seed0"}),
        ("unlearn", ROWS),
        ("oracle", ROWS | RETRAINED),
        ("scores", ROWS | RETRAINED),
        ("original", ROWS | RETRAINED | BANK | {"original_seed0"}),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_a_stage_is_made_anew_with_those_after_it_and_no_other(
    place, finished, run, made, stage, expected
):
    assert start(place / "tiny.py", run, f"--recompute={stage}") == 0
    assert set(made) == expected
    assert len(made) == len(expected)
    same_results(run, finished)


@pytest.mark.usefixtures("no_figures")
def test_a_changed_method_is_accepted_if_made_anew(place, run, made):
    change = "--config.methods.mixed.select.high.learning_rate=0.1"
    assert start(place / "tiny.py", run, change, "--recompute=unlearn/mixed") == 0
    assert made == ["rows/mixed_seed0"]
    assert start(place / "tiny.py", run, change) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recompute=unlearn", "--recompute=bnk"], "did you mean 'bank'"),
        (["--recompute=unlearn/mixd"], "did you mean 'unlearn/mixed'"),
        (["--recompute=oracle/mixed"], "unknown stage to recompute"),
        (["--recompute=unlearn/*"], "unknown stage to recompute"),
        (["--recompute=oracle", "--config.training.epochs=3"], "'original'"),
        (["--recompute=unlearn", "--config.forget.size=50"], "nothing of 120 examples to retain"),
    ],
)
def test_nothing_is_deleted_by_a_command_that_is_refused(
    place, untouched, no_training, capsys, arguments, message
):
    assert start(place / "tiny.py", untouched, *arguments) == 1
    assert message in capsys.readouterr().err


def test_given_scores_count_by_their_content_wherever_they_are(place, tmp_path):
    def scored(folder, values):
        folder.mkdir(exist_ok=True)
        np.savez(folder / "scores.npz", mine=values)
        given = {"path": str(folder / "scores.npz"), "key": "mine"}
        write_config(place, "given.py", f'config.scores = {{"memorization": {given!r}}}')
        return dependencies.configurations(build(launch.configuration(str(place / "given.py"))))

    values = np.linspace(0, 1, SIZE)
    first, moved = scored(tmp_path / "one", values), scored(tmp_path / "other", values)
    changed = scored(tmp_path / "one", values[::-1])
    assert first == moved
    assert {stage for stage in first if first[stage] != changed[stage]} == first.keys() - {
        "original",
        "bank",
    }
