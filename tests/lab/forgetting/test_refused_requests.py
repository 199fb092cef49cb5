"""The gate refuses: the old model stays, it is said by how much, and other bounds go on from it."""

import pytest

import rumjax
from rumjax.lab import experiment
from rumjax.lab.context import stage_key
from rumjax.lab.workdir import digest
from rumjax.types import Task, subset
from tests.lab.forgetting import offices

WILD = """
    wild = {"algorithm": "neggrad", "epochs": 1, "learning_rate": 3000.0}
    config.forgetting.candidates = {"wild": vanilla(wild)}
    config.forgetting.validation_drop = 0.01
"""


@pytest.fixture(scope="module")
def refused(foreign, tmp_path_factory):
    """A directory whose only batch is refused."""
    folder = tmp_path_factory.mktemp("refused")
    offices.write_config(folder, "wild.py", WILD, data=foreign)
    requests = offices.asked(folder / "requests.csv", r1=[3, 10])
    assert offices.start(folder / "wild.py", requests, folder / "work") == 3
    return folder


@pytest.fixture
def arguments(refused, tmp_path):
    work = offices.copied(refused / "work", tmp_path / "work")
    return refused / "wild.py", refused / "requests.csv", work


def test_the_old_model_stays(arguments, capsys):
    work = arguments[2]
    assert offices.states(work) == [("received", 1), ("unlearned", 1), ("failed", 1)]
    assert not (work / "requests/forgotten.csv").exists()
    assert not list(work.glob("requests/checkpoints/delivered*"))
    assert not list(work.glob("requests/batch_0001/model*"))
    document = offices.certificate(work, 1, "refused.json")
    assert document["outcome"] == "refused"
    assert document["delivered"] == document["original"]
    assert not (work / "requests/batch_0001/certificate.json").exists()

    # The page says by how much.
    (bound,) = [bound for bound in document["gate"]["bounds"] if not bound["passed"]]
    assert bound["name"] == "certain loss of accuracy on V"
    page = (work / "requests/batch_0001/refused.html").read_text()
    assert f"{bound['missed_by']:.2g}"[:4] in page
    assert offices.verify(work, 1, name="refused.json") == 0
    assert "model made again: holds" in capsys.readouterr().out


@pytest.mark.usefixtures("no_training")
def test_the_same_command_says_so_again(arguments, capsys):
    before = offices.log(arguments[2])
    for _ in range(2):
        assert offices.start(*arguments) == 3
        said = capsys.readouterr().out
        assert "not delivered: certain loss of accuracy on V is" in said
        assert "wanted at most 0.01, missed by" in said
        assert "refused.html" in said
    assert offices.log(arguments[2]) == before


def test_other_bounds_supersede_it(arguments, tmp_path):
    # Others first: what was refused long before is superseded too.
    config, _, work = arguments
    loose = "--config.forgetting.validation_drop=1.0"
    other = offices.asked(tmp_path / "other.csv", r2=[20])
    assert offices.start(config, other, work, loose) == 0
    both = offices.asked(tmp_path / "both.csv", r1=[3, 10], r2=[20])
    assert offices.start(config, both, work, loose) == 0
    lines = [(line["state"], line["batch"], line["requests"]) for line in offices.log(work)]
    assert lines[6:] == [
        ("superseded", 1, ["r1"]),
        *((state, 3, ["r1"]) for state in ("received", "unlearned", "verified")),
    ]
    assert offices.certificate(work, 3)["outcome"] == "within_bounds"
    assert offices.verify(work, 3) == 0


def test_or_retrain(arguments, capsys):
    # No p-value is as large as 1, and none is asked of a model that is retrained.
    bounds = "--config.forgetting.validation_drop=1.0", "--config.forgetting.p_value=1.0"
    assert offices.start(*arguments, "--or-retrain", *bounds) == 0
    assert "the model is retrained, as --or-retrain says" in capsys.readouterr().out
    work = arguments[2]
    states = ("superseded", 1), ("received", 2), ("unlearned", 2), ("unlearned", 2), ("verified", 2)
    assert offices.states(work)[3:] == list(states)
    document = offices.certificate(work, 2)
    assert (document["level"], document["outcome"]) == ("A", "retrained")
    # What was tried before counts.
    assert 1 < document["cost"]["share_of_retraining"] < 2
    assert offices.verify(work, 2) == 0
    assert "model made again: holds" in capsys.readouterr().out


def test_a_budget_of_retraining_retrains(foreign, tmp_path, capsys):
    """To the bits of a model that is trained by the recipe on what is retained."""
    requests = offices.asked(tmp_path / "requests.csv", r1=[3, 10])
    work, config = tmp_path / "work", foreign / "foreign.py"
    budget = "--config.forgetting.budget=1.0"
    assert offices.start(config, requests, work, budget) == 0
    document = offices.certificate(work, 1)
    assert (document["level"], document["outcome"]) == ("A", "retrained")
    assert document["cost"]["share_of_retraining"] == 1
    assert offices.verify(work, 1) == 0
    assert "model made again: holds" in capsys.readouterr().out

    # By the library alone.
    run = experiment.build(rumjax.launch.configuration(str(config), []) | offices.forget.UNUSED)
    kept = [row for row in range(offices.SIZE) if row not in (3, 10)]
    task = Task(subset([3, 10], capacity=offices.SIZE), subset(kept, capacity=offices.SIZE))
    steps = rumjax.unlearn.chain(task, run.recipe)
    key = stage_key(run.config.seed, "forget/1/retrain")
    model = rumjax.unlearn.run(key, steps, None, run.data.train)
    assert digest(model) == document["delivered"]["digest"]
