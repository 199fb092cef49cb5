"""The stages of a run, each from and to the work directory: the file to read first.

    images ─► original θo ─► scores ─► forget set S ─► oracle θr ─► unlearned θu ─► report

A run can be killed at any moment. Every stage looks first for what it has already made; a piece is
a model, a chunk of the bank, or a row of the results, and is written whole or not at all.
"""

import dataclasses
import functools
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

import rumjax
from rumjax import forget_sets, metrics, scores
from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab import auditing, dependencies, progress, report, tuning
from rumjax.lab.cluster import ALONE, Process
from rumjax.lab.context import (
    Context,
    Job,
    epochs_of,
    first_embeddings,
    look,
    make,
    measure,
    measure_oracle,
    on_device,
    require_start,
    stage_key,
    steps_of,
)
from rumjax.lab.experiment import Experiment, forget_parts
from rumjax.lab.methods import SCORES, Method
from rumjax.lab.observing import Observer, is_measured
from rumjax.lab.scoring import rescored, score_examples, train_bank, train_originals, watched
from rumjax.lab.workdir import WorkDirectory
from rumjax.models import predict, require_embeddings
from rumjax.refine import Parts
from rumjax.types import Scores, task
from rumjax.unlearn import chain

MMD_SAMPLES = 4000


def run_experiment(
    experiment: Experiment,
    work: WorkDirectory,
    *,
    console: Console | None = None,
    recompute: Sequence[str] = (),
    process: Process = ALONE,
) -> list[dict[str, Any]]:
    """Everything from images to the report; returns the rows of `results.csv` of all cases.

    Args:
      experiment: from `rumjax.lab.experiment.build`.
      work: the run's directory; what is already in it is not made again.
      console: where progress is shown.
      recompute: stages to make anew, with those after them; see `rumjax.lab.dependencies.claim`.
      process: the first of so many, if others train shares of the bank; see `train_share`.

    Raises:
      RumjaxError: with what went wrong and what to do about it.
    """
    context = open_context(experiment, work, console or Console(), recompute)
    audits = {
        case.experiment.folder: auditing.announce(case)
        for case in context.cases
        if "audit" in experiment.config
    }
    train_originals(context, watched(experiment))
    score = score_examples(context, process)
    rows: list[dict[str, Any]] = []
    done: list[Experiment] = []
    for case in context.cases:
        parts = choose_forget_set(case, score)
        for method in case.experiment.methods:  # finds mistakes before anything more is trained
            check_method(case, method, score, parts)
        if audits:
            auditing.announce(case)
        train_oracles(case, parts)
        case = adopt(case, score, parts)
        unlearn_all(case, score, parts)
        if "audit" in experiment.config:
            auditing.audit(case, score, parts, audits[case.experiment.folder], process)
            report.write_audit(case.place, case.experiment, case.console)
        rows += report.write(case.place, case.experiment, case.console)
        done.append(case.experiment)
    if "study" in experiment.config:
        report.write_study(work, experiment, done, context.console)
    return rows


def train_share(
    experiment: Experiment, work: WorkDirectory, process: Process, *, console: Console | None = None
) -> None:
    """What processes other than the first do for a run: train their share of its bank.

    Args:
      experiment: the same as the first process's.
      work: the run's directory, opened under a name of this process's own.
      process: which of how many processes this is.
      console: where progress is shown.

    Raises:
      RumjaxError: with what went wrong and what to do about it.
    """
    check(experiment)
    if experiment.trains_bank and not work.has("scores.npz"):
        train_bank(on_device(experiment, work, console or Console()), process)


def open_context(
    experiment: Experiment, work: WorkDirectory, console: Console, recompute: Sequence[str] = ()
) -> Context:
    """Claims the directory for this configuration and puts the images on the device."""
    check(experiment)
    dependencies.claim(work, experiment, recompute)
    work.write_json("config.json", experiment.config)
    work.write_json("environment.json", environment())
    return on_device(experiment, work, console)


def check(experiment: Experiment) -> None:
    """Finds out before anything is trained what would go wrong after hours of training.

    Raises:
      InvalidInputError: a model that does not fit the images, a bank too small to see every example
        and leave it out, a forget set that cannot be made of this data.
    """
    train = experiment.data.train
    images, size = train.images[:1], len(train.labels)
    like = jax.eval_shape(experiment.model.init, jax.random.key(0), images)
    outputs = jax.eval_shape(functools.partial(predict, experiment.model), like, images)
    if experiment.needs_bank:
        options = experiment.config["bank"]
        subsets = (
            scores.random_subset(options["seed"], model, size, options["fraction"])
            for model in range(options["models"])
        )
        seen = (np.bincount(subset, minlength=size).astype(bool) for subset in subsets)
        scores.memorization_of(scores.tally(((each, each) for each in seen), size))
    # Which examples are chosen depends on scores; whether there are enough does not.
    nothing = Scores(np.zeros(size, np.float32))

    def embeddings() -> np.ndarray:
        return np.zeros((size, require_embeddings(outputs).shape[1]), np.float32)

    for case in experiment.each:
        forget_parts(case, dict.fromkeys(SCORES, nothing), embeddings)


# Forget set


def choose_forget_set(context: Context, named: Mapping[str, Scores]) -> Parts:
    """S as named parts, from `forget_sets.npz`, where S itself and R are kept too."""
    work = context.place
    if work.has("forget_sets.npz"):
        found = work.read_arrays("forget_sets.npz")
    else:
        parts = forget_parts(context.experiment, named, lambda: first_embeddings(context))
        forget = forget_sets.union(parts, context.size)
        retain = np.setdiff1d(np.arange(context.size), forget).astype(np.int32)
        found = {"forget": forget, "retain": retain, **parts}
        work.write_arrays("forget_sets.npz", **found)
    parts = {name: part for name, part in found.items() if name not in ("forget", "retain")}
    if not work.has("forget_sets.json"):
        work.write_json("forget_sets.json", describe(context, named, found["forget"], parts))
    return parts


def describe(
    context: Context, named: Mapping[str, Scores], forget: np.ndarray, parts: Parts
) -> dict[str, dict[str, Any]]:
    """How hard S ("all") and its parts are: mean scores, and entanglement with the rest of D.

    Embeddings are those of the first seed's original model. MMD² is taken with γ by the median
    heuristic, and with at most `MMD_SAMPLES` random examples of the rest.
    """
    embeddings = first_embeddings(context)
    random = np.random.default_rng(0)
    found: dict[str, dict[str, Any]] = {}
    for name, part in {"all": forget, **parts}.items():
        rest = np.setdiff1d(np.arange(context.size), part)
        row = {key: float(score.values[part].mean()) for key, score in named.items()}
        if embeddings.shape[1]:
            sample = random.permutation(rest)[:MMD_SAMPLES]
            row["entanglement_score"] = scores.entanglement_score(embeddings, part, rest)
            row["mmd_squared"] = scores.mmd_squared(embeddings, part, sample, gamma="median")
        found[name] = {"size": len(part), **row}
    return found


# Oracles


def train_oracles(
    context: Context, parts: Parts, kinds: Sequence[str] = ("reference", "second")
) -> None:
    """Two independent oracles of every seed: the reference, and a second one to calibrate with."""
    experiment, work = context.experiment, context.place
    steps = chain(task(forget_sets.union(parts, context.size), context.size), experiment.recipe)
    # All references first: the second ones are held against them.
    jobs = [
        Job(seed, stage_key(seed, f"oracle_{which}"), steps, which=which)
        for which in kinds
        for seed in experiment.seeds
        if not (
            work.has_model(f"oracle_{which}_seed{seed}")
            and is_measured(context, f"retrain_{which}", seed)
        )
    ]
    observer = Observer(context, parts)
    with progress.stage(context.console, "Oracles", epochs_of(jobs), "epochs") as advance:
        for job, made in make(context, jobs, advance):
            work.save_model(f"oracle_{job.which}_seed{job.seed}", made.read)
            outputs = look(context, made.read)
            measured = measure(context, parts, job.seed, outputs)
            first = job.which == "reference"
            reference = measured if first else measure_oracle(context, parts, job.seed)
            row = metrics.compare(measured, reference) | made.times | {"rte": 1.0}
            labels = f"retrain_{job.which}", "retrain", job.which
            if "audit" in experiment.config:
                row |= observer.keep(labels[0], job.seed, made.read, outputs)
            write_row(work, *labels, job.seed, row, made.curve)


# Tuning


def adopt(context: Context, named: Mapping[str, Scores], parts: Parts) -> Context:
    """The context with the settings and selections that tuning finds, if they are to be adopted.

    A case that goes on from another keeps what was found for the first.
    """
    experiment = context.experiment
    if not experiment.config.get("tuning", {}).get("adopt"):
        return context
    first = context
    while first.before is not None:
        first = first.before
    found = tuned_options(first)
    if first is context and found.keys() != set(tuning.searched(experiment)):
        found = tune(context, named, parts)
    like = experiment.config["tuning"].get("like", {})

    def adopted(method: Method) -> Method:
        options = found.get(method.name, method.options)
        if method.name in like:
            options = tuning.taken_over(method, found[like[method.name]])
        return tuning.rebuilt(context, method, options["select"], options["order"])

    methods = tuple(adopted(method) for method in experiment.methods)
    return context._replace(experiment=dataclasses.replace(experiment, methods=methods))


def tuned_options(context: Context) -> dict[str, Any]:
    """The options that tuning has found for a case, by method."""
    names = tuning.searched(context.experiment)
    pieces = {name: context.place.read_json(f"tuning/{name}.json") for name in names}
    return {name: piece["options"] for name, piece in pieces.items() if piece is not None}


def tune(
    context: Context,
    named: Mapping[str, Scores],
    parts: Parts,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Searches what the section `tuning` says, and keeps what is found.

    `tuning.csv` lists all that was tried, `tuned_methods.py` holds the best as Python.

    Args:
      context: of a case.
      named: scores by name.
      parts: S as named parts.
      only: names of methods, if not all that are to be searched.

    Returns:
      The options of the best, by method.

    Raises:
      InvalidInputError: no section `tuning`, or a method for which it has nothing to search.
    """
    experiment, place = context.experiment, context.place
    options = experiment.config.get("tuning")
    if not options:
        raise InvalidInputError("the configuration has no section tuning")
    searched = tuning.searched(experiment)
    for name in only:
        check_choice("method to tune", name, searched)
    unreported = context._replace(
        experiment=dataclasses.replace(experiment, seeds=tuple(options["seeds"]))
    )
    train_originals(unreported)
    if options.get("criterion", "oracle") == "oracle":
        train_oracles(unreported, parts, ("reference",))
    trial = tuning.Trial(unreported, named, parts)
    wanted = [each for each in experiment.methods if each.name in (only or searched)]
    total = sum(searched[each.name] for each in wanted)
    with progress.stage(context.console, "Tuning", total, "settings") as advance:
        found = tuning.search(trial, wanted, advance)
    for name, (method, score) in found.items():
        place.write_json(f"tuning/{name}.json", {"options": method.options, "score": score})
    tried = [name for each in searched for name in place.names(f"tuning/{each}_{'?' * 12}.json")]
    rows = [place.read_json(name) for name in tried]
    place.write_text("tuning.csv", tuning.table(rows))
    place.write_text("tuned_methods.py", tuning.fragment([each for each, _ in found.values()]))
    report.write_tuning(place, rows)
    return {name: method.options for name, (method, _) in found.items()}


def tune_experiment(
    experiment: Experiment,
    work: WorkDirectory,
    *,
    console: Console | None = None,
    only: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """What `python -m rumjax.tune` does: `tune` of every case; its results by case and method.

    Raises:
      RumjaxError: with what went wrong and what to do about it.
    """
    context = open_context(experiment, work, console or Console())
    train_originals(context, watched(experiment))
    score = score_examples(context)
    return {
        case.experiment.name: tune(case, score, choose_forget_set(case, score), only)
        for case in context.cases
        if case.before is None
    }


# Unlearning


def unlearn_all(context: Context, named: Mapping[str, Scores], parts: Parts) -> None:
    """Every method on every seed, each judged against its seed's reference oracle.

    With settings that were found rather than chosen, which may suit one seed and not another, a
    model that diverges has a ToW of 0; otherwise it stops the run.
    """
    experiment, work = context.experiment, context.place
    missing = [
        (method, seed)
        for method in experiment.methods
        for seed in experiment.seeds
        if not (
            is_measured(context, method.name, seed)
            and (not experiment.goes_on or work.has_model(f"unlearned_{method.name}_seed{seed}"))
        )
    ]

    scoring = context.work.read_json("scores.json", missing={})

    def job(method: Method, seed: int) -> Job:
        start = require_start(context, method, seed)
        begin = time.perf_counter()
        scored = rescored(context, method, named, start, seed)
        if method.refine == "rescored":
            scoring["rescored"] = time.perf_counter() - begin
        steps = steps_of(context, method, scored, parts, seed)
        return Job(seed, stage_key(seed, f"unlearn/{method.name}"), steps, start)

    observer = Observer(context, parts)
    oracles = functools.cache(lambda seed: measure_oracle(context, parts, seed))
    diverging = "noted" if experiment.config.get("tuning", {}).get("adopt") else "stops"
    total = sum(method.epochs for method, _ in missing)
    with progress.stage(context.console, "Unlearning", total, "epochs") as advance:
        for method in experiment.methods:
            jobs = [job(each, seed) for each, seed in missing if each is method]
            name = f"{method.algorithm} {method.strategy}"
            for done, made in make(context, jobs, advance, name, diverging=diverging):
                row = work.read_json(f"rows/retrain_reference_seed{done.seed}.json")["row"]
                seconds = made.times["seconds"]
                scored = seconds + scoring.get(method.refine, 0.0)
                relative = {
                    "rte": seconds / row["seconds"],
                    "rte_with_scores": scored / row["seconds"],
                }
                if made.diverged is None:
                    outputs = look(context, made.read)
                    measured = measure(context, parts, done.seed, outputs)
                    found = metrics.compare(measured, oracles(done.seed))
                    if "audit" in experiment.config:
                        found |= observer.keep(method.name, done.seed, made.read, outputs)
                else:
                    context.console.print(f"{made.diverged} Its ToW counts as 0.", markup=False)
                    found = {"tow": 0.0, "tow_mia": 0.0, "diverged": 1.0}
                    if "audit" in experiment.config:
                        observer.lose(method.name, done.seed)
                found |= made.times | relative
                labels = method.name, method.algorithm, method.strategy
                if experiment.goes_on:
                    work.save_model(f"unlearned_{method.name}_seed{done.seed}", made.read)
                write_row(work, *labels, done.seed, found, made.curve)


def check_method(
    context: Context, method: Method, named: Mapping[str, Scores], parts: Parts
) -> None:
    """Raises `InvalidInputError` if a method's parts, order and selection do not fit the case."""
    zeros = Scores(np.zeros(context.size, np.float32))
    steps_of(context, method, {**named, "rescored": zeros}, parts, context.experiment.seeds[0])


# What the run leaves


def write_row(
    work: WorkDirectory,
    name: str,
    algorithm: str,
    strategy: str,
    seed: int,
    measured: Mapping[str, float],
    curve: Sequence[Mapping[str, Any]],
) -> None:
    """Keeps one line of the results, and the curve of the run that it is about."""
    row = {"method": algorithm, "strategy": strategy, "seed": seed, **measured}
    work.write_json(f"rows/{name}_seed{seed}.json", {"row": row, "curve": list(curve)})


def environment() -> dict[str, Any]:
    """What the run ran on."""
    devices = jax.local_devices()
    return {
        "rumjax": rumjax.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
    }
