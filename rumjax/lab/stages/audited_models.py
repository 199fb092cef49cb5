"""The many unlearned models that audits need, made of the bank's models.

Each model of the bank saw a random part of D, and is asked to forget a random part of those
examples of S that it saw. So every example of S is forgotten by some models, kept by others, and
was never seen by the rest.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rumjax.audits import FORGOTTEN, IN, OUT
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import bank, files, making, progress
from rumjax.lab.answers import lost, reader, to_arrays
from rumjax.lab.bank import ModelBank
from rumjax.lab.building import steps_on
from rumjax.lab.context import CaseContext, load_of_bank, stage_key
from rumjax.lab.dependencies import bank_header
from rumjax.lab.informing import Informant
from rumjax.lab.jobs import Batch
from rumjax.lab.making import Job
from rumjax.lab.methods import Method
from rumjax.lab.sections import Audit
from rumjax.lab.stages import forget_sets, scores
from rumjax.lab.stages.single_models import is_measured
from rumjax.types import Scores, Task, subset
from rumjax.unlearn import Step

GAUGED_ROWS = 16
"""Models of the bank by whose seconds the time of an audit is estimated."""


def audit_section(context: CaseContext) -> Audit:
    """Returns the section `audit`, in a run that has one."""
    section = context.run.config.audit
    assert section is not None
    return section


def audited_methods(context: CaseContext) -> list[Method]:
    """Returns the methods that are audited.

    The one that does nothing always is, to show what an audit can see.
    """
    names = audit_section(context).methods
    return [
        method
        for method in context.case.methods
        if names is None or method.name in (files.ORIGINAL, *names)
    ]


def made_methods(context: CaseContext) -> list[Method]:
    """Returns the audited methods that make models: all but the one that does nothing."""
    return [method for method in audited_methods(context) if method.name != files.ORIGINAL]


# The models of the bank, and what they are asked to forget


class Assignment(NamedTuple):
    """The task of one model of the bank: what it saw, and what it is to forget."""

    model: int
    seen: np.ndarray
    """int32[n], what it was trained on"""
    forget: np.ndarray
    """int32[f], what it is asked to forget; the same number for all models"""

    @property
    def retain(self) -> np.ndarray:
        """The examples that it keeps, int32[n − f]."""
        return np.setdiff1d(self.seen, self.forget)

    def worlds(self, examples: int) -> np.ndarray:
        """Returns what the model has seen of D and then T, int8[examples]."""
        worlds = np.full(examples, OUT, np.int8)
        worlds[self.seen] = IN
        worlds[self.forget] = FORGOTTEN
        return worlds


def sound_models(context: CaseContext) -> list[int]:
    """Returns the models of the bank that are audited: all that are to be, and did not diverge."""
    diverged = ModelBank(context.work, bank_header(context.run)).diverged()
    return [model for model in range(audit_section(context).models) if model not in diverged]


def assign(context: CaseContext, forget_set: ForgetSet) -> list[Assignment]:
    """Assigns to each model of the bank some of the examples of S that it saw, to be forgotten.

    They depend on the bank's seed, on S and on the model's number alone, so that an audit can be
    extended to more models. Models that diverged are left out.

    Raises:
      InvalidInputError: a model saw fewer of them than it is to forget.
    """
    audit, options = audit_section(context), context.run.config.bank
    models = ModelBank(context.work, bank_header(context.run))
    count = round(audit.share * options.fraction * len(forget_set.forget))
    assignments = []
    for model in sound_models(context):
        seen = models.subset(model)
        candidates = np.intersect1d(seen, forget_set.forget)
        if not 0 < count <= len(candidates):
            raise InvalidInputError(
                f"audit.share: each model of the bank is to forget {count} of the "
                f"{len(forget_set.forget)} examples of S, but model {model} saw "
                f"{len(candidates)}; choose another share, or a larger forget set"
            )
        random = np.random.default_rng((options.seed, model, 1))
        chosen = np.sort(random.choice(candidates, count, replace=False)).astype(np.int32)
        assignments.append(Assignment(model, seen, chosen))
    return assignments


def steps_for(
    context: CaseContext, method: Method, scores: Mapping[str, Scores], assignment: Assignment
) -> tuple[Step, ...]:
    """Returns a method's steps on what a model of the bank is asked to forget."""
    forget, retain = assignment.forget, assignment.retain
    return steps_on(method, forget, retain, scores, context.labels, assignment.model)


# Making them


def batch(context: CaseContext, *, after: Sequence[Batch] = ()) -> Batch:
    """Returns what lacks of the models of a case's audit: pairs of a method and a model.

    Args:
      context: of a case, with the settings that its methods are to have.
      after: the batches that have to be made before: teachers.
    """
    missing: list[tuple[str, int]] = []
    total = 0
    if context.run.config.audit is not None:
        epochs = {method.name: method.epochs for method in made_methods(context)}
        models = sound_models(context)
        for name, each in {files.RETRAIN: context.run.recipe.epochs, **epochs}.items():
            lacking = [
                (name, model)
                for model in models
                if not context.place.has(files.audited_answers(name, model))
            ]
            missing += lacking
            total += each * len(lacking)
    return Batch(
        stage="audited_models",
        context=context,
        names=missing,
        title="Audited models",
        total=total,
        after=after,
    )


def make(context: CaseContext, names: Sequence[tuple[str, int]], advance: progress.Advance) -> None:
    """Makes models of the bank anew by retraining, or unlearns them by methods.

    Their answers go into a file each, whole or absent. A model that diverges has answers that are
    not finite, and audits leave it out.
    """
    # Retraining, and every method but the one that does nothing, has steps for each model.
    run, place = context.run, context.place
    steps: dict[str, Callable[[Assignment], tuple[Step, ...]]] = {
        files.RETRAIN: functools.partial(retraining_steps, context)
    }
    example_scores = scores.read(context)
    for method in made_methods(context):
        steps[method.name] = functools.partial(steps_for, context, method, example_scores)
    assigned = {one.model: one for one in assign(context, forget_sets.read(context))}

    # Make them, a method after the other.
    read, informant = reader(run.model), Informant(context)
    for name, steps_of in steps.items():
        mine = [assigned[model] for method, model in names if method == name]
        jobs = jobs_of(context, name, steps_of, mine, informant)
        for made in making.make(context, jobs, advance, name, read=read, diverging="noted"):
            answers = made.model
            if made.diverged is not None:
                context.console.print(f"{made.diverged} Audits leave it out.", markup=False)
                answers = lost(len(context.data.labels))._replace(correct=answers.correct)
            arrays = to_arrays(answers, seconds=made.times["seconds"])
            place.write_arrays(files.audited_answers(name, made.job.seed), arrays)


def retraining_steps(context: CaseContext, assignment: Assignment) -> tuple[Step, ...]:
    """Returns the one step that retrains a model of the bank without what it is to forget."""
    task = Task(subset(assignment.forget), subset(assignment.retain))
    return (Step(files.RETRAIN, context.run.recipe, task),)


def jobs_of(
    context: CaseContext,
    name: str,
    steps: Callable[[Assignment], tuple[Step, ...]],
    assignments: Iterable[Assignment],
    informant: Informant,
) -> list[Job]:
    """Returns the jobs of a method on models of the bank; retraining starts from scratch."""
    key = stage_key(context.run.config.bank.seed, f"audit/{name}")
    jobs = []
    for assignment in assignments:
        model = assignment.model
        start = functools.partial(load_of_bank, context, model)
        jobs.append(
            Job(
                seed=model,
                key=jax.random.fold_in(key, model),
                steps=informant.informed(steps(assignment), start, model, of_bank=model),
                variables=None if name == files.RETRAIN else start,
                kind="model",
            )
        )
    return jobs


# What they cost


class Count(NamedTuple):
    """Models of one kind that an audit needs."""

    missing: int
    """Those that are still to be made."""
    there: int
    passes: float
    """Passes over D that making the missing ones takes."""


def census(context: CaseContext) -> dict[str, Count]:
    """Counts the models of a case's audit by kind."""
    run, work, place = context.run, context.work, context.place
    models, seeds = sound_models(context), run.seeds
    rows = ModelBank(work, bank_header(run))
    lacking = set(bank.lacking(rows, audit_section(context).models, checkpoints=True))
    methods = made_methods(context)

    def count_of(there: Sequence[bool], passes: Sequence[float]) -> Count:
        missing = [cost for is_there, cost in zip(there, passes, strict=True) if not is_there]
        return Count(len(missing), len(there) - len(missing), sum(missing))

    # A model of the bank takes its fraction of a pass for every epoch.
    epochs, fraction = run.recipe.epochs, run.config.bank.fraction
    whole, part = [float(epochs)] * len(seeds), [epochs * fraction] * len(models)
    return {
        "original models": count_of(
            [work.has_model(files.original(seed)) for seed in seeds], whole
        ),
        "bank": count_of([model not in lacking for model in models], part),
        "oracles": count_of(
            [is_measured(context, name, s) for name in files.ORACLES.values() for s in seeds],
            whole * len(files.ORACLES),
        ),
        "oracles of the bank": count_of(
            [place.has(files.audited_answers(files.RETRAIN, model)) for model in models], part
        ),
        "unlearned": count_of(
            [is_measured(context, method.name, seed) for method in methods for seed in seeds],
            [float(method.epochs) for method in methods for _ in seeds],
        ),
        "unlearned from the bank": count_of(
            [
                place.has(files.audited_answers(method.name, model))
                for method in methods
                for model in models
            ],
            [method.epochs * fraction for method in methods for _ in models],
        ),
    }


def announce(context: CaseContext) -> None:
    """Prints what is still to be made for a case's audit, if any, and how long that takes.

    The time is known once the bank has models to go by. What is there before the first audit of
    this directory begins is written down as reused.
    """
    if context.run.config.audit is None:
        return

    # Say which models are missing.
    counts = census(context)
    name = f" of {context.case.name}" if context.case.folder else ""
    missing = [f"{count.missing} {kind}" for kind, count in counts.items() if count.missing]
    there = sum(count.there for count in counts.values())
    line = (
        f"Audit{name}: {', '.join(missing) or 'no models'} to be made, {there} are there already."
    )

    # Estimate the time by that of models of the bank.
    rows = ModelBank(context.work, bank_header(context.run))
    done = rows.done()
    if missing and done:
        seconds = np.median([row.seconds for row in rows.rows(done[:GAUGED_ROWS])])
        per_pass = seconds / (context.run.recipe.epochs * context.run.config.bank.fraction)
        passes = sum(count.passes for count in counts.values())
        line += f" That takes about {progress.duration(passes * per_pass)}, at the bank's speed."
    context.console.print(line, markup=False, highlight=False)

    # Whatever an earlier start made was made for the audit too.
    if not context.place.has(files.AUDITED_MODELS):
        write_counts(context, counts, {kind: count.there for kind, count in counts.items()})


def count(context: CaseContext) -> None:
    """Writes down anew how many models the audit has made, if there is one."""
    if context.run.config.audit is not None:
        write_counts(context, census(context))


def write_counts(
    context: CaseContext, counts: Mapping[str, Count], reused: Mapping[str, int] | None = None
) -> None:
    """Writes how many models the audit has trained or unlearned so far, and how many it reused.

    Args:
      context: of a case.
      counts: by `census`, as things are now.
      reused: those that were there before the first audit; as written down earlier by default.
    """
    if reused is None:
        reused = context.place.read_json(files.AUDITED_MODELS, missing={}).get("reused", {})
    trained = {kind: max(0, count.there - reused.get(kind, 0)) for kind, count in counts.items()}
    context.place.write_json(files.AUDITED_MODELS, {"trained": trained, "reused": dict(reused)})
