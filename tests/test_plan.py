"""Plans of runs: their programs, the command on devices at hand, and what it refuses."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from rumjax import plan
from rumjax.data.shapes import shaped
from rumjax.errors import InvalidInputError
from rumjax.lab import compiling, experiment, plan_files, planning, targets
from rumjax.lab.config import read
from rumjax.lab.estimates import MARGIN
from rumjax.launch import configuration
from rumjax.types import Dataset
from rumjax.unlearn import ALGORITHMS
from tests.tiny import SIZE, write_config, write_data
from tests.unlearn import test_conformance

MORE = """
    config.tuning = {"seeds": (7, 8), "grids": {"finetune": {"epochs": (1, 3)}}}
    config.audit = {"models": 8, "methods": ("finetune_vanilla",)}
    config.seeds = 3
"""
FEW = """
    config.forget = {"by": "random", "size": 10}
    config.methods = {"finetune_vanilla": vanilla(finetune)}
"""


@pytest.fixture
def folder(tmp_path):
    write_data(tmp_path / "data.npz")
    write_config(tmp_path)
    return tmp_path


def run_of(folder, more=""):
    write_config(folder, more=more)
    sections = read(configuration(str(folder / "tiny.py")))
    splits = shaped(sections.data)
    return experiment.build_on(sections, splits, splits.train.images[:1])


def start(folder, *arguments):
    return plan.main([f"--config={folder / 'tiny.py'}", "--cpu_devices=8", *arguments])


def test_every_model_of_a_run_goes_through_a_program(folder):
    programs = {program.name: program for program in planning.programs(run_of(folder, MORE))}
    models = {
        name: [(use.stage, use.models, use.epochs) for use in program.uses]
        for name, program in programs.items()
    }
    assert models["Recipe: epoch"] == [
        ("originals", 3, 2),
        ("bank", 24, 2),
        ("oracles", 6, 2),
        ("tuning", 2, 2),
        ("tuning", 2, 2),
        ("audits", 8, 2),
    ]
    # Fine-tuning is a step of vanilla, three of RUM^F, and one of the mixture.
    of_finetune = models["Finetune: epoch"]
    assert sum(count for stage, count, _ in of_finetune if stage == "unlearning") == 3 * 5
    assert of_finetune.count(("audits", 8, 2)) == 1
    assert {epochs for stage, _, epochs in of_finetune if stage == "tuning"} == {1, 3}
    assert models["NegGradPlus: epoch"][-1] == ("unlearning", 3, 1)
    assert {stage for stage, *_ in models["answers"]} == {"tuning", "audits"}
    assert models["answers, model kept"] == [("bank", 24, 1)]

    # Retained examples: all, half of them, all but S, in batches of 32; NegGrad+ takes two a step.
    uses = programs["Recipe: epoch"].uses
    assert [use.batches for use in uses[:3]] == [2 * 4, 2 * 2, 2 * 3]
    assert programs["NegGradPlus: epoch"].uses[-1].batches == 2 * 3
    assert programs["Recipe: epoch"].step.task.retain.indices.shape == (SIZE,)


@pytest.mark.thorough
def test_the_command_plans_for_the_devices_at_hand(folder, capsys):
    write_config(folder, more=FEW)
    assert start(folder, f"--workdir={folder / 'run'}", "--price=2") == 0
    written = json.loads((folder / "run" / "plan.json").read_text())
    shown = capsys.readouterr().out
    assert "Recipe: epoch" in shown
    assert "Left out: time on the host" in shown
    assert written["format"] == plan_files.FORMAT
    assert [one["stage"] for one in written["stages"]] == [
        "originals",
        "oracles",
        "unlearning",
    ]
    assert all(row["hbm_bytes"] > 0 and row["fits"] for row in written["rows"])

    # Sums are those of the rows, and more devices never take longer.
    rows = [row["device_hours"] for row in written["rows"]]
    low, high = written["total"]["device_hours"]
    assert low == pytest.approx(sum(row[0] for row in rows))
    assert high / low == pytest.approx((1 + MARGIN) / (1 - MARGIN))
    hours = [one["hours_with_more_chips_a_host"][1] for one in written["scaling"]]
    assert hours == sorted(hours, reverse=True)
    assert written["total"]["cost"][1] == pytest.approx(hours[0] * 8 * 2)

    # A plan is replaced by another; anything else is left alone.
    (folder / "run" / "plan.json").write_text("{}")
    assert start(folder, f"--workdir={folder / 'run'}") == 1
    assert "is no plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5litepod-8"], "unknown topology 'v5litepod-8'; there are v2:2x2"),
        (["--topology=v9:2x2"], "v5e:2x4"),
        (["--device=a100"], "h100"),
        (["--topology=v5e:2x4", "--device=h100"], "give one of them"),
        (["--data.shape=8x8x1"], "--data.train is missing"),
        (["--budget-gib=-1"], "--budget-gib"),
        (["--workdir=gs://mine/run"], "--output"),
        (["--processes=0"], "--processes"),
    ],
)
def test_what_cannot_be_planned_is_refused(folder, arguments, message, capsys):
    assert start(folder, *arguments) == 1
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("v5e:2x4", None), r"pip install 'rumjax\[plan\]'"),
        ((None, "h100"), r"pip install 'jax\[cuda13\]'"),
    ],
)
def test_a_compiler_that_is_not_installed_is_named(arguments, message, monkeypatch):
    monkeypatch.setattr(targets, "is_installed", lambda name: False)
    with pytest.raises(InvalidInputError, match=message):
        targets.prepare(*arguments, {})


def test_variables_are_set_before_jax_starts(monkeypatch):
    monkeypatch.setattr(targets, "is_installed", lambda name: True)
    environment = {"XLA_FLAGS": "--mine"}
    targets.prepare("v5e:2x4", None, environment)
    assert environment["TPU_SKIP_MDS_QUERY"] == environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"
    assert environment["JAX_PLATFORMS"] == "cpu"
    targets.prepare(None, "h100", environment)
    assert environment["XLA_FLAGS"] == "--mine --xla_gpu_autotune_level=0"


def test_help_and_refusals_do_without_jax(folder):
    code = (
        "import sys; from rumjax import plan\n"
        f"status = plan.main(['--config={folder / 'tiny.py'}', '--topology=nowhere'])\n"
        "assert status == 1 and 'jax' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_process_that_cannot_compile_says_why():
    request = compiling.Request(0, 1, "map")
    with pytest.raises(InvalidInputError, match=r"compiling failed: .*nowhere\.py"):
        compiling.ask(["--config=nowhere.py"], request, threading.Event(), halfway=True)


def test_what_every_algorithm_takes_is_estimated():
    data = Dataset(np.zeros((36, 4, 4, 1), np.uint8), np.arange(36) % 3)
    for name in ALGORITHMS:
        unlearner = test_conformance.unlearner(name)
        batches = planning.batches_of(unlearner, 12, 24, data, 8)
        assert (batches > 0) == (name != "original"), name
    assert planning.batches_of(object(), 12, 24, data, 8) is None
