"""Training by a recipe: from scratch, on what a task retains.

A recipe is an unlearner too, the one called `retrain`. The original model is trained by the same
recipe on a task that forgets nothing, so the two cannot drift apart.
"""

from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_choice, check_number, check_scalar, shown
from rumjax.losses import cross_entropy
from rumjax.models import Model
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    Task,
    TrainState,
    Variables,
    record,
    static,
)

SCHEDULES = ("constant", "cosine", "steps")


@record
class Recipe(Sgd):
    """Training from scratch on what the task retains: θo on all of D, the oracle θr on R."""

    from_scratch: ClassVar[bool] = True
    """it needs no variables to start from"""

    schedule: str = static()
    milestones: tuple[float, ...] = static()
    decay: Array
    warm_up: Array
    label_smoothing: Array

    def init(self, key: Key, variables: Variables | None, data: Dataset, task: Task) -> TrainState:
        """Initializes fresh variables; those given are not used."""
        init_key, key = jax.random.split(key)
        return super().init(key, self.model.init(init_key, data.images[:1]), data, task)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R, minimizing cross-entropy on the schedule."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            return cross_entropy(outputs.logits, batch, smoothing=self.label_smoothing), variables

        return self.descend(state, data, (task.retain,), loss, rate=self.rate)

    def rate(self, progress: Array) -> ArrayLike:
        """Returns the factor of the learning rate after `progress` epochs."""
        factor: ArrayLike = 1.0
        if self.schedule == "cosine":
            # Not optax's: the number of epochs is traced, so that it costs no compilation.
            since, whole = progress - self.warm_up, self.epochs - self.warm_up
            factor = (1 + jnp.cos(jnp.pi * since / whole)) / 2
        elif self.schedule == "steps":
            passed = sum((progress >= epoch).astype(jnp.float32) for epoch in self.milestones)
            factor = self.decay**passed
        risen = progress / jnp.maximum(self.warm_up, 1e-6)
        return jnp.where(progress < self.warm_up, risen, factor)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over R."""
        return self.epochs * retain


def recipe(
    model: Model,
    *,
    epochs: int,
    learning_rate: ArrayLike = 0.1,
    schedule: str = "cosine",
    milestones: tuple[float, ...] = (),
    decay: ArrayLike = 0.2,
    warm_up: ArrayLike = 0.0,
    label_smoothing: ArrayLike = 0.0,
    **options: Unpack[SgdOptions],
) -> Recipe:
    """Makes a training recipe: an unlearner that trains from scratch on what the task retains.

    Args:
      model: the architecture.
      epochs: passes over the training subset.
      learning_rate: at the start.
      schedule: "constant", "cosine" (to 0 at the end, step by step), or "steps".
      milestones: for "steps", the epochs at which the rate is multiplied by `decay`.
      decay: see `milestones`.
      warm_up: epochs in which the rate rises from 0 in a straight line; a cosine falls from there
        on, milestones are still counted from the start.
      label_smoothing: the share of a label that all classes get alike, 0…1; see `cross_entropy`.
      **options: see `SgdOptions`.

    Raises:
      InvalidInputError: an unknown schedule, milestones that are no tuple, without "steps" or the
        other way round, beyond the last epoch or repeated, or numbers out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> retrain = recipe(Model(Cnn(10)), epochs=20, schedule="steps", milestones=(10, 15))
      >>> retrain.epochs, round(float(retrain.rate(jnp.float32(12))), 3)
      (20, 0.2)
    """
    check_choice("schedule", schedule, SCHEDULES)
    if not isinstance(milestones, tuple | list):
        raise InvalidInputError(
            f"milestones: wanted epochs like (60, 120), got {shown(milestones)}"
        )
    milestones = tuple(check_scalar("milestones", milestone) for milestone in milestones)
    if bool(milestones) != (schedule == "steps"):
        raise InvalidInputError(f"milestones: {milestones} do not go with schedule {schedule!r}")
    sgd = sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options)
    useless = [one for one in milestones if not 0 < one < sgd["epochs"]]
    if useless or len(set(milestones)) < len(milestones):
        raise InvalidInputError(
            f"milestones: wanted different epochs between 0 and {sgd['epochs']}, got {milestones}"
        )
    if not isinstance(decay, jax.core.Tracer) and not np.all(check_number("decay", decay)):
        raise InvalidInputError(f"decay: wanted a number above 0, got {decay!s}")
    return Recipe(
        **sgd,
        schedule=schedule,
        milestones=milestones,
        decay=number_leaf("decay", decay),
        warm_up=number_leaf("warm_up", warm_up, most=sgd["epochs"]),
        label_smoothing=number_leaf("label_smoothing", label_smoothing, most=1.0),
    )
