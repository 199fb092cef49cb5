"""How many gradients of single examples a model takes: a cost that is the same on every machine.

An example counts each time that a gradient is taken of its loss, whether alone or in a batch. What
only fills the last batch of a pass is not counted, nor are forward passes, as those of a teacher.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from rumjax.gradients import gram_evaluations
from rumjax.training import Recipe
from rumjax.types import Dataset
from rumjax.unlearn import Step
from rumjax.unlearn.ascent import NegGrad, NegGradPlus
from rumjax.unlearn.distillation import Scrub
from rumjax.unlearn.finetuning import Finetune, L1Sparse
from rumjax.unlearn.newton import Influence
from rumjax.unlearn.nothing import Original
from rumjax.unlearn.relabelling import RandomLabel, SalUn

Count = Callable[[Any, int, int], int]
"""From an unlearner and the sizes of S and R to a number of gradients."""


def gradients_of(steps: Sequence[Step], data: Dataset) -> int | None:
    """Counts the gradients that steps take; None where an unlearner is not one of rumjax's own.

    Args:
      steps: on tasks whose sizes are known.
      data: all of D, whose shape one algorithm depends on.
    """
    total = 0
    for step in steps:
        # One algorithm depends on the memory that gradients of the model take.
        forget, retain = int(step.task.forget.size), int(step.task.retain.size)
        unlearner = step.unlearner
        if isinstance(unlearner, Influence):
            total += _by_influence(unlearner, forget, retain, data)
        elif type(unlearner) in COUNTS:
            total += COUNTS[type(unlearner)](unlearner, forget, retain)
        else:
            return None
    return total


def retraining_gradients(recipe: Recipe, retain: int) -> int:
    """Counts the gradients that training from scratch takes, on so many examples."""
    return recipe.epochs * retain


def _over_retained(unlearner: Any, forget: int, retain: int) -> int:
    return unlearner.epochs * retain


def _over_forgotten(unlearner: NegGrad, forget: int, retain: int) -> int:
    return unlearner.epochs * forget


def _over_both(unlearner: RandomLabel, forget: int, retain: int) -> int:
    return unlearner.epochs * (forget + retain)


def _with_saliency(unlearner: SalUn, forget: int, retain: int) -> int:
    """Counts the pass over S that the mask takes as well."""
    return forget + _over_both(unlearner, forget, retain)


def _cycled(unlearner: NegGradPlus, forget: int, retain: int) -> int:
    """Counts passes over R, with a batch of S beside each batch, cycled."""
    size = unlearner.batch_size
    cycles, rest = divmod(-(-retain // size), max(1, -(-forget // size)))
    return unlearner.epochs * (retain + cycles * forget + min(rest * size, forget))


def _with_max_passes(unlearner: Scrub, forget: int, retain: int) -> int:
    return unlearner.epochs * retain + int(unlearner.max_epochs) * forget


def _by_influence(unlearner: Influence, forget: int, retain: int, data: Dataset) -> int:
    """Counts both mean gradients, and the products with the Fisher's gradients there and back."""
    used = min(unlearner.fisher_examples, retain)
    like = jax.eval_shape(unlearner.model.init, jax.random.key(0), data.images[:1])
    gram = gram_evaluations(unlearner.model, like, data, used, micro_batch=unlearner.micro_batch)
    return forget + retain + 2 * used + gram


COUNTS: Mapping[type, Count] = {
    Original: lambda *_: 0,
    Recipe: _over_retained,
    Finetune: _over_retained,
    L1Sparse: _over_retained,
    NegGrad: _over_forgotten,
    NegGradPlus: _cycled,
    RandomLabel: _over_both,
    SalUn: _with_saliency,
    Scrub: _with_max_passes,
}
"""How the gradients of each algorithm are counted, by its record; one has a count of its own."""
