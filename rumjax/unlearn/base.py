"""Running unlearners: steps, chains of them, and the one Python loop.

Adding an algorithm takes one file with a record that has `init`, `epoch` and `finish` (or an `Sgd`
with `passes`), a factory that validates its arguments, and a line in `rumjax.unlearn.ALGORITHMS`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.types import Array, Dataset, Key, Metrics, Task, Unlearner, Variables


class Step(NamedTuple):
    """One unlearner at work on one task; RUM is a sequence of these."""

    name: str
    unlearner: Unlearner[Any]
    task: Task


class OnEpoch(NamedTuple):
    """What is known after an epoch; the variables are valid until the next epoch begins."""

    step: Step
    epoch: int
    variables: Variables
    metrics: dict[str, float]


def chain(task: Task, *unlearners: Unlearner[Any]) -> tuple[Step, ...]:
    """Unlearners one after another on the same task."""
    return tuple(Step(type(each).__name__, each, task) for each in unlearners)


def run(
    key: Key,
    steps: Sequence[Step],
    variables: Variables | None,
    data: Dataset,
    *,
    on_epoch: Callable[[OnEpoch], None] | None = None,
) -> Variables:
    """Runs the steps in order, each starting from the previous one's result.

    Args:
      key: step k uses `fold_in(key, k)`.
      steps: from `rumjax.rum`, `chain`, or by hand.
      variables: the original model's, left as they are; None before training from scratch.
      data: all of D, on the device.
      on_epoch: called after every epoch, for progress bars, curves and proxies.

    Returns:
      The unlearned model's variables; with no steps, those given.

    Raises:
      DivergenceError: a loss or a parameter is not finite; names step, algorithm, epoch and batch.
    """
    for position, step in enumerate(steps):
        state = _start(
            step.unlearner, jax.random.fold_in(key, position), variables, data, step.task
        )
        for epoch in range(step.unlearner.epochs):
            state, finite, metrics = _advance(step.unlearner, state, data, step.task)
            metrics = check_finite(step.name, step.unlearner, epoch, finite, metrics)
            if on_epoch is not None:
                on_epoch(OnEpoch(step, epoch, step.unlearner.finish(state), metrics))
        variables = step.unlearner.finish(state)
    if variables is None:
        raise InvalidInputError("run: there are neither steps nor variables")
    return variables


def warm_up(steps: Sequence[Step], variables: Variables | None, data: Dataset) -> None:
    """Compiles what the steps need, so that the time of a run holds no compilation.

    It runs an epoch of each on empty sets, which have the same shapes and take no step.
    """
    for step in steps:
        empty = jax.tree.map(jnp.zeros_like, step.task)
        state = _start(step.unlearner, jax.random.key(0), variables, data, empty)
        if step.unlearner.epochs:
            jax.block_until_ready(_advance(step.unlearner, state, data, empty))


def check_finite(
    name: str, unlearner: Unlearner[Any], epoch: int, finite: Array, metrics: Metrics
) -> dict[str, float]:
    """The epoch's metrics as floats, if the loss and the model are finite.

    Raises:
      DivergenceError: names step, algorithm, epoch, batch, and what to try.
    """
    numbers = {key: float(np.asarray(value)) for key, value in metrics.items()}
    batch = int(numbers.pop("diverged_at", -1))
    if batch >= 0 or not bool(finite):
        where = f"at batch {batch + 1}" if batch >= 0 else "after its last batch"
        rate = getattr(unlearner, "learning_rate", None)
        hint = "" if rate is None else f" Try a learning_rate below {float(rate):g}"
        if hasattr(unlearner, "forget_loss_cap"):
            hint += " or a forget_loss_cap"
        raise DivergenceError(
            f"{type(unlearner).__name__} ({name}) diverged in epoch {epoch + 1} of "
            f"{unlearner.epochs} {where}: the loss or a parameter is not finite.{hint}"
        )
    return numbers


@jax.jit
def _start(
    unlearner: Unlearner[Any], key: Key, variables: Variables, data: Dataset, task: Task
) -> Any:
    # `_advance` donates the state, so it must not share buffers with the caller's variables.
    return unlearner.init(key, jax.tree.map(jnp.copy, variables), data, task)


@partial(jax.jit, donate_argnums=1)
def _advance(
    unlearner: Unlearner[Any], state: Any, data: Dataset, task: Task
) -> tuple[Any, Array, Metrics]:
    state, metrics = unlearner.epoch(state, data, task)
    return state, all_finite(unlearner.finish(state)), metrics


def all_finite(variables: Variables) -> Array:
    """Whether every number of the variables is finite; bool[]."""
    return jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(variables)]).all()
