"""The parts that requests are carried out by: what is retained, bounds, budgets and weights."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from rumjax import launch
from rumjax.errors import DamagedFileError, InvalidInputError
from rumjax.lab import experiment
from rumjax.lab.context import context_of
from rumjax.lab.difficulty import Matching
from rumjax.lab.forgetting import candidates, gate
from rumjax.lab.forgetting.bench import Evidence, Row
from rumjax.lab.forgetting.chooser import Chooser
from rumjax.lab.forgetting.deletion import Deletion, received
from rumjax.lab.forgetting.shadows import shadows_of
from rumjax.lab.sections import Forgetting
from rumjax.lab.workdir import WorkDirectory
from tests.lab.forgetting import offices


def test_what_was_ever_forgotten_is_not_retained():
    random = np.random.default_rng(0)
    for _ in range(20):
        order = random.permutation(30).astype(np.int32)
        forget, earlier = np.sort(order[:4]), np.sort(order[4:9])
        deletion = Deletion(2, ("r",), forget, earlier, 30)
        retain = deletion.retain
        assert retain.dtype == np.int32
        assert set(retain) == set(order[9:])
        assert (np.diff(retain) > 0).all()
        np.testing.assert_array_equal(deletion.forget_set.retain, retain)


def test_a_batch_without_its_file_is_damaged(tmp_path):
    with (
        WorkDirectory(tmp_path) as work,
        pytest.raises(DamagedFileError, match="though the log speaks of batch 1"),
    ):
        received(work, 1)


def row(name, p_value, least=0.0):
    ends = (np.nan, np.nan, 0.5, 0.5)
    return Row(name, "", 0.5, *ends, 10, p_value=p_value, least_p_value=least)


def evidence(*rows, **drops):
    accuracy = {
        name: {"size": 100, "before": 0.9, "after": 0.9 - drops.get(name, 0.0)} for name in "VR"
    }
    return Evidence(rows, accuracy, (), None, ())


RANK, BANK, ORACLES = gate.TESTS


def verdict(*rows, exact=False, **drops):
    judged = gate.judge(Forgetting(), evidence(*rows, **drops), exact=exact)
    return judged, [bound.name for bound in judged.bounds if not bound.passed]


def test_a_loss_of_accuracy_is_refused_beyond_its_limit():
    assert verdict(V=0.01)[0].passed  # whatever 0.9 − 0.89 is in binary
    judged, failed = verdict(V=0.05, R=0.021)
    assert failed == [f"certain loss of accuracy on {name}" for name in "VR"]
    np.testing.assert_allclose([bound.missed_by for bound in judged.bounds], [0.04, 0.001])
    assert len(gate.missed(judged)) == 2
    assert verdict(V=-0.05, R=-0.05)[0].passed


def test_tests_share_their_level():
    """Bonferroni: .03 fails alone, and passes as one of two."""
    assert verdict(row(RANK, 0.03))[1] == [f"p-value of {RANK}"]
    judged, failed = verdict(row(RANK, 0.03), row(BANK, 0.5))
    assert not failed
    assert [bound.bound for bound in judged.bounds[2:]] == [0.025, 0.025]
    assert verdict(row(RANK, 0.02), row(BANK, 0.5))[1] == [f"p-value of {RANK}"]


def test_a_test_that_cannot_tell_takes_no_share():
    """With 8 models the least p-value is 1/9: .03 of the other test fails as if it were alone."""
    judged, failed = verdict(row(RANK, 0.03), row(BANK, 0.2, least=1 / 9))
    assert failed == [f"p-value of {RANK}"]
    assert len(judged.bounds) == 3

    # Of three, one may tell as one of two, and none as one of three.
    rows = row(RANK, 0.5), row(BANK, 0.5, least=0.02), row(ORACLES, 0.5, least=0.2)
    assert [one.name for one in gate.able(rows, 0.05)] == [RANK, BANK]
    assert gate.able([None, row(BANK, None), row(ORACLES, 0.5, least=0.05)], 0.05) == []


def test_a_retrained_model_is_held_to_its_accuracy_alone():
    assert verdict(row(RANK, 0.0), exact=True)[0].passed
    assert not verdict(row(RANK, 0.0), exact=True, V=0.2)[0].passed


def test_strata_of_v_weigh_as_those_of_s():
    forget, unseen = np.array([0, 0, 0, 1, 3]), np.array([0, 1, 1, 2, 2, 2])
    matching = Matching(forget, unseen, np.zeros(5), np.zeros(6))
    # Stratum 3 has nothing of V, and stratum 2 nothing of S.
    np.testing.assert_allclose(matching.weights, [3 / 4, 1 / 8, 1 / 8, 0, 0, 0])


@pytest.fixture(scope="module")
def context(foreign, tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing")
    config = offices.write_config(
        folder, "own.py", "    del config.forgetting.candidates", data=foreign
    )
    run = experiment.build({**offices.forget.UNUSED, **launch.configuration(str(config), [])})
    with WorkDirectory(folder / "work") as work:
        yield context_of(run, work, Console(quiet=True))


def test_a_directory_without_a_bank_has_no_shadows(context):
    assert shadows_of(context) == "there is no bank of models"


def test_own_candidates_keep_every_budget(context):
    """All of them together, with the scores and the model that tells how hard examples are."""
    kept = 0
    for size in (1, 6, 60):
        for budget in (0.02, 0.2, 0.33, 0.7, 0.99):
            for epochs in (2, 4, 20):
                chooser = of(context, size, budget, epochs)
                try:
                    methods = candidates.candidates(chooser)
                except InvalidInputError:
                    # Not even the first of an epoch has room.
                    name, form = next(iter(candidates.own_candidates(chooser, 1).items()))
                    first = candidates.cost(chooser, candidates.build(chooser.run, name, form))
                    rest = chooser.budget - chooser.matched_examples - len(chooser.unseen)
                    assert first > rest
                    continue
                costs = sum(candidates.cost(chooser, method) for method in methods)
                spent = costs + chooser.matched_examples
                if any(method.refine == "rescored" for method in methods):
                    spent += len(chooser.unseen)
                assert 0 < spent <= budget * chooser.retraining
                kept += 1
    assert kept > 10


def of(context, size, budget, epochs):
    """A chooser of a batch of some size, under a budget of so many epochs."""
    run = context.run
    section = dataclasses.replace(run.config.forgetting, budget=budget)
    config = dataclasses.replace(run.config, forgetting=section)
    recipe = dataclasses.replace(run.recipe, epochs=epochs)
    changed = dataclasses.replace(run, config=config, recipe=recipe)
    forget = np.arange(size, dtype=np.int32)
    deletion = Deletion(1, ("r",), forget, np.array([70, 71], np.int32), offices.SIZE)
    here = dataclasses.replace(context, run=changed)
    return Chooser(here, context.work.below("requests"), deletion, None)
