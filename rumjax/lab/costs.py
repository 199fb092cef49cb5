"""How many gradients of single examples a model takes: a cost that is the same on every machine.

An example counts each time that a gradient is taken of its loss, whether alone or in a batch. What
only fills the last batch of a pass is not counted, nor are forward passes, as those of a teacher.
With `sharpness` every gradient counts twice, also those few that are taken outside of steps.
"""

from collections.abc import Sequence

from rumjax.training import Recipe
from rumjax.types import Dataset
from rumjax.unlearn import Step


def gradients_of(steps: Sequence[Step], data: Dataset) -> int | None:
    """Counts the gradients that steps take; None where an unlearner does not say it.

    An unlearner says it by a method `gradients(forget, retain, data)`, of the sizes of S and R and
    of all of D, whose shape some depend on.

    Args:
      steps: on tasks whose sizes are known.
      data: all of D.
    """
    total = 0
    for step in steps:
        # A class of the user's may do more than the one that it is derived from.
        cls = type(step.unlearner)
        if not cls.__module__.startswith("rumjax.") and "gradients" not in vars(cls):
            return None
        count = step.unlearner.gradients  # type: ignore[attr-defined]
        sizes = int(step.task.forget.size), int(step.task.retain.size)
        total += gradients_a_step(step.unlearner) * count(*sizes, data)
    return total


def share_of_retraining(
    steps: Sequence[Step], retain: int, recipe: Recipe, data: Dataset
) -> float | None:
    """Counts the gradients that steps take, over those of training on R from scratch.

    Args:
      steps: of a method, on tasks whose sizes are known.
      retain: the size of R.
      recipe: the recipe of training.
      data: all of D.

    Returns:
      The share; None where an unlearner does not say its gradients.
    """
    gradients = gradients_of(steps, data)
    if gradients is None:
        return None
    return gradients / retraining_gradients(recipe, retain)


def retraining_gradients(recipe: Recipe, retain: int) -> int:
    """Counts the gradients that training from scratch takes, on so many examples."""
    return gradients_a_step(recipe) * recipe.epochs * retain


def gradients_a_step(unlearner: object) -> int:
    """Counts the gradients of an example in a step: two where sharpness looks uphill first."""
    return 1 if getattr(unlearner, "sharpness", "none") == "none" else 2
