"""Facts that a run finds out for unlearners: of V, of teachers, of the bank."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rumjax.errors import InvalidInputError
from rumjax.lab import checking, crew, dependencies, experiment, files, jobs, pipeline, planning
from rumjax.lab.answers import Answers, read_answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import context_of, load_oracle, load_original, load_teacher
from rumjax.lab.informing import Informant
from rumjax.lab.making import steps_of
from rumjax.lab.methods import rum_f, vanilla
from rumjax.lab.results import read_forget_set, read_row
from rumjax.lab.stages import audited_models, forget_sets, oracles, originals, unlearning
from rumjax.lab.stages import bank as bank_stage
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.models import predict
from rumjax.scores import removal_effect
from rumjax.types import Array, fact, record, task
from rumjax.unlearn import chain, finetune
from rumjax.unlearn.finetuning import Finetune
from tests.tiny import SIZE, TESTS

ORACLES = {"algorithm": "oracle_matching", "epochs": 2, "learning_rate": 0.01}
DATAMODEL = {"algorithm": "datamodel_matching", "epochs": 1, "learning_rate": 0.01}
METHODS = {
    "matched": vanilla(ORACLES),
    "predicted": rum_f(DATAMODEL, refine="random", parts=("one", "two")),
    "fine": vanilla({"algorithm": "finetune", "epochs": 1}),
}
MODELS, TEACHERS = 12, 2
QUIET = Console(quiet=True)


@record
class Curious(Finetune):
    """Asks all that is held out."""

    held_out_accuracy: Array | None = fact(about="accuracy on V")
    held_out_probabilities: Array | None = fact("K", "K", about="probabilities on V")
    reference_error: Array | None = fact(about="error on V")


def curious(model, **options):
    plain = finetune(model, epochs=1)
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    return Curious(**{**fields, **options})


def config(place, **sections):
    found = configuration(str(place / "tiny.py"))
    changed = {
        "model": {"name": "tests.lab.test_audits:Network"},
        "training": {**found["training"], "epochs": 1},
        "bank": {**found["bank"], "models": MODELS, "matching_oracles": TEACHERS},
        "forget": {"by": "random", "size": 24},
        "methods": METHODS,
    }
    return {**found, **changed, **sections}


@pytest.fixture(scope="module")
def done(place):
    """A run whose oracles and teachers are made, and its unlearned models, but not its report.

    Its bank is made up.
    """
    run, random = experiment.build(config(place)), np.random.default_rng(0)
    with WorkDirectory(place / "informed") as work:
        context = pipeline.open_context(run, work, QUIET)
        bank = ModelBank(work, dependencies.bank_header(run))
        for model in range(MODELS):
            drawn = random.normal(size=SIZE + TESTS)
            bank.write(model, Answers(drawn, drawn > 0), seconds=1.0)
        work.write_arrays(files.SCORES, {"memorization": np.zeros(SIZE)})
        (case,) = context.cases
        jobs.make(originals.batch(context), bank_stage.batch(context), forget_sets.batch(case))
        references, teachers = oracles.batch(case, "reference"), oracles.teachers(case)
        jobs.make(references, teachers)
        work.save_model(files.oracle("second", 0), load_oracle(case, 0))
        wanted = [("matched", 0), ("predicted", 0)]
        jobs.make(dataclasses.replace(unlearning.batch(case), names=wanted))
        yield case


def steps(context, name):
    (method,) = (method for method in context.case.methods if method.name == name)
    return steps_of(context, method, {}, read_forget_set(context.place), 0)


def told(context, name, who=0, **options):
    start = load_original(context, 0)
    return [
        step.unlearner
        for step in Informant(context).informed(steps(context, name), start, who, **options)
    ]


def logits(context, variables):
    images = context.run.data.train.images
    return np.asarray(predict(context.run.model, variables, images).logits)


def test_mistake_23_teachers_are_models_of_their_own_that_judge_nobody(done):
    teachers = [load_teacher(done, number) for number in range(TEACHERS)]
    models = [*teachers, load_oracle(done, 0), load_original(done, 0)]
    kernels = [np.asarray(jax.tree.leaves(model.params)[1]) for model in models]
    for position, kernel in enumerate(kernels):
        assert not any(np.allclose(kernel, other) for other in kernels[:position])
    assert not done.place.has_model(files.teacher(TEACHERS))
    assert not [name for name in done.place.names("rows/*") if "teacher" in name]
    assert not oracles.teachers(done).names

    # Whoever learns from them counts gradients of its own.
    row = read_row(done.place, "matched", 0)
    assert row["gradients"] == 2 * 4 * 24

    # What is matched is the mean of their logits, on D.
    (unlearner,) = told(done, "matched")
    expected = np.mean([logits(done, model) for model in teachers], axis=0)
    assert unlearner.oracle_logits.shape == (SIZE + TESTS, 3)
    np.testing.assert_allclose(unlearner.oracle_logits[:SIZE], expected, atol=1e-5)
    assert not unlearner.oracle_logits[SIZE:].any()


def test_no_judge_has_any_part_in_what_is_matched(done, tmp_path):
    folder = shutil.copytree(done.work.path, tmp_path / "other")
    (folder / ".lock").unlink(missing_ok=True)
    with WorkDirectory(folder) as work:
        other = next(context_of(done.run, work, QUIET).cases)
        for which in ("reference", "second"):
            strange = jax.tree.map(lambda leaf: leaf + 1, load_oracle(done, 0))
            work.save_model(files.oracle(which, 0), strange)
        made = []
        for context in (done, other):
            stage = unlearning._Stage(context, {}, read_forget_set(context.place))
            made.append(
                [
                    job
                    for method in context.case.methods
                    for job in stage.jobs(method, [0])
                    if method.name in ("matched", "predicted")
                ]
            )
        for ours, theirs in zip(*made, strict=True):
            assert jax.tree.structure(ours.steps) == jax.tree.structure(theirs.steps)
            for one, same in zip(
                jax.tree.leaves((ours.steps, ours.variables)),
                jax.tree.leaves((theirs.steps, theirs.variables)),
                strict=True,
            ):
                assert np.asarray(one).tobytes() == np.asarray(same).tobytes()


def test_a_datamodel_predicts_for_each_step_what_is_gone_until_then(done):
    informant, start = Informant(done), load_original(done, 0)
    first, second = steps(done, "predicted")
    parts = [np.asarray(step.task.forget.indices)[:12] for step in (first, second)]
    rows = informant.bank()
    margins = read_answers(done.run.model, start, done.data).margins[:SIZE]
    gone = np.empty(0, np.int32)
    for unlearner, part in zip(told(done, "predicted"), parts, strict=True):
        gone = np.sort(np.concatenate([gone, part]))
        kept = np.setdiff1d(np.arange(SIZE), gone)
        expected = np.array(margins)
        for some in (gone, kept):
            outputs = rows.margins[:, some]
            effect = removal_effect(rows.member, outputs, gone, features=gone, own=some)
            expected[some] += effect.values
        assert not unlearner.datamodel_margins[SIZE:].any()
        np.testing.assert_allclose(unlearner.datamodel_margins[:SIZE], expected, rtol=1e-5)


def test_the_datamodel_of_a_model_of_the_bank_is_of_the_others(done, monkeypatch):
    before = told(done, "predicted", of_bank=3)
    for model, same in ((3, True), (4, False)):
        stack = Informant(done).bank()
        stack.margins[model] += np.random.default_rng(0).normal(size=SIZE)
        monkeypatch.setattr(Informant, "_bank", lambda _, stack=stack: stack)
        after = told(done, "predicted", of_bank=3)
        monkeypatch.undo()
        pairs = zip(before, after, strict=True)
        found = [np.array_equal(a.datamodel_margins, b.datamodel_margins) for a, b in pairs]
        assert found == [same, same]


def test_models_of_the_bank_are_told_the_same_way(done):
    class Recorder:
        def informed(self, steps, start, who, *, of_bank):
            return steps, who, of_bank, start.args[1]

    assignment = audited_models.Assignment(5, np.arange(9), np.arange(2))
    (job,) = audited_models.jobs_of(
        done, "matched", lambda one: one.model, [assignment], Recorder()
    )
    assert job.steps == (5, 5, 5, 5)


def test_held_out_facts_are_those_of_the_start_on_the_validation_images(done):
    start, held = load_original(done, 0), done.run.data.validation
    forget = np.array([0, 1, 4])
    plan = chain(task(forget, SIZE), curious(done.run.model, reference_error=jnp.float32(0.5)))
    plan += chain(task(forget, SIZE), curious(done.run.model))
    given, found = (step.unlearner for step in Informant(done).informed(plan, start, 0))
    outputs = np.asarray(predict(done.run.model, start, held.images).logits)
    wrong = outputs.argmax(1) != held.labels
    shares = np.asarray(jax.nn.softmax(outputs))
    by_class = [wrong[held.labels == label].mean() for label in range(3)]
    assert float(given.reference_error) == 0.5
    assert found.held_out_accuracy == pytest.approx(1 - wrong.mean())
    for label in range(3):
        expected = shares[held.labels == label].mean(0)
        np.testing.assert_allclose(found.held_out_probabilities[label], expected, rtol=1e-5)
    assert found.reference_error == pytest.approx(np.mean(np.take(by_class, done.labels[forget])))


def test_nothing_is_loaded_for_unlearners_that_ask_nothing(done, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something is loaded")

    monkeypatch.setattr("rumjax.lab.workdir.WorkDirectory.load_model", refuse)
    plan = steps(done, "fine")
    assert Informant(done).informed(plan, refuse, 0) == plan


def test_methods_that_ask_for_held_out_images_are_refused_without_any(place, done):
    case = done.case
    method = dataclasses.replace(case.methods[1], select={"all": curious(done.run.model)})
    case = dataclasses.replace(case, methods=(method,))
    bare = done.run.data._replace(validation=jax.tree.map(lambda x: x[:0], done.run.data.test))
    run = dataclasses.replace(done.run, cases=(case,), data=bare)
    with pytest.raises(InvalidInputError, match="matched, which learns from it, needs validation"):
        checking.check_validation(run)


def test_stages_depend_on_what_their_methods_are_told(place, done):
    before = dependencies.configurations(done.run)

    def changed(**options):
        bank = {**config(place)["bank"], **options}
        after = dependencies.configurations(experiment.build(config(place, bank=bank)))
        return {stage for stage in before if before[stage] != after[stage]}

    assert changed(matching_oracles=5) == {"unlearn/matched"}
    scored = changed(models=13) - changed(matching_oracles=5)
    assert "unlearn/predicted" in scored


def test_a_plan_counts_teachers_and_knows_shapes(done):
    by_name = {group.name: group for group in planning.groups(done.run)}
    assert by_name["oracle to match"].models == TEACHERS
    shown = SIZE + TESTS
    assert by_name["matched"].steps[0].unlearner.oracle_logits.shape == (shown, 3)
    assert by_name["predicted"].steps[1].unlearner.datamodel_margins.shape == (shown,)
    assert {use.name for one in planning.programs(done.run) for use in one.uses} >= {"matched"}


def test_every_seed_waits_for_all_teachers(done, monkeypatch):
    monkeypatch.setattr(WorkDirectory, "has_model", lambda *_: False)
    missing = oracles.teachers(done)
    assert len(missing.names) == TEACHERS
    queue = crew.Queue(missing, devices=1)
    assert queue.holds(("matched", 0))
    assert queue.holds(("matched", 7))
    assert queue.take(workers=1) == tuple(missing.names[:1])
    assert queue.holds(("matched", 0))
