"""Sharp MinMax: a sharp minimum for the forget set, and a flat one for the retain set."""

import dataclasses
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Moment, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import check_choice
from rumjax.models import Model
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Task,
    TrainState,
    Variables,
    record,
    static,
)
from rumjax.unlearn.ascent import NegGradPlus, cap_leaf, capped
from rumjax.unlearn.cards import card
from rumjax.unlearn.relabelling import SALIENCIES, largest


@record
class SharpMinMax(NegGradPlus):
    """Minimizes β·CE on R by parameters outside a mask, −(1−β)·CE on S by those inside."""

    saliency: str = static()
    mask_fraction: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Takes the saliency mask before anything moves; R and S have an optimizer each."""
        gradient = SALIENCIES[self.saliency]
        saliency = gradient(self.model, variables, data, task.forget, batch_size=self.batch_size)
        state = super().init(key, variables, data, task)
        # The barrier keeps the compiler from letting the two share a buffer.
        optimizers = jax.lax.optimization_barrier((state.optimizer, state.optimizer))
        return state._replace(optimizer=optimizers, memory=largest(saliency, self.mask_fraction))

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R, S cycled along with fresh shuffles; a step for each batch."""
        inside = state.memory
        outside = jax.tree.map(jnp.logical_not, inside)
        sharper = dataclasses.replace(self, sharpness_strength=-self.sharpness_strength)

        def retain_loss(variables: Variables, retain: Batch) -> tuple[Array, Variables]:
            descent, variables = self.cross_entropy(variables, retain)
            return self.beta * descent, variables

        def forget_loss(variables: Variables, forget: Batch) -> tuple[Array, Variables]:
            ascent, variables = self.cross_entropy(variables, forget)
            return (self.beta - 1) * capped(ascent, self.forget_loss_cap), variables

        def turn(
            _: Moment, variables: Variables, optimizers: PyTree, retain: Batch, forget: Batch
        ) -> Any:
            # Masks hold for whole steps, after sharpness, momentum and weight decay.
            first, second = optimizers
            variables, first, kept = self.step(variables, first, retain_loss, retain, mask=outside)
            variables, second, lost = sharper.step(
                variables, second, forget_loss, forget, mask=inside
            )
            return variables, (first, second), kept + lost

        return self.turns(state, data, (task.retain, task.forget), turn)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the pass over S that the mask takes as well."""
        return forget + super().gradients(forget, retain, data)


@card(
    "β·CE on R and −(1−β)·CE on S, each in parameters of its own; flat for R, sharp for S",
    "Tang & Khanna, ICLR 2026",
    ("S", "R"),
)
def sharp_minmax(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    beta: ArrayLike = 0.99,
    mask_fraction: ArrayLike = 0.3,
    saliency: str = "mean",
    forget_loss_cap: ArrayLike | None = None,
    **options: Unpack[SgdOptions],
) -> SharpMinMax:
    """Makes Sharp MinMax, which sets parameters apart for forgetting (Tang & Khanna, ICLR 2026).

    Every turn takes two steps, each by an optimizer of its own. The first minimizes β·CE on a batch
    of R by SAM, and moves the parameters outside a mask; the second minimizes −(1−β)·CE on a batch
    of S by SAM with its sign turned, and moves those inside, where |∇ CE on S| at the given model
    is largest. The masks hold for whole steps. In the authors' released code they hold for the
    gradient uphill only, so that twice the plain gradient of S moves all other parameters, and so
    do momentum and weight decay.

    Args:
      model: the architecture of the original model.
      epochs: passes over R, with a batch of S beside each of its batches.
      learning_rate: constant, of both.
      beta: β, the weight of R; the authors' released default.
      mask_fraction: fraction of the parameters that move for S; the authors search .1–.5.
      saliency: see `rumjax.salun`.
      forget_loss_cap: see `rumjax.neggrad_plus`.
      **options: see `SgdOptions`. By default `sharpness` is "sam"; the authors report "asam" too,
        and "none" is for comparison. `sharpness_strength` is that of R, its negative that of S.

    Raises:
      InvalidInputError: a number is out of range, or an unknown saliency or sharpness.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = sharp_minmax(Model(Cnn(10)), sharpness="asam", mask_fraction=0.25)
      >>> float(unlearner.mask_fraction), float(unlearner.sharpness_radius)
      (0.25, 1.0)
    """
    defaults: SgdOptions = {"sharpness": "sam"}
    return SharpMinMax(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        beta=number_leaf("beta", beta, most=1.0),
        forget_loss_cap=cap_leaf(forget_loss_cap),
        saliency=check_choice("saliency", saliency, tuple(SALIENCIES)),
        mask_fraction=number_leaf("mask_fraction", mask_fraction, most=1.0),
    )
