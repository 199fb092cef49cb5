"""Running unlearners: the one Python loop.

Adding an algorithm takes one file with a record that has `init`, `epoch` and `finish` (or an `Sgd`
with `passes`), a factory that validates its arguments, and a line in `rumjax.unlearn.ALGORITHMS`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.checks import check_keys, check_outside
from rumjax.errors import DivergenceError, InvalidInputError, shown
from rumjax.rows import suited
from rumjax.types import Array, Dataset, Key, Metrics, Task, Unlearner, Variables
from rumjax.unlearn.steps import Step, check_steps, check_whole


class OnEpoch(NamedTuple):
    """The report of an epoch; the variables are valid until the next epoch begins."""

    step: Step
    epoch: int
    variables: Variables
    metrics: dict[str, float]


def run(
    key: Key,
    steps: Sequence[Step],
    variables: Variables | None,
    data: Dataset,
    *,
    on_epoch: Callable[[OnEpoch], None] | None = None,
) -> Variables:
    """Runs steps in order, each from the result of the one before.

    Args:
      key: step k uses `fold_in(key, k)`.
      steps: from `rumjax.rum`, `chain`, or by hand.
      variables: the original model's, left as they are; None before training from scratch. A
        dictionary of Linen's collections or a train state will do as well.
      data: all of D, on the device; images of uint8, or floats of 0…1.
      on_epoch: called after every epoch, for progress bars, curves and proxies.

    Returns:
      The unlearned model's variables; with no steps, those given.

    Raises:
      InvalidInputError: data, tasks, variables or the key do not go with each other or with the
        model; or there is nothing to run. Values are checked before anything is trained.
      DivergenceError: a loss or a parameter is not finite; names step, algorithm, epoch and batch.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import chain, retrain
      >>> data = Dataset(jnp.zeros((4, 4, 4, 1), jnp.uint8), jnp.array([0, 1, 0, 1]))
      >>> recipe = retrain(Model(Cnn(2, widths=(), hidden=4)), epochs=1, batch_size=2)
      >>> variables = run(jax.random.key(0), chain(task([0], 4), recipe), None, data)
      >>> variables.params["Dense_1"]["kernel"].shape
      (4, 2)
    """
    check_outside("run", (key, steps, variables, data))
    if on_epoch is not None and not callable(on_epoch):
        raise InvalidInputError(f"run, on_epoch: wanted a function, got {shown(on_epoch)}")
    key = check_keys("run, key", key)
    steps, current, data = check_steps("run", steps, variables, data)
    check_whole(steps, len(data.labels))
    data = suited(data)
    for position, step in enumerate(steps):
        # The state before the first epoch, from the result of the step before.
        state = _start(step.unlearner, jax.random.fold_in(key, position), current, data, step.task)

        # Its epochs.
        for epoch in range(step.unlearner.epochs):
            state, finite, metrics = _advance(step.unlearner, state, data, step.task)
            metrics = check_finite(step.name, step.unlearner, epoch, finite, metrics)
            if on_epoch is not None:
                on_epoch(OnEpoch(step, epoch, step.unlearner.finish(state), metrics))
        current = step.unlearner.finish(state)
    result: Variables = current
    return result


def warm_up(steps: Sequence[Step], variables: Variables | None, data: Dataset) -> None:
    """Compiles what the steps need, so that the time of a run holds no compilation.

    It runs an epoch of every step on empty sets, which have the same shapes and need no updates.

    Examples:
      >>> from rumjax.models import Cnn, Model
      >>> from rumjax.types import task
      >>> from rumjax.unlearn import chain, original
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((4, 4, 4, 1), jnp.uint8)
      >>> variables = model.init(jax.random.key(0), images)
      >>> steps = chain(task([0], 4), original(model))
      >>> warm_up(steps, variables, Dataset(images, jnp.array([0, 1, 0, 1])))
    """
    steps, variables, data = check_steps("warm-up", steps, variables, data)
    for step in steps:
        empty = jax.tree.map(jnp.zeros_like, step.task)
        state = _start(step.unlearner, jax.random.key(0), variables, data, empty)
        if step.unlearner.epochs:
            jax.block_until_ready(_advance(step.unlearner, state, data, empty))


def check_finite(
    name: str, unlearner: Unlearner[Any], epoch: int, finite: Array, metrics: Metrics
) -> dict[str, float]:
    """Returns the epoch's metrics as floats, if the loss and the model are finite.

    Raises:
      DivergenceError: names step, algorithm, epoch, batch, and a remedy to try.
    """
    numbers = {key: float(np.asarray(value)) for key, value in metrics.items()}
    batch = int(numbers.pop("diverged_at", -1))
    if batch < 0 and bool(finite):
        return numbers

    # Before any step, no hyper-parameter is to blame.
    where = f"at batch {batch + 1}" if batch >= 0 else "after its last batch"
    if batch == 0 and epoch == 0:
        hint = (
            " There was no step before it, so a smaller one does not help: look at the range of "
            "the images, the labels, and the variables it started from."
        )
    else:
        length = "learning_rate" if hasattr(unlearner, "learning_rate") else "alpha"
        rate = getattr(unlearner, length, None)
        hint = "" if rate is None else f" Try {length} below {float(rate):g}"
        if hasattr(unlearner, "forget_loss_cap"):
            hint += " or a forget_loss_cap"
    raise DivergenceError(
        f"{type(unlearner).__name__} ({name}) diverged in epoch {epoch + 1} of "
        f"{unlearner.epochs} {where}: the loss or a parameter is not finite.{hint}"
    )


@jax.jit
def _start(
    unlearner: Unlearner[Any], key: Key, variables: Variables, data: Dataset, task: Task
) -> Any:
    """Returns the state before the first epoch."""
    # `_advance` donates the state, so it must not share buffers with the caller's variables.
    return unlearner.init(key, jax.tree.map(jnp.copy, variables), data, task)


@partial(jax.jit, donate_argnums=1)
def _advance(
    unlearner: Unlearner[Any], state: Any, data: Dataset, task: Task
) -> tuple[Any, Array, Metrics]:
    """Runs an epoch, and tests whether the model is finite after it."""
    state, metrics = unlearner.epoch(state, data, task)
    return state, all_finite(unlearner.finish(state)), metrics


def all_finite(variables: Variables) -> Array:
    """Tests whether every number of the variables is finite; bool[]."""
    return jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(variables)]).all()
