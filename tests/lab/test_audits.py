"""The stage of audits: which models it makes, which it reuses, and what it leaves."""

import dataclasses
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
from rich.console import Console

from rumjax import audits
from rumjax.audits import FORGOTTEN, IN, OUT
from rumjax.errors import InvalidInputError
from rumjax.lab import bank, engines, experiment, files, jobs, pipeline
from rumjax.lab.answers import lost, reader, to_arrays
from rumjax.lab.context import context_of, load_of_bank, stage_key
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.results import read_forget_set
from rumjax.lab.stages import bank as bank_stage
from rumjax.lab.stages.audited_models import assign, steps_for
from rumjax.lab.stages.audits import Populations, with_halves, without_diverged
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.types import Outputs
from rumjax.unlearn import run as unlearn
from tests.runs import without_times
from tests.tiny import SIZE, TESTS


def contents(folder):
    """All files of a directory, as bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


QUIET = Console(quiet=True)
FINETUNE = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 1}
METHODS = {"fine": vanilla(FINETUNE), "refined": rum_f(FINETUNE)}
MODELS, SEEDS = 16, 3


class Network(nn.Module):
    """Quick to compile."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        hidden = nn.relu(nn.Dense(6)(images.reshape(len(images), -1)))
        return Outputs(nn.Dense(self.num_classes)(hidden), hidden)


def config(place, methods=METHODS, **sections):
    found = configuration(str(place / "tiny.py"))
    changed = {
        "seeds": SEEDS,
        "model": {"name": f"{__name__}:Network"},
        "bank": {**found["bank"], "models": MODELS},
        "forget": {"by": "random", "size": 30},
        "methods": methods,
        "audit": {"models": MODELS},
    }
    return {**found, **changed, **sections}


def run(place, folder, engine=engines.HERE, **changes):
    """Runs, and says which models were made."""
    built = experiment.build(config(place, **changes))
    with WorkDirectory(folder) as work:
        pipeline.run_experiment(built, work, console=QUIET, engine=engine, figures=False)
        return work.read_json("audit/models.json")


@pytest.fixture(scope="module")
def done(place):
    """An audit of two methods: its directory, and how many models it made."""
    folder = place / "audited"
    return folder, run(place, folder)


@pytest.fixture
def context(place, done):
    built = experiment.build(config(place))
    with WorkDirectory(done[0]) as work:
        yield next(context_of(built, work, QUIET).cases)


def forget_set_of(context):
    return read_forget_set(context.place)


# What each model is asked to forget


def test_each_model_of_the_bank_forgets_as_many_examples_of_s_that_it_saw(context):
    forget_set = forget_set_of(context)
    assignments = assign(context, forget_set)
    assert [one.model for one in assignments] == list(range(MODELS))
    for one in assignments:
        assert len(one.forget) == round(2 / 3 * 0.5 * 30)
        assert set(one.forget) <= set(one.seen) & set(forget_set.forget)
        assert sorted([*one.forget, *one.retain]) == list(one.seen)
    assert len({tuple(one.forget) for one in assignments}) > 1


def test_worlds_say_what_a_model_has_seen(context):
    one = assign(context, forget_set_of(context))[3]
    worlds = one.worlds(SIZE + TESTS)
    assert set(np.flatnonzero(worlds == FORGOTTEN)) == set(one.forget)
    assert set(np.flatnonzero(worlds == IN)) == set(one.retain)
    assert np.all(worlds[SIZE:] == OUT)


def test_a_share_that_a_model_cannot_give_is_refused(context, place):
    built = experiment.build(config(place, audit={"models": MODELS, "share": 0.99}))
    with pytest.raises(InvalidInputError, match=r"audit\.share"):
        assign(dataclasses.replace(context, run=built), forget_set_of(context))


# What is made, and what is reused


def test_workers_make_the_same(place, done, tmp_path):
    folder = shutil.copytree(done[0], tmp_path / "run")
    gone = files.audited_answers("*", "*"), files.audit("*"), files.audit_arrays("*")
    with WorkDirectory(folder) as work:
        work.delete(*gone)
    assert without_times(folder) != without_times(done[0])
    run(place, folder, engines.Here())
    assert without_times(folder) == without_times(done[0])


def test_an_audit_says_how_many_models_it_made(done):
    assert done[1] == {
        "trained": {
            "original models": SEEDS,
            "bank": MODELS,
            "oracles": 2 * SEEDS,
            "oracles of the bank": MODELS,
            "unlearned": 2 * SEEDS,
            "unlearned from the bank": 2 * MODELS,
        },
        "reused": dict.fromkeys(done[1]["trained"], 0),
    }


def test_one_more_method_reuses_every_model(place, done):
    folder, first = done
    before = {path: path.read_bytes() for path in folder.rglob("audit/models/*/*.npz")}
    more = {**METHODS, "longer": vanilla({**FINETUNE, "epochs": 2})}
    found = run(place, folder, methods=more)
    assert found["reused"] == first["reused"]
    more_models = {"unlearned": SEEDS, "unlearned from the bank": MODELS}
    for kind, count in first["trained"].items():
        assert found["trained"][kind] == count + more_models.get(kind, 0)
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / "audit/longer.json").exists()


def test_an_audit_that_is_complete_makes_nothing(place, done, monkeypatch):
    def nothing(works, *_, **__):
        assert not list(works)
        return iter(())

    monkeypatch.setattr("rumjax.ensemble.run", nothing)
    monkeypatch.setattr("rumjax.audits.audit", lambda *_, **__: pytest.fail("something is judged"))
    run(place, done[0])  # the test before may have left another method
    before = contents(done[0])
    run(place, done[0])
    assert contents(done[0]) == before


def test_models_that_lack_a_checkpoint_are_trained_again_as_they_were(place, tmp_path):
    audited = config(place, forget={"by": "memorization", "size": 10})
    scored = {key: each for key, each in audited.items() if key != "audit"}
    kept = []
    with WorkDirectory(tmp_path / "run") as work:
        for each in (scored, audited):
            jobs.make(bank_stage.batch(context_of(experiment.build(each), work, QUIET)))
            rows = bank.ModelBank.open(work).rows()
            kept.append([row.margins for row in rows])
            assert work.has_model("bank_00000") == ("audit" in each)
    np.testing.assert_array_equal(*kept)


def test_shares_train_the_bank_for_an_audit_that_came_later(place, tmp_path):
    audited = config(place, forget={"by": "memorization", "size": 10})
    scored = {key: section for key, section in audited.items() if key != "audit"}
    with WorkDirectory(tmp_path / "run") as work:
        context = context_of(experiment.build(scored), work, QUIET)
        assert bank_stage.is_needed(context)
        work.write_arrays("scores.npz", {"memorization": np.zeros(SIZE, np.float32)})
        assert not bank_stage.is_needed(context)
        for share in (1, 0):
            pipeline.train_share(experiment.build(audited), work, share, 2, console=QUIET)
            kept = [work.has_model(files.bank_model(model)) for model in range(MODELS)]
            assert kept == [share == 0 or model % 2 == 1 for model in range(MODELS)]


# What is found


def test_an_unlearned_model_of_the_bank_is_what_its_own_run_gives(context, done):
    assignment = assign(context, forget_set_of(context))[5]
    method = next(method for method in context.case.methods if method.name == "fine")
    steps = steps_for(context, method, {}, assignment)
    key = jax.random.fold_in(stage_key(context.run.config.bank.seed, "audit/fine"), 5)
    after = unlearn(key, steps, load_of_bank(context, 5), context.data)
    answers = reader(context.run.model)(after, context.data)
    kept = context.place.read_arrays(files.audited_answers("fine", 5))["margins"]
    np.testing.assert_allclose(kept, answers.margins, rtol=2e-3, atol=2e-3)


def test_original_models_are_the_banks_own(context):
    forget_set = forget_set_of(context)
    populations = Populations(context, forget_set, assign(context, forget_set))
    original, shadows = populations.of_bank("original"), populations.shadows
    np.testing.assert_array_equal(original.margins, shadows.margins)
    assert np.all((original.worlds == OUT) == (shadows.worlds == OUT))
    assert np.all((original.worlds == FORGOTTEN) <= (shadows.worlds == IN))


def test_every_method_and_both_calibrations_have_findings(context):
    for name in ("retrain", "original", "fine", "refined"):
        found = context.place.read_json(f"audit/{name}.json")
        seen = {each["audit"] for each in found["findings"]}
        assert seen >= {"u_lira", "lira", "rmia", "ruli_privacy", "klom", "klom_corrected"}
        assert seen >= {"challenge"} | ({"ruli_efficacy"} if name != "retrain" else set())
        assert all(np.isfinite(each["value"]) for each in found["findings"])
        arrays = context.place.read_arrays(f"audit/{name}.npz")
        assert list(arrays["examples"]) == list(forget_set_of(context).forget)
        assert len(arrays["u_lira_per_example"]) == len(arrays["klom"]) == 30
        assert np.isfinite(arrays["klom"]).all()


def test_rows_hold_the_measures_of_populations(context):
    row = context.place.read_json("rows/fine_seed1.json")["row"]
    assert 0 <= row["zrf"] <= 1
    assert 0 <= row["js_oracle"] <= np.log(2)
    assert 0 <= row["probe_auc"] <= 1
    assert row["relearn_epochs"] in range(12)
    oracle = context.place.read_json("rows/retrain_reference_seed1.json")["row"]
    assert (oracle["js_oracle"], oracle["activation_distance"], oracle["probe_gap"]) == (0, 0, 0)


def test_models_that_diverged_are_left_out():
    margins = np.array([[0.0, 1], [np.nan, 1], [2, 3]])
    found, fine = without_diverged(audits.Population(margins, np.zeros((3, 2), np.int8)))
    assert fine.tolist() == [0, 2]
    np.testing.assert_array_equal(found.margins, margins[[0, 2]])


def test_retrained_models_are_held_against_the_other_half_of_them():
    random = np.random.default_rng(0)
    worlds = np.stack([random.permutation(np.arange(120) % 3) for _ in range(30)], axis=1)
    retrained = audits.Population(random.normal(size=(120, 30)), worlds.astype(np.int8))
    found = with_halves(audits.audit(retrained, draws=5), retrained)
    assert found.value("ruli_efficacy", "auc") == pytest.approx(0.5, abs=0.06)
    assert "ruli_efficacy" in found.curves
    # Against themselves they would seem to be told apart, the wrong way round.
    assert audits.audit(retrained, retrained, draws=5).value("ruli_efficacy", "auc") < 0.45


def test_too_few_retrained_models_are_not_halved():
    worlds = np.array([[0], [0], [0], [2], [2], [2]], np.int8)
    few = audits.Population(np.random.default_rng(0).normal(size=(6, 1)), worlds)
    found = audits.audit(few, draws=5)
    assert with_halves(found, few) is found


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audit": {"models": MODELS + 1}}, "more than bank.models"),
        ({"audit": {"models": 2}}, r"audit\.models"),
        ({"audit": {"models": MODELS, "share": 1}}, r"audit\.share"),
        ({"audit": {"models": MODELS, "methods": ("coarse",)}}, "coarse"),
        ({"audit": {"models": MODELS, "targets": 3}}, "targets"),
        ({"seeds": 2}, "seeds"),
        ({"methods": {"by_class": rum_f(FINETUNE, refine="class")}}, "by_class"),
        ({"methods": {"retrain": vanilla(FINETUNE)}}, "retrain"),
    ],
)
def test_what_cannot_be_audited_is_refused(place, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        experiment.build(config(place, **changes))


def test_a_bank_with_a_model_that_diverged_is_audited_without_it(context, place, tmp_path):
    copy = shutil.copytree(context.work.path, tmp_path / "run")
    built = experiment.build(config(place))
    with WorkDirectory(copy) as work:
        work.write_json(files.bank_divergence(2), {"reason": "model 2 diverged"})
        own = next(context_of(built, work, QUIET).cases)
        assignments = assign(own, forget_set_of(own))
        assert [one.model for one in assignments] == [0, 1, *range(3, MODELS)]

        # No model but the diverged one is left after a method: nothing can be found out about it.
        for name in work.names("audit/models/fine/*") + work.names("margins/fine_*"):
            work.write_arrays(name, to_arrays(lost(SIZE + TESTS), seconds=1.0))
        populations = Populations(own, forget_set_of(own), assignments)
        assert len(populations.shadows.margins) == MODELS - 1
        assert [one.findings for one in populations.audit("fine")] == [(), ()]
