"""SFR-on: weighted ascent on the forget set where it matters, amid descent on the retain set."""

from typing import Any, ClassVar, NamedTuple, Unpack

import chex
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from rumjax.descent import Moment, Sgd, SgdOptions, clipped, count_leaf, number_leaf, sgd_fields
from rumjax.errors import check_choice
from rumjax.gradients import batch_squared_gradient, mean_squared_gradient
from rumjax.losses import weighted_mean
from rumjax.models import Model
from rumjax.sampling import shuffled, steps_per_pass
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Subset,
    Task,
    TrainState,
    Variables,
    record,
    static,
)
from rumjax.unlearn.cards import card

IMPORTANCES = ("example", "batch")
LEAST_LOSS = 1e-6
"""Losses below it weigh like it, lest one perfectly fitted example take the whole batch"""


class Memory(NamedTuple):
    """What SFR-on keeps beside the model."""

    mask: PyTree
    """bool, like the parameters: where S matters at least `threshold` times as much as R"""
    key: Key
    """of the order in which S is gone through"""


@record
class SfrOn(Sgd):
    """Maximizes a weighted CE on S, masked, every few steps; minimizes CE on R in all."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    importance: str = static()
    forget_every: Array
    alpha: Array
    exponent: Array
    threshold: Array
    clip_norm: Array
    beta: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Takes the mask before anything moves, and keeps it."""
        order_key, key = jax.random.split(key)
        forget, retain = (self.squares(variables, data, part) for part in task)
        mask = jax.tree.map(
            lambda lost, kept: (lost + 1e-15) / (kept + 1e-15) >= self.threshold, forget, retain
        )
        state = super().init(key, variables, data, task)
        return state._replace(memory=Memory(mask, order_key))

    def squares(self, variables: Variables, data: Dataset, chosen: Subset) -> PyTree:
        """Returns the mean of squared gradients over a subset, of examples or of batches."""
        if self.importance == "example":
            return mean_squared_gradient(self.model, variables, data, chosen)
        return batch_squared_gradient(
            self.model, variables, data, chosen, batch_size=self.batch_size
        )

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R; every `forget_every`-th of its steps, a forget step comes first."""

        def salient(gradient: PyTree) -> PyTree:
            masked = jax.tree.map(jnp.multiply, gradient, state.memory.mask)
            return clipped(masked, self.clip_norm)

        def turn(moment: Moment, variables: Variables, optimizer: PyTree, retain: Batch) -> Any:
            step = state.epoch * moment.steps + moment.step
            fading = (1 + jnp.cos(jnp.pi * moment.progress / self.epochs)) / 2

            def forget_loss(variables: Variables, forget: Batch) -> tuple[Array, Variables]:
                outputs, variables = self.forward(variables, forget)
                ascent = focused_loss(outputs.logits, forget, self.exponent)
                return -self.alpha * fading * ascent, variables

            def forget_step(_: Array, carry: tuple[Variables, PyTree]) -> tuple[Variables, PyTree]:
                batch = self.forget_batch(state, data, task.forget, step // self.forget_every)
                variables, optimizer, _ = self.step(
                    *carry, forget_loss, batch, rate=fading, transform=salient
                )
                return variables, optimizer

            # A loop of one round or none is skipped in vmap too, and copies no data, unlike `cond`.
            due = (step % self.forget_every == 0).astype(jnp.int32)
            fast, optimizer = jax.lax.fori_loop(0, due, forget_step, (variables, optimizer))
            fast, optimizer, value = self.step(
                fast, optimizer, self.cross_entropy, retain, rate=fading
            )

            # The slow parameters follow the fast ones; batch statistics are those of the fast.
            params = jax.tree.map(
                lambda slow, ahead: (1 - self.beta) * slow + self.beta * ahead,
                variables.params,
                fast.params,
            )
            return fast._replace(params=params), optimizer, value

        return self.turns(state, data, (task.retain,), turn)

    def forget_batch(
        self, state: TrainState, data: Dataset, forget: Subset, number: Array
    ) -> Batch:
        """Returns a batch of S by its number since the start; every round is shuffled afresh."""
        rounds = jnp.maximum(steps_per_pass(forget, self.batch_size), 1)
        order = shuffled(jax.random.fold_in(state.memory.key, 2 * (number // rounds)), forget)
        key = jax.random.fold_in(state.memory.key, 2 * number + 1)
        return self.batch(key, data, forget, order, number % rounds)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the passes over R, the batches of S beside them, and one of each for the mask."""
        turns = self.epochs * -(-retain // self.batch_size)
        forget_steps = -(-turns // int(self.forget_every))
        ascent = self.cycled(forget, forget_steps * self.batch_size)
        return forget + retain + self.epochs * retain + ascent


def focused_loss(logits: Array, batch: Batch, exponent: ArrayLike) -> Array:
    """Returns the mean of w_i·CE_i over examples of weight 1, w_i ∝ CE_i^−λ; float32[].

    The w_i sum up to the number of examples and are constants, so what the model has not forgotten
    yet counts most. Of CE_i below 1e-6, the weights are those of 1e-6.

    Args:
      logits: float32[B, K].
      batch: their labels and weights.
      exponent: λ; with 0, the result is the mean of CE.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0], [0.0, 0.0]])
      >>> batch = Batch(logits, jnp.array([0, 0]), jnp.ones(2), None, jnp.arange(2))
      >>> [round(float(focused_loss(logits, batch, power)), 3) for power in (0.0, 1.0)]
      [0.41, 0.215]
    """
    chex.assert_rank([logits, batch.labels], [2, 1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    # Powers of ratios to the least loss, which cannot overflow.
    bounded = jnp.maximum(jax.lax.stop_gradient(losses), LEAST_LOSS)
    least = jnp.min(jnp.where(batch.weights > 0, bounded, jnp.inf))
    powers = batch.weights * jnp.where(batch.weights > 0, least / bounded, 0.0) ** exponent
    shares = powers / jnp.maximum(jnp.sum(powers), 1.0)
    return weighted_mean(shares * jnp.sum(batch.weights) * losses, batch.weights)


@card(
    "CE on R, and every few steps −CE on S in the parameters that matter more to S than to R",
    "Huang et al., NeurIPS 2024",
    ("S", "R"),
)
def sfr_on(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 0.01,
    forget_every: int = 5,
    alpha: ArrayLike = 25.0,
    exponent: ArrayLike = 0.5,
    threshold: ArrayLike = 1.0,
    clip_norm: ArrayLike = 7.0,
    beta: ArrayLike = 1.0,
    importance: str = "example",
    **options: Unpack[SgdOptions],
) -> SfrOn:
    """Makes SFR-on, saliency forgetting in the remain-preserving manifold.

    (Huang et al., NeurIPS 2024.) Of its n steps, every f-th begins with one along the gradient of
    −a_t·mean(w·CE) on a batch of S, w ∝ CE^−λ, masked to the parameters whose squared gradient on S
    is at least γ times that on R, and clipped. A step along the gradient of CE on a batch of R
    follows in all. Then the parameters go the share β of the way from where the two steps began to
    where they ended. a_t and the learning rate fall to 0 along a cosine.

    With β = 1, which the authors' released code uses throughout, the last is void: what the paper
    calls fast and slow updates is plain alternation. Momentum is common to both kinds of step, so
    the mask holds for gradients of S, and not for what moves. The released code squares means of
    batches, which `importance="batch"` does; its weights of S have no bound.

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the authors' 1500 steps of CIFAR-10 are 4.7 of 40 500 examples.
      learning_rate: at the start.
      forget_every: f, steps from one on S to the next, the first at the very start; at least 1.
      alpha: a, the weight of S at the start; 25 for CIFAR-10, 500 for Tiny-ImageNet.
      exponent: λ, at least 0; 0 weighs all examples of S alike.
      threshold: γ; 0 masks nothing.
      clip_norm: the largest norm of a masked gradient of S.
      beta: β, 0…1; with 0, parameters stay as they are.
      importance: "example", mean squares of examples' gradients; or "batch", of batches' means.
      **options: see `SgdOptions`; by default 128 examples of S and of R per step.

    Raises:
      InvalidInputError: a number is out of range, or an unknown importance.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = sfr_on(Model(Cnn(10)), epochs=2, forget_every=3, beta=0.5)
      >>> int(unlearner.forget_every), float(unlearner.beta), unlearner.batch_size
      (3, 0.5, 128)
    """
    defaults: SgdOptions = {"batch_size": 128}
    return SfrOn(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        importance=check_choice("importance", importance, IMPORTANCES),
        forget_every=count_leaf("forget_every", forget_every),
        alpha=number_leaf("alpha", alpha),
        exponent=number_leaf("exponent", exponent),
        threshold=number_leaf("threshold", threshold),
        clip_norm=number_leaf("clip_norm", clip_norm),
        beta=number_leaf("beta", beta, most=1.0),
    )
