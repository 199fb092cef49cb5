"""The bank of models on random subsets of D, which scores and audits are computed from."""

from collections.abc import Sequence

import jax

from rumjax import ensemble
from rumjax.errors import DivergenceError
from rumjax.lab import bank, files, progress
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import Context, stage_key
from rumjax.lab.dependencies import bank_header
from rumjax.lab.jobs import Batch


def is_needed(context: Context) -> bool:
    """Says whether anything that is still to be made needs the bank."""
    run = context.run
    for_scores = run.needs_bank and not context.work.has(files.SCORES)
    return for_scores or run.config.audit is not None or run.has_datamodels


def batch(context: Context) -> Batch:
    """Returns what the bank lacks: the numbers of models; none where no bank is needed."""
    count = context.run.config.bank.models
    missing = list(range(count)) if is_needed(context) else []
    if missing and context.work.has(files.BANK):
        # Rows that cannot be read are made anew.
        models = ModelBank(context.work, bank_header(context.run))
        for model in models.discard_damaged():
            said = f"the row of model {model} of the bank is damaged: it is made anew"
            context.console.print(said)
        missing = bank.lacking(models, count, checkpoints=context.run.keeps_bank)
    return Batch(
        stage="bank",
        context=context,
        names=missing,
        title="Bank",
        total=len(missing),
        unit="models",
    )


def make(context: Context, models: Sequence[int], advance: progress.Advance) -> None:
    """Trains models of the bank."""
    run, options = context.run, context.run.config.bank

    def on_made(made: ensemble.Made) -> None:
        for _ in made.names:
            advance(f"{made.seconds:.1f} s per model")

    def on_arranged(arrangement: ensemble.Arrangement) -> None:
        if jax.default_backend() != "cpu" or arrangement.per_device > 1:
            context.console.print(f"The bank's models: {arrangement.reason}.", markup=False)

    bank.train(
        ModelBank(context.work, bank_header(run)),
        run.recipe,
        context.data,
        stage_key(options.seed, "bank"),
        models,
        per_device=options.per_device,
        checkpoints=run.keeps_bank,
        on_made=on_made,
        on_arranged=on_arranged,
    )


def check(context: Context) -> None:
    """Says which models of the bank diverged: scores and audits leave them out.

    Raises:
      DivergenceError: they are more than half, so that the recipe is to blame.
    """
    if not is_needed(context):
        return
    diverged = ModelBank(context.work, bank_header(context.run)).diverged()
    for reason in diverged.values():
        context.console.print(f"{reason} The bank goes on without it.", markup=False)
    count = context.run.config.bank.models
    if 2 * len(diverged) > count:
        raise DivergenceError(
            f"{len(diverged)} of the {count} models of the bank diverged, the first: "
            f"{next(iter(diverged.values()))}"
        )
