"""Two independent oracles of every seed: models retrained without the forget set.

The reference is what all models are compared with; the second calibrates. Where a method matches
oracles there are teachers besides, which all seeds share: nothing is compared with them.
"""

from collections.abc import Sequence

import jax

from rumjax import metrics
from rumjax.lab import files, making, progress
from rumjax.lab.context import CaseContext, stage_key
from rumjax.lab.costs import retraining_gradients
from rumjax.lab.jobs import Batch
from rumjax.lab.making import Job
from rumjax.lab.measuring import look, measure, measure_oracle, own_measures
from rumjax.lab.results import oracle_label, write_row
from rumjax.lab.stages import forget_sets
from rumjax.lab.stages.single_models import Observer, is_measured
from rumjax.types import task
from rumjax.unlearn import chain


def batch(
    context: CaseContext,
    which: str,
    seeds: Sequence[int] | None = None,
    *,
    after: Sequence[Batch] = (),
) -> Batch:
    """Returns what lacks of a case's oracles of one kind: pairs of the kind and a seed.

    Args:
      context: of a case whose forget set is chosen.
      which: "reference" or "second".
      seeds: those of the run by default.
      after: the batches that have to be made before: the references before the second ones.
    """
    place = context.place
    missing = [
        (which, seed)
        for seed in (context.run.seeds if seeds is None else seeds)
        if not (
            place.has_model(files.oracle(which, seed))
            and is_measured(context, files.ORACLES[which], seed)
        )
    ]
    return Batch(
        stage="oracles",
        context=context,
        names=missing,
        title="Oracles",
        total=len(missing) * context.run.recipe.epochs,
        after=after,
    )


def teachers(context: CaseContext) -> Batch:
    """Returns what lacks of the models that a case's methods match; none where none does so.

    Their numbers are written as text: they are of no seed, and all that is of one waits for them.
    """
    count = context.run.config.bank.matching_oracles
    missing = [
        ("teacher", str(number))
        for number in range(count if "oracle_logits" in context.case.unknown_facts else 0)
        if not context.place.has_model(files.teacher(number))
    ]
    return Batch(
        stage="oracles",
        context=context,
        names=missing,
        title="Oracles",
        total=len(missing) * context.run.recipe.epochs,
    )


def make(
    context: CaseContext, names: Sequence[tuple[str, int | str]], advance: progress.Advance
) -> None:
    """Trains and measures oracles, which have to be references as long as these are not there.

    Teachers are trained with keys of their own, and are not measured.
    """
    run, place, forget_set = context.run, context.place, forget_sets.read(context)
    steps = chain(task(forget_set.forget, context.size), run.recipe)
    jobs = []
    for which, number in names:
        seed = int(number)
        if which == "teacher":
            key = jax.random.fold_in(stage_key(run.seeds[0], which), seed)
            jobs.append(Job(seed, key, steps, which=which, kind="number"))
        else:
            jobs.append(Job(seed, stage_key(seed, f"oracle_{which}"), steps, which=which))

    # Each is saved before it is measured.
    observer = Observer(context, forget_set)
    for made in making.make(context, jobs, advance):
        which, seed = made.job.which, made.job.seed
        if which == "teacher":
            place.save_model(files.teacher(seed), made.model)
            continue
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
