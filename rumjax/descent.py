"""Stochastic gradient descent, once: training and every iterative unlearner are built from it.

`Sgd` holds how a pass over a subset is done: `descend` takes one step of an optimizer for every
batch, and `turns` whatever an algorithm does in a turn, two steps of different losses for instance.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from rumjax.data.augment import Augmentation
from rumjax.errors import InvalidInputError, check_choice, check_count, check_number, shown
from rumjax.losses import cross_entropy
from rumjax.mesh import across_devices
from rumjax.models import Model
from rumjax.models.checks import check_model, is_traced
from rumjax.sampling import shuffled, steps_per_pass
from rumjax.sharpness import RADII, SHARPNESS, sharpened
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
OPTIMIZERS = ("sgd", "adam", "adamw")

Loss: TypeAlias = Callable[..., tuple[Array, Variables]]
"""From variables and batches to a scalar, and the variables after the forward pass."""
Turn: TypeAlias = Callable[..., tuple[Variables, PyTree, Array]]
"""From a moment, variables, the optimizer's state and one batch per subset to the next variables
and state, and the loss, float32[]."""


class Moment(NamedTuple):
    """Where in a pass a turn is."""

    step: Array
    """int32[], from 0"""
    steps: Array
    """int32[], how many the pass has"""
    progress: Array
    """float32[], epochs done, this one in part"""


@record
class Sgd:
    """Minibatch descent by SGD with momentum and L2 weight decay as in PyTorch, or by Adam.

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
    optimizer: str = static()
    """one of `OPTIMIZERS`, see `SgdOptions`"""
    sharpness: str = static()
    """one of `SHARPNESS`, see `SgdOptions`"""
    epochs: int
    learning_rate: Array
    momentum: Array
    weight_decay: Array
    sharpness_radius: Array
    sharpness_strength: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Returns the state before the first epoch: no momentum yet."""
        del data, task
        optimizer = self.update_rule().init(variables.params)
        return TrainState(key, variables, optimizer, jnp.int32(0))

    def epoch(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one epoch: the algorithm's passes."""
        state, metrics = self.passes(state, data, task)
        return state._replace(epoch=state.epoch + 1), metrics

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs an algorithm's passes of an epoch: one or more calls of `descend` or `turns`."""
        raise TypeError(f"{type(self).__name__} does not define passes")

    def finish(self, state: TrainState) -> Variables:
        """Returns the variables of the state."""
        return state.variables

    def cycled(self, other: int, main: int) -> int:
        """Counts examples of a set that is cycled along with a pass over `main` of another."""
        rounds, rest = divmod(-(-main // self.batch_size), max(1, -(-other // self.batch_size)))
        return rounds * other + min(rest * self.batch_size, other)

    def update_rule(self, rate: ArrayLike = 1.0) -> optax.GradientTransformation:
        """Returns the optimizer at `rate` times the learning rate."""
        rate = self.learning_rate * rate
        if self.optimizer == "adamw":
            return optax.adamw(rate, b1=self.momentum, weight_decay=self.weight_decay)
        if self.optimizer == "adam":
            rule = optax.adam(rate, b1=self.momentum)
        else:
            rule = optax.sgd(rate, momentum=self.momentum)
        return optax.chain(optax.add_decayed_weights(self.weight_decay), rule)

    def forward(self, variables: Variables, batch: Batch) -> tuple[Outputs, Variables]:
        """Returns outputs on a batch, and variables whose batch statistics follow `batch_norm`."""
        outputs, batch_stats = self.model.apply(
            variables, batch.images, train=self.batch_norm == "update", key=batch.key
        )
        return outputs, variables._replace(batch_stats=batch_stats)

    def cross_entropy(self, variables: Variables, batch: Batch) -> tuple[Array, Variables]:
        """Returns the mean cross-entropy of a batch, float32[], and variables; see `forward`."""
        outputs, variables = self.forward(variables, batch)
        return cross_entropy(outputs.logits, batch), variables

    def batch(self, key: Key, data: Dataset, subset: Subset, order: Array, step: Array) -> Batch:
        """Returns batch number `step` of a pass in this order, augmented and shared out."""
        position = step * self.batch_size + jnp.arange(self.batch_size)
        chosen = order[position % jnp.maximum(subset.size, 1)]
        augment_key, forward_key = jax.random.split(key)
        images = self.augmentation(augment_key, data.images[chosen])
        weights = (position < subset.size).astype(jnp.float32)
        shared = across_devices((images, data.labels[chosen], weights, chosen))
        images, labels, weights, chosen = shared
        return Batch(images, labels, weights, forward_key, chosen)

    def step(
        self,
        variables: Variables,
        optimizer: PyTree,
        loss: Loss,
        *batches: Batch,
        rate: ArrayLike = 1.0,
        transform: Callable[[PyTree], PyTree] | None = None,
        mask: PyTree | None = None,
    ) -> tuple[Variables, PyTree, Array]:
        """Takes one step of the optimizer.

        Args:
          variables: where it starts.
          optimizer: the state of `update_rule`.
          loss: to be minimized, a function of variables and the batches.
          *batches: what the loss is of.
          rate: factor of the learning rate.
          transform: changes the gradient before the optimizer sees it; see `clipped`, for instance.
          mask: booleans like the parameters; where False, a parameter stays bit-identical.

        Returns:
          Variables and state after the step, and the loss before it, float32[].
        """

        # The gradient of the loss with respect to the parameters.
        def objective(params: PyTree) -> tuple[Array, Variables]:
            value, after = loss(variables._replace(params=params), *batches)
            return value.astype(jnp.float32), after

        (value, after), gradient = jax.value_and_grad(objective, has_aux=True)(variables.params)
        if self.sharpness != "none":
            gradient = sharpened(
                lambda params: jax.grad(objective, has_aux=True)(params)[0],
                variables.params,
                gradient,
                adaptive=self.sharpness == "asam",
                radius=self.sharpness_radius,
                strength=self.sharpness_strength,
            )
        if transform is not None:
            gradient = transform(gradient)

        # A step of the optimizer, where the mask lets it move.
        rule = self.update_rule(rate)
        updates, optimizer = rule.update(gradient, optimizer, variables.params)
        params = optax.apply_updates(variables.params, keep_masked(updates, mask))
        return after._replace(params=params), optimizer, value

    def descend(
        self,
        state: TrainState,
        data: Dataset,
        subsets: tuple[Subset, ...],
        loss: Loss,
        *,
        rate: Callable[[Array], ArrayLike] = lambda progress: 1.0,
        transform: Callable[[PyTree], PyTree] | None = None,
        mask: PyTree | None = None,
    ) -> tuple[TrainState, Metrics]:
        """Takes a step for every batch of the first subset; see `turns` and `step`.

        Args:
          state: where to start; its key is split, its epoch counter left alone.
          data: all examples.
          subsets: each step draws one batch from each.
          loss: to be minimized, a function of those batches.
          rate: factor of the learning rate at a progress measured in epochs.
          transform: changes the gradient before the optimizer.
          mask: booleans like the parameters; where False, a parameter stays bit-identical.

        Returns:
          See `turns`.
        """

        def turn(moment: Moment, variables: Variables, optimizer: PyTree, *batches: Batch) -> Any:
            factor = rate(moment.progress)
            return self.step(
                variables, optimizer, loss, *batches, rate=factor, transform=transform, mask=mask
            )

        return self.turns(state, data, subsets, turn)

    def turns(
        self, state: TrainState, data: Dataset, subsets: tuple[Subset, ...], turn: Turn
    ) -> tuple[TrainState, Metrics]:
        """Runs a pass over the first subset; the others are cycled with fresh shuffles.

        Args:
          state: where to start; its key is split, its epoch counter left alone.
          data: all examples.
          subsets: each turn is given one batch from each.
          turn: what is done with those batches.

        Returns:
          The new state, `loss` (mean over the turns) and `diverged_at` (the first turn whose loss
          was not finite, or -1).
        """
        # The order of the first subset, and the steps of a pass over it.
        next_key, key = jax.random.split(state.key)
        main, *cycled = subsets
        order = shuffled(jax.random.fold_in(key, 0), main)
        steps = steps_per_pass(main, self.batch_size)

        def body(step: Array, carry: Any) -> Any:
            # A batch of every subset; those that are cycled are shuffled when they begin again.
            variables, optimizer, orders, total, diverged_at = carry
            step_key = jax.random.fold_in(key, step + 1)
            main_key, *other_keys = jax.random.split(step_key, len(subsets))
            batches = [self.batch(main_key, data, main, order, step)]
            for i, (other, other_key) in enumerate(zip(cycled, other_keys, strict=True)):
                shuffle_key, batch_key = jax.random.split(other_key)
                round_step = step % jnp.maximum(steps_per_pass(other, self.batch_size), 1)
                orders[i] = jax.lax.cond(
                    round_step == 0, shuffled, lambda _, __, old=orders[i]: old, shuffle_key, other
                )
                batches.append(self.batch(batch_key, data, other, orders[i], round_step))

            # What the algorithm does with them.
            moment = Moment(step, steps, state.epoch + step / steps)
            variables, optimizer, value = turn(moment, variables, optimizer, *batches)
            diverged_at = jnp.where((diverged_at < 0) & ~jnp.isfinite(value), step, diverged_at)
            return variables, optimizer, orders, total + value, diverged_at

        # All turns, from no loss and no divergence.
        variables, optimizer, _, total, diverged_at = jax.lax.fori_loop(
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
        return state._replace(key=next_key, variables=variables, optimizer=optimizer), metrics


def clipped(gradient: PyTree, norm: ArrayLike) -> PyTree:
    """Returns a gradient scaled down to a global norm, if its own exceeds that."""
    size = optax.tree.norm(gradient)
    factor = jnp.where(size > norm, norm / jnp.maximum(size, 1e-30), 1.0)
    return jax.tree.map(lambda leaf: leaf * factor, gradient)


def keep_masked(updates: PyTree, mask: PyTree | None) -> PyTree:
    """Returns updates that leave parameters outside the mask bit-identical.

    The mask acts here, after momentum and weight decay, and not on gradients: both would move
    masked parameters. Void is -0.0, since adding +0.0 would turn a parameter of -0.0 into +0.0.
    """
    if mask is None:
        return updates
    return jax.tree.map(lambda update, kept: jnp.where(kept, update, -0.0), updates, mask)


class StepOptions(TypedDict, total=False):
    """Options of whatever descends on images as they are; the defaults are the paper's."""

    batch_size: int
    """examples per step (256)"""
    optimizer: str
    """"sgd" (the default), "adam", or "adamw", whose weight decay is no part of the gradient"""
    momentum: ArrayLike
    """of SGD, and Adam's β₁ (0.9)"""
    weight_decay: ArrayLike
    """L2, on every parameter (5e-4)"""
    batch_norm: str
    """"update" (the default) or "freeze", see `Sgd`"""
    sharpness: str
    """"none" (the default); or, at two gradients a step, "sam", which takes them a little uphill
    and so finds flat minima, or "asam", in units of each parameter's magnitude"""
    sharpness_radius: ArrayLike | None
    """how far uphill (0.1, and 1.0 of "asam")"""
    sharpness_strength: ArrayLike
    """1 for SAM (the default), 0 for none; below 0, sharp minima are sought"""


class SgdOptions(StepOptions, total=False):
    """Options of almost every factory that is built on `Sgd`: augmentation besides."""

    augmentation: Augmentation
    """applied to uint8 images inside the compiled step (none)"""


def number_leaf(what: str, value: ArrayLike, *, least: float = 0.0, most: float = np.inf) -> Array:
    """Returns a checked number as a leaf of a record: float32 on the device.

    So int, float and array share one compilation. For arguments and errors see
    `rumjax.errors.check_number`. Inside `jax.vmap` over a number, its range is not checked.
    """
    if isinstance(value, jax.core.Tracer):
        return jnp.asarray(value, jnp.float32)
    return jnp.asarray(check_number(what, value, least=least, most=most))


def count_leaf(what: str, value: int, *, least: int = 1) -> Array:
    """Returns a checked count as a leaf of a record: int32 on the device."""
    return jnp.int32(check_count(what, value, least=least, most=2**31 - 1))


def sgd_fields(
    model: Model,
    *,
    epochs: int,
    learning_rate: ArrayLike,
    batch_size: int = 256,
    optimizer: str = "sgd",
    momentum: ArrayLike = 0.9,
    weight_decay: ArrayLike = 5e-4,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
    batch_norm: str = "update",
    sharpness: str = "none",
    sharpness_radius: ArrayLike | None = None,
    sharpness_strength: ArrayLike = 1.0,
    **unknown: Any,
) -> dict[str, Any]:
    """Returns the validated fields of `Sgd`, for the factories of its records.

    Raises:
      InvalidInputError: a count below 1, a negative or non-finite number, an unknown policy or
        option.
    """
    # Only options that there are, and an augmentation that can be called.
    for name in unknown:
        check_choice("option", name, ("epochs", "learning_rate", *SgdOptions.__annotations__))
    if not callable(augmentation):
        raise InvalidInputError(
            f"augmentation: wanted rumjax.data.augmentation(name), got {shown(augmentation)}"
        )

    # Sharpness has its numbers only where it is asked for.
    check_choice("sharpness", sharpness, SHARPNESS)
    if sharpness == "none" and sharpness_radius is not None:
        raise InvalidInputError("sharpness_radius: it needs sharpness='sam' or 'asam'")
    strength = number_leaf("sharpness_strength", sharpness_strength, least=-np.inf)
    if sharpness == "none" and not is_traced(strength) and np.any(np.asarray(strength) != 1):
        raise InvalidInputError("sharpness_strength: it needs sharpness='sam' or 'asam'")
    radius = RADII[sharpness] if sharpness_radius is None else sharpness_radius

    # Structure as it is, numbers as leaves.
    return {
        "model": check_model(model),
        "epochs": check_count("epochs", epochs),
        "batch_size": check_count("batch_size", batch_size),
        "augmentation": augmentation,
        "optimizer": check_choice("optimizer", optimizer, OPTIMIZERS),
        "batch_norm": check_choice("batch-norm policy", batch_norm, BATCH_NORM),
        "learning_rate": number_leaf("learning_rate", learning_rate),
        "momentum": number_leaf("momentum", momentum, most=1.0),
        "weight_decay": number_leaf("weight_decay", weight_decay),
        "sharpness": sharpness,
        "sharpness_radius": number_leaf("sharpness_radius", radius),
        "sharpness_strength": strength,
    }
