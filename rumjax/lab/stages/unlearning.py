"""Every method on every seed, each model compared with its seed's reference oracle."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rumjax import metrics
from rumjax.errors import DivergenceError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files, making, progress
from rumjax.lab.context import CaseContext, load_original, load_start, stage_key
from rumjax.lab.costs import gradients_of
from rumjax.lab.informing import Informant
from rumjax.lab.jobs import Batch
from rumjax.lab.making import Job, Made, sample_steps, steps_of
from rumjax.lab.measuring import look, measure, measure_oracle, own_measures
from rumjax.lab.methods import Method
from rumjax.lab.rescoring import scores_for
from rumjax.lab.results import Label, has_diverged, read_row, write_row
from rumjax.lab.stages import forget_sets, scores
from rumjax.lab.stages.single_models import Observer, is_measured
from rumjax.lab.suiting import check_classes
from rumjax.types import Scores


def batch(context: CaseContext, *, after: Sequence[Batch] = ()) -> Batch:
    """Returns what lacks of a case's unlearned models: pairs of a method and a seed.

    Args:
      context: of a case, with the settings that its methods are to have.
      after: the batches that have to be made before: the reference oracles, and teachers.
    """
    missing = [
        (method, seed)
        for method in context.case.methods
        for seed in context.run.seeds
        if not is_made(context, method, seed)
    ]
    return Batch(
        stage="unlearning",
        context=context,
        names=[(method.name, seed) for method, seed in missing],
        title="Unlearning",
        total=sum(method.epochs for method, _ in missing),
        after=after,
    )


def make(context: CaseContext, names: Sequence[tuple[str, int]], advance: progress.Advance) -> None:
    """Runs methods on seeds, and measures the models.

    A model that diverges has a row that says so, without measures, and the others go on. So has
    one that would go on from a model that diverged in an earlier case.
    """
    stage = _Stage(context, scores.read(context), forget_sets.read(context))
    for method in context.case.methods:
        jobs = stage.jobs(method, [seed for name, seed in names if name == method.name])
        for made in making.make(context, jobs, advance, method.name, diverging="noted"):
            stage.write(method, made)


def is_made(context: CaseContext, method: Method, seed: int) -> bool:
    """Says whether a model is measured, and kept if another case goes on from it."""
    return is_measured(context, method.name, seed) and (
        not context.case.goes_on
        or context.place.has_model(files.unlearned(method.name, seed))
        or has_diverged(context.place, method.name, seed)
    )


def is_lost(context: CaseContext, method: Method, seed: int) -> bool:
    """Says whether the model that a method goes on from has diverged."""
    return context.before is not None and has_diverged(context.before.place, method.name, seed)


def check_method(
    context: CaseContext, method: Method, scores: Mapping[str, Scores], forget_set: ForgetSet
) -> None:
    """Checks that a method's parts, order, selection and algorithms fit the forget set.

    Raises:
      InvalidInputError: they do not.
    """
    steps = sample_steps(context, method, scores, forget_set)
    check_classes(f"methods.{method.name}", steps, context.run.data)


def is_unchanged(made: Made) -> bool:
    """Says whether a model is the one that it started from, though there were epochs to change it.

    An algorithm may select no parameter, or stop before its first step.
    """
    start = made.job.variables
    if not made.job.epochs or start is None or callable(start):
        return False
    pairs = zip(jax.tree.leaves(start), jax.tree.leaves(made.model), strict=True)
    return all(np.array_equal(before, after) for before, after in pairs)


class _Stage:
    """The objects that all methods of the stage share."""

    def __init__(
        self, context: CaseContext, scores: Mapping[str, Scores], forget_set: ForgetSet
    ) -> None:
        self.context, self.scores, self.forget_set = context, scores, forget_set
        self.observer, self.informant = Observer(context, forget_set), Informant(context)
        self.original = functools.cache(lambda seed: load_original(context, seed))
        self.oracle = functools.cache(lambda seed: measure_oracle(context, forget_set, seed))
        self.score_seconds = context.work.read_json(files.SCORE_SECONDS, missing={})
        self.rescoring_seconds: dict[tuple[str, int], float] = {}

    def jobs(self, method: Method, seeds: Sequence[int]) -> list[Job]:
        """Returns the jobs of a method; notes the seeds on which there is nothing to start from."""
        jobs = []
        for seed in seeds:
            # A model that has diverged before cannot forget more.
            if is_lost(self.context, method, seed):
                why = f"{method.name}, seed {seed}: its model of the case before has diverged"
                self.note_divergence(method, seed, {}, [], why)
                continue
            # Training may diverge that makes scores anew.
            try:
                jobs.append(self.job(method, seed))
            except DivergenceError as error:
                self.note_divergence(method, seed, {}, [], str(error))
        return jobs

    def job(self, method: Method, seed: int) -> Job:
        """Returns the job of a method on a seed; scores of the model's own are made for it."""
        # Methods of the first case share the original model.
        first = self.context.before is None
        start = self.original(seed) if first else load_start(self.context, method, seed)
        begin = time.perf_counter()
        scores = scores_for(self.context, method, self.scores, start, seed)
        self.rescoring_seconds[method.name, seed] = time.perf_counter() - begin
        steps = steps_of(self.context, method, scores, self.forget_set, seed)
        who = (method.name if self.context.before else files.ORIGINAL), seed
        steps = self.informant.informed(steps, start, who)
        return Job(seed, stage_key(seed, f"unlearn/{method.name}"), steps, start)

    def write(self, method: Method, made: Made) -> None:
        """Measures a model, and writes its row."""
        context, seed = self.context, made.job.seed
        times = made.times | self.relative_costs(method, made.job, made.times["seconds"])
        if made.diverged is not None:
            self.note_divergence(method, seed, times, made.curve, str(made.diverged))
            return

        # Parameters may be finite, and too large to predict anything.
        outputs = look(context, made.model)
        if not np.isfinite(outputs.logits).all():
            why = f"{method.name}, seed {seed}: its logits are not finite"
            self.note_divergence(method, seed, times, made.curve, why)
            return
        measured = measure(context, self.forget_set, seed, outputs)
        row = metrics.compare(measured, self.oracle(seed))
        row |= own_measures(context, self.forget_set, method.name, seed, outputs)
        if context.run.config.audit is not None:
            row |= self.observer.observe(method.name, seed, made.model, outputs)
        row |= times
        if is_unchanged(made):
            row |= {"unchanged": 1.0}
            context.console.print(
                f"{method.name}, seed {seed}: no parameter was changed, the model is the one that "
                "it started from.",
                markup=False,
            )
        if context.case.goes_on:
            context.place.save_model(files.unlearned(method.name, seed), made.model)
        label = Label(method.name, method.algorithm, method.strategy)
        write_row(context.place, label, seed, row, made.curve)

    def note_divergence(
        self,
        method: Method,
        seed: int,
        times: Mapping[str, float],
        curve: Sequence[Mapping[str, Any]],
        why: str,
    ) -> None:
        """Writes the row of a model that diverged, which has no measures, and says so."""
        context = self.context
        words = f"{why.rstrip('.')}. Its row has no measures, and the others go on."
        context.console.print(words, markup=False)
        if context.run.config.audit is not None:
            self.observer.note_divergence(method.name, seed)
        label = Label(method.name, method.algorithm, method.strategy)
        write_row(context.place, label, seed, {"diverged": 1.0, **times}, curve)

    def relative_costs(self, method: Method, job: Job, seconds: float) -> dict[str, float]:
        """Returns what the model cost relative to retraining, in gradients and in time.

        The time is without and with that of the scores. Gradients are not counted of unlearners of
        the user's own.
        """
        # Gradients are the same on every machine.
        row = read_row(self.context.place, files.ORACLES["reference"], job.seed)
        costs: dict[str, float] = {}
        gradients = gradients_of(job.steps, self.context.data)
        if gradients is not None:
            costs = {"gradients": gradients, "rge": gradients / row["gradients"]}

        # Times are not, and are shares of what several seeds took together.
        seed, retraining = job.seed, row["seconds"]
        if method.refine == "rescored":
            scoring = self.rescoring_seconds[method.name, seed]
        else:
            scoring = self.score_seconds.get(method.refine, 0.0)
        costs["rte"] = seconds / retraining
        costs["rte_with_scores"] = (seconds + scoring) / retraining
        return costs
