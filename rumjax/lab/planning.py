"""Lists the programs of a run from shapes alone, and how many models go through each.

Scores are not known before a run, so parts of a forget set are of equal size, and a forget set by
examples or by a file has as many examples as are named.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax import ensemble, forget_sets
from rumjax.descent import Sgd
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files
from rumjax.lab.answers import keeper, reader
from rumjax.lab.building import steps_on
from rumjax.lab.experiment import Case, Run
from rumjax.lab.grids import settings
from rumjax.lab.informing import blank
from rumjax.lab.methods import SCORES, Method
from rumjax.lab.stages.forget_sets import choose_set
from rumjax.lab.stages.originals import watcher
from rumjax.lab.stages.tuning import searched_methods, with_setting
from rumjax.listings import read_listed
from rumjax.scores import GRADIENT_PROXIES
from rumjax.training import Recipe
from rumjax.types import Dataset, Scores, Task, subset, task
from rumjax.unlearn import Step, chain
from rumjax.unlearn.ascent import NegGrad, NegGradPlus
from rumjax.unlearn.distillation import Scrub
from rumjax.unlearn.finetuning import Finetune, L1Sparse
from rumjax.unlearn.matching import DatamodelMatching, Matching, OracleMatching
from rumjax.unlearn.newton import Influence
from rumjax.unlearn.nothing import Original
from rumjax.unlearn.relabelling import RandomLabel, SalUn

FORWARD = 1 / 3
"""What a forward pass takes of a step, which has a backward pass of twice as much besides."""


class Group(NamedTuple):
    """Models of a run that go through the same steps."""

    stage: str
    name: str
    models: int
    steps: Sequence[Step]
    """of one of them"""
    read: ensemble.Read = ensemble.nothing
    """what is read of each once it is made"""
    watch: ensemble.Read = ensemble.nothing
    """what is read of each after every epoch"""


class Use(NamedTuple):
    """Models of a stage that go through a program."""

    stage: str
    name: str
    models: int
    epochs: int
    batches: float | None
    """what each takes in all, in steps of training on one batch; None where that is not known"""
    batch_size: int


class Program(NamedTuple):
    """A program of the run, compiled once, and all that use it."""

    name: str
    phase: str
    """"start", "epoch", "read" or "watch" """
    step: Step
    """with room for the largest of its index sets"""
    read: ensemble.Read
    watch: ensemble.Read
    uses: tuple[Use, ...]


# Sizes of forget sets


def forget_set_of(run: Run, case: Case) -> ForgetSet:
    """Returns a forget set of the size that a case's will have; which examples it has is unknown.

    Raises:
      InvalidInputError: see `rumjax.lab.stages.forget_sets.choose_set`.
    """
    section = case.forget
    if section.by in ("examples", "file"):
        if section.by == "examples":
            examples = list(section.options.get("examples") or ())
        else:
            listed = read_listed(section.options.get("path")).values()
            examples = [one for part in listed for some in part.examples.values() for one in some]
        return ForgetSet.of(forget_sets.at_random(run.size, max(1, len(examples))), run.size)
    embeddings = np.arange(run.size, dtype=np.float32)[:, None]
    return choose_set(section, run.data, scores_of(run), lambda: embeddings)


def scores_of(run: Run) -> dict[str, Scores]:
    """Returns scores of which all are 0, in place of those that the run will have."""
    zeros = Scores(np.zeros(run.size, np.float32))
    names = (*SCORES, "entanglement", "rescored", *run.config.own_scores)
    return dict.fromkeys(names, zeros)


def steps_of(
    run: Run, method: Method, forget: np.ndarray, retain: np.ndarray, seed: int
) -> tuple[Step, ...]:
    """Returns a method's steps on a task of the right sizes."""
    labels = np.asarray(run.data.train.labels)
    steps = steps_on(method, forget, retain, scores_of(run), labels, seed)
    return blank(steps, run.size + len(run.data.test.labels), run.data.num_classes)


# Models, stage by stage


def groups(run: Run) -> Iterator[Group]:
    """Yields the models of a run in the order in which they are made.

    Raises:
      InvalidInputError: a forget set cannot be made, or a method does not suit it.
    """
    # The original models, of which the first is watched more closely if proxies need that.
    training = chain(task([], run.size), run.recipe)
    predicted = ("probabilities",)
    proxies = tuple(name for name in GRADIENT_PROXIES if name in run.on_demand)
    seeds = len(run.seeds)
    if proxies:
        watch = watcher(run.model, run.size, (*predicted, *proxies))
        yield Group("originals", "original, with proxies", 1, training, watch=watch)
        seeds -= 1
    watch = watcher(run.model, run.size, predicted)
    if seeds:
        yield Group("originals", "original", seeds, training, watch=watch)

    # The bank.
    options = run.config.bank
    if run.trains_bank:
        seen = np.arange(round(options.fraction * run.size))
        work = (Step("training", run.recipe, Task(subset([]), subset(seen))),)
        read = keeper(run.model) if run.keeps_bank else reader(run.model)
        yield Group("bank", "bank", options.models, work, read=read)

    # Each case: its oracles, its trials, its unlearned models and those of its audits.
    chosen: dict[str, ForgetSet] = {}
    for case in run.cases:
        forget_set = chosen[case.name] = forget_set_of(run, case)
        yield from of_case(run, case, forget_set, chosen)


def of_case(
    run: Run, case: Case, forget_set: ForgetSet, chosen: Mapping[str, ForgetSet]
) -> Iterator[Group]:
    """Yields the models of one case.

    Args:
      run: the case's.
      case: the case.
      forget_set: its forget set.
      chosen: the forget sets of this and earlier cases, by name.
    """
    # The oracles, and the models of tuning seeds.
    where = f"{case.folder.removeprefix('cases/')}: " if case.folder else ""
    training = chain(task([], run.size), run.recipe)
    retraining = chain(task(forget_set.forget, run.size), run.recipe)
    yield Group("oracles", f"{where}oracle", len(files.ORACLES) * len(run.seeds), retraining)
    if "oracle_logits" in case.unknown_facts:
        teachers = run.config.bank.matching_oracles
        yield Group("oracles", f"{where}oracle to match", teachers, retraining)
    if run.config.tuning is not None and case.after is None:
        seeds = len(run.config.tuning.seeds)
        watch = watcher(run.model, run.size, ("probabilities",))
        yield Group("tuning", f"{where}original", seeds, training, watch=watch)
        if run.config.tuning.needs_oracles:
            yield Group("tuning", f"{where}oracle", seeds, retraining)
        yield from trials(run, case, forget_set, where)

    # Every method on what the case adds to the one before.
    before = chosen[case.after.name].forget if case.after else np.empty(0, np.int32)
    added = np.setdiff1d(forget_set.forget, before)
    for method in case.methods:
        steps = steps_of(run, method, added, forget_set.retain, run.seeds[0])
        yield Group("unlearning", f"{where}{method.name}", len(run.seeds), steps)

    # The models of the bank that audits retrain and unlearn.
    audit, bank = run.config.audit, run.config.bank
    if audit is None:
        return
    seen = np.arange(round(bank.fraction * run.size))
    count = max(1, round(audit.share * bank.fraction * len(forget_set.forget)))
    forget, retain = seen[:count], seen[count:]
    again = (Step(files.RETRAIN, run.recipe, Task(subset(forget), subset(retain))),)
    read = reader(run.model)
    yield Group("audits", f"{where}{files.RETRAIN}", audit.models, again, read=read)
    for method in case.methods:
        audited = audit.methods is None or method.name in audit.methods
        if audited and method.name != files.ORIGINAL:
            steps = steps_of(run, method, forget, retain, 0)
            yield Group("audits", f"{where}{method.name}", audit.models, steps, read=read)


def trials(run: Run, case: Case, forget_set: ForgetSet, where: str) -> Iterator[Group]:
    """Yields the models that tuning tries, as many as there are at most."""
    tuning, read = run.config.tuning, reader(run.model)
    assert tuning is not None
    searched, seeds = searched_methods(case, run.config), len(tuning.seeds)
    forget, retain = forget_set.forget, forget_set.retain
    for method in case.methods:
        # Settings of a grid differ in numbers, and may differ in epochs.
        rest = searched.get(method.name, 0)
        grid = tuning.grid(method.name, method.algorithm) if rest else {}
        alike: dict[tuple[int, ...], tuple[Method, int]] = {}
        for setting in settings(grid, method.order, draw=tuning.settings) if grid else ():
            tried = with_setting(run, method, setting)
            epochs = tuple(tried.select[part].epochs for part in tried.order)
            alike[epochs] = (tried, alike.get(epochs, (tried, 0))[1] + 1)
            rest -= 1
        # Selections use unlearners of other methods; they are counted as the method's own.
        if rest > 0:
            alike[()] = (method, rest)
        for tried, count in alike.values():
            steps = steps_of(run, tried, forget, retain, tuning.seeds[0])
            yield Group("tuning", f"{where}{method.name}", count * seeds, steps, read=read)


# Their programs


def programs(run: Run) -> list[Program]:
    """Lists the programs of a run, each distinct one once.

    Programs that differ in the sizes of their index sets alone are one here, that of the largest.
    """
    distinct: dict[Any, Program] = {}

    def add(key: Any, program: Program) -> None:
        if key in distinct:
            before = distinct[key]
            step = _larger(before.step, program.step)
            program = before._replace(step=step, uses=before.uses + program.uses)
        distinct[key] = program

    # The steps of every group, each with what it does before its first epoch.
    passes = -(-(run.size + len(run.data.test.labels)) // run.recipe.batch_size) * FORWARD
    for group in groups(run):
        for step in group.steps:
            unlearner: Any = step.unlearner
            name, form = type(unlearner).__name__, jax.tree.structure(unlearner)
            size = getattr(unlearner, "batch_size", run.recipe.batch_size)
            sizes = int(step.task.forget.size), int(step.task.retain.size)
            nothing = ensemble.nothing
            label = group.name if len(group.steps) == 1 else f"{group.name}, {step.name}"
            if unlearner.epochs:
                batches = batches_of(unlearner, *sizes, run.data.train, size)
                use = Use(group.stage, label, group.models, unlearner.epochs, batches, size)
                epoch = Program(f"{name}: epoch", "epoch", step, nothing, nothing, (use,))
                add(("epoch", form), epoch)
            if prepares(unlearner):
                batches = start_batches(unlearner, *sizes)
                use = Use(group.stage, label, group.models, 1, batches, size)
                start = Program(f"{name}: start", "start", step, nothing, nothing, (use,))
                add(("start", form), start)

        # What is read of its models, at the end and after every epoch.
        size = run.recipe.batch_size
        last = group.steps[-1]
        if group.read is not ensemble.nothing:
            use = Use(group.stage, group.name, group.models, 1, passes, size)
            name = "answers" if group.read is reader(run.model) else "answers, model kept"
            read = Program(name, "read", last, group.read, ensemble.nothing, (use,))
            add(("read", group.read), read)
        if group.watch is not ensemble.nothing:
            epochs = last.unlearner.epochs
            batches = epochs * -(-run.size // size) * FORWARD
            use = Use(group.stage, group.name, group.models, epochs, batches, size)
            watch = Program("predictions", "watch", last, ensemble.nothing, group.watch, (use,))
            add(("watch", group.watch), watch)
    return list(distinct.values())


def _larger(one: Step, other: Step) -> Step:
    """Returns a step with the larger index set of each of two."""
    parts = zip(one.task, other.task, strict=True)
    larger = [max(both, key=lambda part: part.indices.shape[0]) for both in parts]
    return one._replace(task=Task(*larger))


def prepares(unlearner: Any) -> bool:
    """Says whether an unlearner does more before its first epoch than take variables over."""
    plain = {Sgd.init, Recipe.init, Influence.init, Scrub.init, Original.init, Matching.init}
    return type(unlearner).init not in plain


# Batches


def batches_of(unlearner: Any, forget: int, retain: int, data: Dataset, size: int) -> float | None:
    """Returns what all epochs of an unlearner take, in steps of training on one batch.

    A forward pass without a backward one counts a third; of algorithms that are not in `BATCHES`,
    gradients alone are counted. None for unlearners of the user's own.
    """
    count = BATCHES.get(type(unlearner))
    if count is not None:
        return count(unlearner, forget, retain)
    if not type(unlearner).__module__.startswith("rumjax."):
        return None
    gradients: int = unlearner.gradients(forget, retain, data)
    return gradients / size


def start_batches(unlearner: Any, forget: int, retain: int) -> float | None:
    """Returns the same for what an unlearner does before its first epoch."""
    del retain
    return math.ceil(forget / unlearner.batch_size) if type(unlearner) is SalUn else None


def _pass(unlearner: Any, count: int) -> float:
    return unlearner.epochs * math.ceil(count / unlearner.batch_size)


def _scrub(unlearner: Scrub, forget: int, retain: int) -> float:
    """Counts the teacher's forward pass beside every step."""
    size = unlearner.batch_size
    most = int(unlearner.max_epochs) * math.ceil(forget / size)
    return (1 + FORWARD) * (most + _pass(unlearner, retain))


def _matching(unlearner: Matching, forget: int, retain: int) -> float:
    """Counts passes over S and the sample of R."""
    sample = min(round(float(unlearner.ratio) * forget), retain)
    return _pass(unlearner, forget + sample)


def _influence(unlearner: Influence, forget: int, retain: int) -> float:
    """Counts mean gradients and the Fisher's, there and back; not the linear algebra."""
    used = min(unlearner.fisher_examples, retain)
    return (forget + retain + 3 * used) / unlearner.batch_size


BATCHES: Mapping[type, Callable[[Any, int, int], float]] = {
    Original: lambda *_: 0.0,
    Recipe: lambda one, forget, retain: _pass(one, retain),
    Finetune: lambda one, forget, retain: _pass(one, retain),
    L1Sparse: lambda one, forget, retain: _pass(one, retain),
    NegGrad: lambda one, forget, retain: _pass(one, forget),
    NegGradPlus: lambda one, forget, retain: 2 * _pass(one, retain),
    RandomLabel: lambda one, forget, retain: _pass(one, forget + retain),
    SalUn: lambda one, forget, retain: _pass(one, forget + retain),
    Scrub: _scrub,
    Influence: _influence,
    OracleMatching: _matching,
    DatamodelMatching: _matching,
}
"""How the batches of each algorithm are counted, by its record."""


def left_out(run: Run) -> list[str]:
    """Lists what a plan does not count, a sentence each."""
    listed = [
        "time on the host: reading data, measures, attacks, figures, files",
        "compilation, and the transfer of data to the devices",
        "shuffles and copies that are made once an epoch",
        "outputs of every model for its measures, a forward pass over D and T each",
    ]
    if run.config.audit is not None:
        listed.append("audits and probes on the CPU, and the models that relearn S")
    if "holdout_retraining" in run.scores_in_use or any(
        m.refine == "rescored" for m in run.methods
    ):
        listed.append("an epoch on V for hold-out retraining")
    if run.on_demand and set(GRADIENT_PROXIES) & set(run.on_demand):
        listed.append("gradients of single examples for proxies, beside the predictions")
    if any(isinstance(u, Influence) for m in run.methods for u in m.select.values()):
        listed.append("the linear algebra of influence unlearning")
    if run.config.tuning is not None and run.config.tuning.criterion == "validation":
        listed.append("V, which tuning adds to the data on the devices")
    if run.config.tuning is not None and run.config.tuning.select:
        listed.append("selections are counted as the method's own unlearners, as many as at most")
    return listed
