"""Candidates that learn from validation images or from a bank, and those that cannot be told."""

import shutil

import numpy as np
import pytest

from rumjax import launch
from rumjax.lab import experiment
from rumjax.lab.answers import Answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.dependencies import bank_header
from rumjax.lab.workdir import WorkDirectory
from tests.lab.forgetting import offices

LEARNERS = """
    regun = {"algorithm": "regun", "epochs": 1, "learning_rate": 0.05, "batch_size": 16}
    shares = {"algorithm": "datamodel_matching", "epochs": 1, "learning_rate": 0.001}
    select = {"low": regun, "high": shares | {"batch_size": 16}}
    config.forgetting.candidates = {"parts": rum(select, refine="random", parts=["low", "high"])}
    config.bank = {"models": 9, "fraction": 0.5, "seed": 0}
"""
OTHERS = {
    "oracle_matching": (
        "",
        "forgetting.candidates.other: it learns from models that are retrained without the "
        "examples, and one of those could be delivered itself; set forgetting.budget to 1",
    ),
    "datamodel_matching": ("", "learns from a datamodel of a bank, and there is no bank of models"),
    "unsir": ("", "Unsir forgets whole classes, and "),
    "scrub": ("del", "validation images class by class, and there are none of 2"),
    "regun": ("del", "validation images class by class, and there are none of 2"),
}


def write_bank(config, work):
    """Answers of models that were never trained."""
    run = experiment.build({**offices.forget.UNUSED, **launch.configuration(str(config), [])})
    with WorkDirectory(work) as directory:
        bank = ModelBank(directory, bank_header(run))
        for model in range(9):
            random = np.random.default_rng(model)
            margins = random.normal(size=offices.SIZE + offices.TESTS).astype(np.float32)
            bank.write(model, Answers(margins, margins > 0), 1.0)


@pytest.fixture(scope="module")
def told(foreign, tmp_path_factory):
    """A directory whose only batch is unlearned by two algorithms that must be told something."""
    folder = tmp_path_factory.mktemp("told")
    config = offices.write_config(folder, "told.py", LEARNERS, data=foreign)
    write_bank(config, folder / "work")
    requests = offices.asked(folder / "requests.csv", r1=[3, 10, 21, 22, 30, 33])
    assert offices.start(config, requests, folder / "work") == 0
    return folder


def test_they_are_told_and_the_model_can_be_made_again(told, capsys):
    work = told / "work"
    assert offices.states(work) == [("received", 1), ("unlearned", 1), ("verified", 1)]
    assert offices.verify(work, 1) == 0
    assert "model made again: holds" in capsys.readouterr().out


def test_what_they_learned_from_is_said_and_judges_nothing(told):
    document = offices.certificate(told / "work", 1)
    assert document["touched"]["V"].endswith("and learned from")
    assert "learned from" in document["touched"]["bank"]
    names = {row["name"] for row in document["evidence"]}
    assert not {name for name in names if "bank" in name}
    assert any("a candidate learns from what the bank" in text for text in document["not_tested"])


def test_without_the_bank_it_is_not_made_again(told, tmp_path, capsys):
    work = offices.copied(told / "work", tmp_path / "work")
    shutil.rmtree(work / "bank")
    (work / "bank.json").unlink(missing_ok=True)
    before = sorted(work.rglob("*"))
    assert offices.verify(work, 1) == 0
    assert "there is no bank of models" in " ".join(capsys.readouterr().out.split())
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("algorithm", OTHERS)
@pytest.mark.usefixtures("no_training")
def test_what_cannot_be_told_is_refused_before_anything_is_trained(
    foreign, tmp_path, capsys, algorithm
):
    where, reason = OTHERS[algorithm]
    data = tmp_path if where else foreign
    if where:
        with np.load(foreign / "data.npz") as arrays:
            kept = arrays["validation_labels"] != 2
            parts = {name: arrays[f"validation_{name}"][kept] for name in ("images", "labels")}
        offices.write_data(tmp_path / "data.npz", **{f"validation_{a}": parts[a] for a in parts})
        shutil.copy(foreign / "model.msgpack", tmp_path)
    options = {"algorithm": algorithm, "epochs": 2}
    if algorithm == "scrub":
        options |= {"max_epochs": 1, "rewind": True}
    more = f"    config.forgetting.candidates = {{'other': vanilla({options})}}"
    config = offices.write_config(tmp_path, "other.py", more, data=data)
    requests = offices.asked(tmp_path / "requests.csv", r1=[2, 0])
    assert offices.start(config, requests, tmp_path / "work") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert reason in said, said
    assert not (tmp_path / "work/requests/log.jsonl").exists()
