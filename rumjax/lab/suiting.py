"""Finds out before anything is trained whether unlearners suit the classes and the network."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab.costs import share_of_retraining
from rumjax.lab.experiment import Run
from rumjax.lab.methods import Method
from rumjax.types import Dataset, Key, Splits, Task, Unlearner, task
from rumjax.unlearn import Step
from rumjax.unlearn.steps import check_whole_classes, unknown_facts


def check_classes(what: str, steps: Sequence[Step], parts: Splits) -> None:
    """Checks that steps suit the classes of their sets, and V those that are learned from it.

    Args:
      what: the name used in messages.
      steps: a method's, on sets that are known.
      parts: D and V.

    Raises:
      InvalidInputError: an unlearner of whole classes is given less; or one that is told of
        held-out images by class, and there are none of a class.
    """
    held, labels = np.unique(parts.validation.labels), np.asarray(parts.train.labels)
    for step in steps:
        where = f"{what}, {step.name}"
        check_whole_classes(where, step.unlearner, step.task, parts.train)
        facts, wanted = unknown_facts(step.unlearner), np.empty(0, int)
        if "held_out_probabilities" in facts:
            wanted = np.arange(parts.num_classes)
        elif "reference_error" in facts:
            wanted = labels[np.asarray(step.task.forget.indices)[: int(step.task.forget.size)]]
        missing = np.setdiff1d(wanted, held)
        if missing.size:
            raise InvalidInputError(
                f"{where}: {type(step.unlearner).__name__} learns from validation images class by "
                f"class, and there are none of {parts.class_names[missing[0]]}; hold out more by "
                "data.validation_fraction, or use another algorithm"
            )


def check_cost(what: str, method: Method, steps: Sequence[Step], retain: int, run: Run) -> None:
    """Checks that a method keeps to its budget, if it has one.

    Args:
      what: the name used in messages.
      method: its budget is its own, or the run's.
      steps: the method's, on sets whose sizes are known.
      retain: the size of R, on which one would retrain.
      run: its recipe and its data.

    Raises:
      InvalidInputError: it takes more, or nobody knows how much.
    """
    if not keeps_to_budget(what, method, steps, retain, run):
        share = share_of_retraining(steps, retain, run.recipe, run.data.train)
        raise InvalidInputError(
            f"{what}: it takes {share:.3g} of the gradients of retraining, and the budget is "
            f"{budget_of(method, run):.3g}; give it fewer epochs, or raise budget"
        )


def budget_of(method: Method, run: Run) -> float | None:
    """Returns the share of retraining that a method may take: its own, or else the run's."""
    return run.config.budget if method.budget is None else method.budget


def keeps_to_budget(
    what: str, method: Method, steps: Sequence[Step], retain: int, run: Run
) -> bool:
    """Says whether a method takes no more gradients than its budget allows.

    Raises:
      InvalidInputError: there is a budget, and nobody knows how many the method takes.
    """
    budget = budget_of(method, run)
    if budget is None:
        return True
    share = share_of_retraining(steps, retain, run.recipe, run.data.train)
    if share is None:
        raise InvalidInputError(
            f"{what}: the gradients of an unlearner of your own are not known, so that no budget "
            "can be kept; give it a method gradients(forget, retain, data), or leave out budget"
        )
    return share <= budget


def check_starts(
    what: str, select: Mapping[str, Unlearner[Any]], run: Run, tried: set[Any]
) -> None:
    """Checks that unlearners can begin with the network of a run, without computing anything.

    Some name layers, channels or a class of the last layer, and refuse a network without them:
    those whose class says `reads_network`.

    Args:
      what: the name used in messages.
      select: a method's unlearners, by the names of parts.
      run: its data and its network.
      tried: forms of unlearners that can, which are not tried again; these join them.

    Raises:
      InvalidInputError: one refuses the network.
    """
    train, example = run.data.train, task([0], run.size)
    data: Any = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, part.dtype), train)
    for part, unlearner in select.items():
        form = jax.tree.structure(unlearner)
        if form in tried or not getattr(unlearner, "reads_network", False):
            continue
        try:
            jax.eval_shape(_begin, jax.random.key(0), unlearner, data, example)
        except InvalidInputError as error:
            raise InvalidInputError(f"{what}, {part}: {error}") from error
        tried.add(form)


def _begin(key: Key, unlearner: Any, data: Dataset, example: Task) -> Any:
    """Returns a state after an epoch."""
    variables = unlearner.model.init(key, data.images[:1])
    return unlearner.epoch(unlearner.init(key, variables, data, example), data, example)
