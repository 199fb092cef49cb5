"""Two independent oracles of every seed: models retrained without the forget set."""

from collections.abc import Sequence
from typing import NamedTuple

from rumjax import metrics
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files, progress
from rumjax.lab.context import CaseContext, stage_key
from rumjax.lab.costs import retraining_gradients
from rumjax.lab.making import Job, make
from rumjax.lab.measuring import look, measure, measure_oracle, own_measures
from rumjax.lab.results import oracle_label, write_row
from rumjax.lab.stages.single_models import Observer, is_measured
from rumjax.types import task
from rumjax.unlearn import chain

KINDS = tuple(files.ORACLES)
"""The reference, which all models are compared with, and a second one to calibrate with."""


class Oracles(NamedTuple):
    """The oracles of a case, which lie in its directory with their measures."""

    kinds: tuple[str, ...]
    trained: int
    """How many of them were trained now."""


def train(context: CaseContext, forget_set: ForgetSet, kinds: Sequence[str] = KINDS) -> Oracles:
    """Trains and measures the oracles that are not there yet, all references first."""
    # References come first, since the second ones are compared with them.
    run, place = context.run, context.place
    steps = chain(task(forget_set.forget, context.size), run.recipe)
    jobs = [
        Job(seed, stage_key(seed, f"oracle_{which}"), steps, which=which)
        for which in kinds
        for seed in run.seeds
        if not (
            place.has_model(files.oracle(which, seed))
            and is_measured(context, files.ORACLES[which], seed)
        )
    ]

    # Each is saved before it is measured.
    observer = Observer(context, forget_set)
    total = sum(job.epochs for job in jobs)
    with progress.stage(context.console, "Oracles", total, "epochs") as advance:
        for made in make(context, jobs, advance):
            which, seed = made.job.which, made.job.seed
            place.save_model(files.oracle(which, seed), made.model)
            outputs = look(context, made.model)
            measured = measure(context, forget_set, seed, outputs)
            is_reference = which == "reference"
            reference = measured if is_reference else measure_oracle(context, forget_set, seed)
            row = metrics.compare(measured, reference)
            label = oracle_label(which)
            row |= own_measures(context, forget_set, label.name, seed, outputs)
            gradients = retraining_gradients(run.recipe, len(forget_set.retain))
            row |= {"gradients": gradients, "rge": 1.0} | made.times | {"rte": 1.0}
            if run.config.audit is not None:
                row |= observer.observe(label.name, seed, made.model, outputs)
            write_row(place, label, seed, row, made.curve)
    return Oracles(tuple(kinds), len(jobs))
