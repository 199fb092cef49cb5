"""A run from images to the report: read this first.

    images ─► original θo ─► scores ─► forget set S ─► oracle θr ─► unlearned θu ─► report

A run can be killed at any moment. Every stage looks first for what it has already made; a piece is
a model, a row of the bank, or a row of the results, and is written whole or not at all.
"""

import dataclasses
import functools
import platform
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

import rumjax
from rumjax.lab import dependencies, files, jobs, report
from rumjax.lab.checking import check, check_searched
from rumjax.lab.context import Context, context_of
from rumjax.lab.crew import Crew
from rumjax.lab.engines import HERE, Engine
from rumjax.lab.experiment import Run
from rumjax.lab.report.reported import Reported, case_of, whole
from rumjax.lab.reserve import keep
from rumjax.lab.results import has_diverged
from rumjax.lab.stages import (
    audited_models,
    audits,
    bank,
    forget_sets,
    oracles,
    originals,
    scores,
    tuning,
    unlearning,
)
from rumjax.lab.workdir import WorkDirectory


def run_experiment(
    run: Run,
    work: WorkDirectory,
    *,
    console: Console | None = None,
    recompute: Sequence[str] = (),
    engine: Engine = HERE,
    figures: bool = True,
) -> list[dict[str, Any]]:
    """Makes everything from images to the report; returns the rows of `results.csv` of all cases.

    Args:
      run: from `rumjax.lab.experiment.build`.
      work: the run's directory; what is already in it is not made again.
      console: where progress is shown.
      recompute: stages to make anew, with those after them; see `dependencies.claim`.
      engine: who makes the models: this process, or the workers of any executor.
      figures: whether the report has figures.

    Raises:
      RumjaxError: says what went wrong and what to do about it.
    """
    # Claim the directory for this configuration.
    context = open_context(run, work, console or Console(), recompute, engine)

    # Say how many models the audits need, if there are any, before hours are spent on them.
    for case in context.cases:
        audited_models.announce(case)

    # Train the original model θo of every seed, and the bank of models on random subsets where
    # scores or audits need it.
    jobs.make(originals.batch(context), bank.batch(context))
    bank.check(context)

    # Score how memorized the examples are.
    jobs.make(scores.batch(context))
    example_scores = scores.read(context)

    rows: list[dict[str, Any]] = []
    cases: list[Reported] = []
    pages = report.Attempts(context.console)
    for case in context.cases:
        # Choose the forget set S, and check that every method suits it.
        jobs.make(forget_sets.batch(case))
        for method in case.case.methods:
            unlearning.check_method(case, method, example_scores, forget_sets.read(case))
        audited_models.announce(case)

        # Take over the settings that tuning finds best, if they are to be adopted.
        case = tuning.adopt(case, figures=figures)

        # Retrain models without S: the oracles θr that all others are compared with. Unlearn S by
        # every method on every seed, and from models of the bank where audits need that.
        references, teachers = oracles.batch(case, "reference"), oracles.teachers(case)
        jobs.make(
            references,
            teachers,
            oracles.batch(case, "second", after=[references]),
            unlearning.batch(case, after=[references, teachers]),
            audited_models.batch(case, after=[teachers]),
        )

        # Audit the unlearned models one example at a time, if audits are asked for.
        audited_models.count(case)
        jobs.make(audits.batch(case))

        # Write the report of the case.
        diverged = len(work.names(files.bank_divergence("[0-9]*")))
        reported = case_of(run, case.case, diverged)
        arguments = case.place, reported, case.console
        if reported.audit is not None:
            write_audit = functools.partial(report.write_audit, *arguments, figures=figures)
            pages.make(f"the page on audits of {reported.name}", write_audit)
        write = functools.partial(report.write, *arguments, figures=figures)
        rows += pages.make(f"the report of {reported.name}", write) or []
        cases.append(reported)

    # Write the page that compares the cases, if the run is a study.
    if run.config.study is not None:
        write_study = functools.partial(
            report.write_study, work, whole(run), cases, context.console, figures=figures
        )
        pages.make(f"the page of {run.name}", write_study)

    # A page that could not be made is an error, once all others are.
    pages.finish()
    return rows


def diverged_models(run: Run, work: WorkDirectory) -> list[str]:
    """Lists the models of a run that diverged: those of the bank, then methods by case and seed."""
    notes = work.names(files.bank_divergence("[0-9]*"))
    models = [f"model {files.number_of(note)} of the bank" for note in notes]
    for case in run.cases:
        place = work.below(case.folder) if case.folder else work
        where = f"{case.name}: " if case.folder else ""
        for name in tuning.searched_methods(case, run.config) if run.config.adopts else ():
            tuned = place.read_json(files.tuned(name))
            if tuned is not None and tuned["score"] is None:
                models.append(f"{where}all settings that were tried of {name}")
        models += [
            f"{where}{method.name} on seed {seed}"
            for method in case.methods
            for seed in run.seeds
            if place.has(files.row(method.name, seed)) and has_diverged(place, method.name, seed)
        ]
    return models


def train_share(
    run: Run, work: WorkDirectory, index: int, count: int, *, console: Console | None = None
) -> None:
    """Trains the bank's models index, index + count and so on, and nothing else.

    So jobs that share only a directory train a bank together. A run in the same directory makes
    what they have left out.
    """
    context = open_context(run, work, console or Console())
    batch = bank.batch(context)
    names = [model for model in batch.names if model % count == index]
    jobs.make(dataclasses.replace(batch, names=names, total=len(names)))


def tune_experiment(
    run: Run,
    work: WorkDirectory,
    *,
    console: Console | None = None,
    only: Sequence[str] = (),
    engine: Engine = HERE,
    figures: bool = True,
) -> dict[str, dict[str, Any]]:
    """Searches what the section `tuning` says, for every case that does not go on from another.

    Returns:
      The best options by case and method.

    Raises:
      RumjaxError: says what went wrong and what to do about it.
    """
    check_searched(run, only)
    context = open_context(run, work, console or Console(), engine=engine)
    jobs.make(originals.batch(context), bank.batch(context))
    bank.check(context)
    jobs.make(scores.batch(context))
    best = {}
    for case in context.cases:
        if case.before is None:
            jobs.make(forget_sets.batch(case))
            best[case.case.name] = tuning.tune(case, only, figures=figures)
    return best


def open_context(
    run: Run,
    work: WorkDirectory,
    console: Console,
    recompute: Sequence[str] = (),
    engine: Engine = HERE,
) -> Context:
    """Checks a run, claims the directory for it, and finds out who is to make its models."""
    check(run)
    dependencies.claim(work, run, recompute)
    if run.reserve is not None:
        keep(work, run.reserve)
    work.write_json(files.CONFIG, run.config.written)
    crew = None if engine is HERE else Crew(engine, run, work, console)
    work.write_json(files.ENVIRONMENT, environment(crew))
    return context_of(run, work, console, crew)


def environment(crew: Crew | None) -> dict[str, Any]:
    """Returns versions, and the devices of this process or of a worker."""
    if crew is None:
        here = jax.local_devices()
        devices = [f"{device.platform}: {device.device_kind}" for device in here]
    else:
        devices = list(crew.devices)
    return {
        "rumjax": rumjax.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "devices": devices,
    }
