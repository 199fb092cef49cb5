"""Stochastic gradient descent, once: training and every iterative unlearner are built from it.

`Sgd` holds how a pass over a subset is done; `Recipe` is plain training with it. A recipe is an
unlearner too, the one called `retrain`: training from scratch on what a task retains. The original
model is trained by the same recipe on a task that forgets nothing, so the two cannot drift apart.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, TypedDict, Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from rumjax.data.augment import Augmentation
from rumjax.errors import (
    InvalidInputError,
    check_choice,
    check_count,
    check_number,
    check_scalar,
    shown,
)
from rumjax.mesh import across_devices
from rumjax.models import Model
from rumjax.models.checks import check_model
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    Outputs,
    PyTree,
    Subset,
    Task,
    TrainState,
    Variables,
    record,
    static,
)

BATCH_NORM = ("update", "freeze")
SCHEDULES = ("constant", "cosine", "steps")


Loss: TypeAlias = Callable[..., tuple[Array, Variables]]
"""From variables and one batch per subset to a scalar, and the variables after the forward pass."""


def cross_entropy(logits: Array, batch: Batch, *, smoothing: ArrayLike | None = None) -> Array:
    """Returns the mean cross-entropy of float32[B, K] logits over examples of weight 1; float32[].

    `smoothing`, in 0…1, is the share of a label that all K classes get alike, its own as well
    (Szegedy et al., CVPR 2016). At 0 the loss and its gradient are those without, to the bit.

    Examples:
      >>> batch = Batch(jnp.zeros((2, 4, 4, 1)), jnp.array([0, 1]), jnp.array([1.0, 0.0]), None)
      >>> round(float(cross_entropy(jnp.zeros((2, 2)), batch)), 3)
      0.693
    """
    chex.assert_rank([logits, batch.labels], [2, 1])
    chex.assert_equal_shape_prefix([logits, batch.labels], 1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    if smoothing is not None:
        of_all_classes = -jax.nn.log_softmax(logits).mean(axis=-1)
        losses += smoothing * (of_all_classes - losses)
    return weighted_mean(losses, batch.weights)


def weighted_mean(values: Array, weights: Array) -> Array:
    """Returns the mean of float32[B] with weights 0 or 1; 0 if all weights are 0."""
    chex.assert_equal_shape([values, weights])
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def shuffled(key: Key, subset: Subset) -> Array:
    """Returns the subset's indices in random order, int32[capacity], the padding last."""
    chex.assert_rank(subset.indices, 1)
    position = jnp.arange(subset.indices.shape[0])
    noise = jax.random.uniform(key, position.shape, jnp.float32)
    return subset.indices[jnp.argsort(jnp.where(position < subset.size, noise, jnp.inf))]


def steps_per_pass(subset: Subset, batch_size: int) -> Array:
    """Returns the number of batches in a pass over the subset, the last maybe partial; int32[]."""
    return -(-subset.size // batch_size)


@record
class Sgd:
    """Minibatch SGD with momentum and L2 weight decay, as in PyTorch.

    The last batch of a pass is filled up with examples of the same subset, which count in the
    batch-norm statistics and not in the loss; so every example weighs once per pass, and a subset
    smaller than a batch is no special case.
    """

    model: Model = static()
    batch_size: int = static()
    augmentation: Augmentation = static()
    batch_norm: str = static()
    """"update": batch statistics in the forward pass, running ones updated; "freeze": running
    statistics are used and stay as they are"""
    epochs: int
    learning_rate: Array
    momentum: Array
    weight_decay: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Returns the state before the first epoch: no momentum yet."""
        del data, task
        optimizer = self.optimizer().init(variables.params)
        return TrainState(key, variables, optimizer, jnp.int32(0))

    def epoch(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one epoch: the algorithm's passes."""
        state, metrics = self.passes(state, data, task)
        return state._replace(epoch=state.epoch + 1), metrics

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs an algorithm's passes of an epoch: one or more calls of `descend`."""
        raise TypeError(f"{type(self).__name__} does not define passes")

    def finish(self, state: TrainState) -> Variables:
        """Returns the variables of the state."""
        return state.variables

    def optimizer(self, rate: ArrayLike = 1.0) -> optax.GradientTransformation:
        """Returns SGD at `rate` times the learning rate."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.sgd(self.learning_rate * rate, momentum=self.momentum),
        )

    def forward(self, variables: Variables, batch: Batch) -> tuple[Outputs, Variables]:
        """Returns outputs on a batch, and variables whose batch statistics follow `batch_norm`."""
        outputs, batch_stats = self.model.apply(
            variables, batch.images, train=self.batch_norm == "update", key=batch.key
        )
        return outputs, variables._replace(batch_stats=batch_stats)

    def batch(self, key: Key, data: Dataset, subset: Subset, order: Array, step: Array) -> Batch:
        """Returns batch number `step` of a pass in this order, augmented and shared out."""
        position = step * self.batch_size + jnp.arange(self.batch_size)
        chosen = order[position % jnp.maximum(subset.size, 1)]
        augment_key, forward_key = jax.random.split(key)
        images = self.augmentation(augment_key, data.images[chosen])
        weights = (position < subset.size).astype(jnp.float32)
        return Batch(*across_devices((images, data.labels[chosen], weights)), key=forward_key)

    def descend(
        self,
        state: TrainState,
        data: Dataset,
        subsets: tuple[Subset, ...],
        loss: Loss,
        *,
        rate: Callable[[Array], ArrayLike] = lambda progress: 1.0,
        mask: PyTree | None = None,
    ) -> tuple[TrainState, Metrics]:
        """Descends for a pass over the first subset; the others are cycled with fresh shuffles.

        Args:
          state: where to start; its key is split, its epoch counter left alone.
          data: all examples.
          subsets: each step draws one batch from each.
          loss: to be minimized, a function of those batches.
          rate: factor of the learning rate at a progress measured in epochs.
          mask: booleans like the parameters; where False, a parameter stays bit-identical.

        Returns:
          The new state, `loss` (mean over the steps) and `diverged_at` (the first step whose loss
          was not finite, or -1).
        """
        # The order of the first subset, and the steps of a pass over it.
        next_key, key = jax.random.split(state.key)
        main, *cycled = subsets
        order = shuffled(jax.random.fold_in(key, 0), main)
        steps = steps_per_pass(main, self.batch_size)

        def body(step: Array, carry: Any) -> Any:
            # A batch of every subset; those that are cycled are shuffled when they begin again.
            variables, optimizer_state, orders, total, diverged_at = carry
            step_key = jax.random.fold_in(key, step + 1)
            main_key, *other_keys = jax.random.split(step_key, len(subsets))
            batches = [self.batch(main_key, data, main, order, step)]
            for i, (other, other_key) in enumerate(zip(cycled, other_keys, strict=True)):
                shuffle_key, batch_key = jax.random.split(other_key)
                turn = step % jnp.maximum(steps_per_pass(other, self.batch_size), 1)
                orders[i] = jax.lax.cond(
                    turn == 0, shuffled, lambda _, __, old=orders[i]: old, shuffle_key, other
                )
                batches.append(self.batch(batch_key, data, other, orders[i], turn))

            # The gradient of the loss with respect to the parameters.
            def objective(params: PyTree) -> tuple[Array, Variables]:
                value, after = loss(variables._replace(params=params), *batches)
                return value.astype(jnp.float32), after

            (value, after), gradient = jax.value_and_grad(objective, has_aux=True)(variables.params)

            # A step of SGD, where the mask lets it move.
            optimizer = self.optimizer(rate(state.epoch + step / steps))
            updates, optimizer_state = optimizer.update(gradient, optimizer_state, variables.params)
            params = optax.apply_updates(variables.params, keep_masked(updates, mask))
            first_bad = (diverged_at < 0) & ~jnp.isfinite(value)
            diverged_at = jnp.where(first_bad, step, diverged_at)
            return (
                after._replace(params=params),
                optimizer_state,
                orders,
                total + value,
                diverged_at,
            )

        # All steps, from no loss and no divergence.
        variables, optimizer_state, _, total, diverged_at = jax.lax.fori_loop(
            0,
            steps,
            body,
            (
                state.variables,
                state.optimizer,
                [other.indices for other in cycled],
                jnp.float32(0),
                jnp.int32(-1),
            ),
        )
        metrics = {"loss": total / jnp.maximum(steps, 1), "diverged_at": diverged_at}
        return state._replace(key=next_key, variables=variables, optimizer=optimizer_state), metrics


def keep_masked(updates: PyTree, mask: PyTree | None) -> PyTree:
    """Returns updates that leave parameters outside the mask bit-identical.

    The mask acts here, after momentum and weight decay, and not on gradients: both would move
    masked parameters. Void is -0.0, since adding +0.0 would turn a parameter of -0.0 into +0.0.
    """
    if mask is None:
        return updates
    return jax.tree.map(lambda update, kept: jnp.where(kept, update, -0.0), updates, mask)


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


class SgdOptions(TypedDict, total=False):
    """Options of every factory that is built on SGD; the defaults are the paper's."""

    batch_size: int
    """examples per step (256)"""
    momentum: ArrayLike
    """of SGD (0.9)"""
    weight_decay: ArrayLike
    """L2, on every parameter (5e-4)"""
    augmentation: Augmentation
    """applied to uint8 images inside the compiled step (none)"""
    batch_norm: str
    """"update" (the default) or "freeze", see `Sgd`"""


def number_leaf(what: str, value: ArrayLike, *, least: float = 0.0, most: float = np.inf) -> Array:
    """Returns a checked number as a leaf of a record: float32 on the device.

    So int, float and array share one compilation. For arguments and errors see
    `rumjax.errors.check_number`. Inside `jax.vmap` over a number, its range is not checked.
    """
    if isinstance(value, jax.core.Tracer):
        return jnp.asarray(value, jnp.float32)
    return jnp.asarray(check_number(what, value, least=least, most=most))


def sgd_fields(
    model: Model,
    *,
    epochs: int,
    learning_rate: ArrayLike,
    batch_size: int = 256,
    momentum: ArrayLike = 0.9,
    weight_decay: ArrayLike = 5e-4,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
    batch_norm: str = "update",
    **unknown: Any,
) -> dict[str, Any]:
    """Returns the validated fields of `Sgd`, for the factories of its records.

    Raises:
      InvalidInputError: a count below 1, a negative or non-finite number, an unknown policy or
        option.
    """
    for name in unknown:
        check_choice("option", name, ("epochs", "learning_rate", *SgdOptions.__annotations__))
    if not callable(augmentation):
        raise InvalidInputError(
            f"augmentation: wanted rumjax.data.augmentation(name), got {shown(augmentation)}"
        )
    return {
        "model": check_model(model),
        "epochs": check_count("epochs", epochs),
        "batch_size": check_count("batch_size", batch_size),
        "augmentation": augmentation,
        "batch_norm": check_choice("batch-norm policy", batch_norm, BATCH_NORM),
        "learning_rate": number_leaf("learning_rate", learning_rate),
        "momentum": number_leaf("momentum", momentum, most=1.0),
        "weight_decay": number_leaf("weight_decay", weight_decay),
    }


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
