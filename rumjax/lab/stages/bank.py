"""The bank of models on random subsets of D, which scores and audits are computed from."""

from typing import NamedTuple

import jax

from rumjax import ensemble
from rumjax.errors import DivergenceError
from rumjax.lab import bank, files, progress
from rumjax.lab.bank import ModelBank
from rumjax.lab.cluster import ALONE, Process
from rumjax.lab.context import Context, stage_key
from rumjax.lab.dependencies import bank_header


class Bank(NamedTuple):
    """A bank that is complete."""

    models: ModelBank
    compile_seconds: float


def is_needed(context: Context) -> bool:
    """Says whether anything that is still to be made needs the bank."""
    run = context.run
    for_scores = run.needs_bank and not context.work.has(files.SCORES)
    return for_scores or run.config.audit is not None


def train(context: Context, process: Process = ALONE) -> Bank | None:
    """Trains the models of the bank that are not there yet; None where no bank is needed.

    Args:
      context: the run's.
      process: which of how many processes this is; each returns when the bank is complete.

    Raises:
      DivergenceError: more than half of the models diverged.
    """
    if not is_needed(context):
        return None

    # Rows that cannot be read are made anew.
    run, options = context.run, context.run.config.bank
    models = ModelBank(context.work, bank_header(run))
    for model in models.discard_damaged():
        context.console.print(f"the row of model {model} of the bank is damaged: it is made anew")

    # Train what is missing, alone or with other processes.
    missing = bank.lacking(models, options.models, checkpoints=run.keeps_bank)
    with progress.stage(context.console, "Bank", len(missing), "models") as advance:

        def on_made(made: ensemble.Made) -> None:
            for _ in made.names:
                advance(f"{made.seconds:.1f} s per model")

        def on_arranged(arrangement: ensemble.Arrangement) -> None:
            if jax.default_backend() != "cpu" or arrangement.per_device > 1:
                context.console.print(f"The bank's models: {arrangement.reason}.", markup=False)

        compile_seconds = bank.train(
            models,
            run.recipe,
            context.data,
            stage_key(options.seed, "bank"),
            models=options.models,
            per_device=options.per_device,
            process=process,
            checkpoints=run.keeps_bank,
            on_made=on_made,
            on_arranged=on_arranged,
        )

    # Models that diverged are left out, unless they are so many that the recipe is to blame.
    diverged = models.diverged()
    for reason in diverged.values():
        context.console.print(f"{reason} The bank goes on without it.", markup=False)
    if 2 * len(diverged) > options.models:
        raise DivergenceError(
            f"{len(diverged)} of the {options.models} models of the bank diverged, the first: "
            f"{next(iter(diverged.values()))}"
        )
    return Bank(models, compile_seconds)
