"""Hold-out retraining: scores that are made of a given model, and may be made anew of another."""

from collections.abc import Mapping

import jax.numpy as jnp

from rumjax import scores
from rumjax.errors import InvalidInputError
from rumjax.lab.context import Context, stage_key
from rumjax.lab.measuring import look, probabilities
from rumjax.lab.methods import Method
from rumjax.types import Dataset, Scores, Variables, task
from rumjax.unlearn import chain, finetune, run


def holdout_scores(context: Context, variables: Variables, seed: int) -> Scores:
    """Computes hold-out retraining: how predictions on D move when a model learns what V holds.

    The model is fine-tuned for an epoch with a tenth of the learning rate of training.

    Raises:
      InvalidInputError: there is no validation data.
    """
    held = context.run.data.validation
    if len(held.labels) == 0:
        raise InvalidInputError(
            "hold-out retraining needs validation data, and there is none; set "
            "data.validation_fraction, or refine by another score"
        )
    learner = finetune(context.run.model, epochs=1, **context.run.config.gentle_sgd)
    unseen = Dataset(jnp.asarray(held.images), jnp.asarray(held.labels))
    steps = chain(task([], len(held.labels)), learner)
    after = run(stage_key(seed, "holdout"), steps, variables, unseen)
    before_and_after = (
        probabilities(look(context, model))[: context.size] for model in (variables, after)
    )
    return scores.holdout_retraining(*before_and_after)


def scores_for(
    context: Context, method: Method, scores: Mapping[str, Scores], start: Variables, seed: int
) -> Mapping[str, Scores]:
    """Returns the scores, with those that a method makes anew of the model it starts from."""
    if method.refine != "rescored":
        return scores
    return {**scores, "rescored": holdout_scores(context, start, seed)}
