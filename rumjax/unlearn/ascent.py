"""Gradient ascent on the forget set, alone and balanced by descent on the retain set."""

from typing import ClassVar, Unpack

import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.models import Model
from rumjax.types import Array, Batch, Dataset, Metrics, Task, TrainState, Variables, record
from rumjax.unlearn.cards import card


@record
class NegGrad(Sgd):
    """Minimizes −CE on S."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    forget_loss_cap: Array

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S."""

        def loss(variables: Variables, forget: Batch) -> tuple[Array, Variables]:
            ascent, variables = self.cross_entropy(variables, forget)
            return -capped(ascent, self.forget_loss_cap), variables

        return self.descend(state, data, (task.forget,), loss)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over S."""
        return self.epochs * forget


@record
class NegGradPlus(Sgd):
    """Minimizes β·CE on R − (1−β)·CE on S."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    beta: Array
    forget_loss_cap: Array

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R, S cycled along with fresh shuffles."""

        def loss(variables: Variables, retain: Batch, forget: Batch) -> tuple[Array, Variables]:
            descent, variables = self.cross_entropy(variables, retain)
            ascent, variables = self.cross_entropy(variables, forget)
            ascent = capped(ascent, self.forget_loss_cap)
            return self.beta * descent - (1 - self.beta) * ascent, variables

        return self.descend(state, data, (task.retain, task.forget), loss)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts those of passes over R, with a batch of S beside each batch."""
        return self.epochs * (retain + self.cycled(forget, retain))


def capped(loss: Array, cap: Array) -> Array:
    """Returns the loss, constant above the cap, so that ascent stops there."""
    # Not `jnp.minimum`: a loss that is NaN must stay visible whatever the cap.
    return jnp.where(loss > cap, cap, loss)


@card("−CE on S", "Graves et al., AAAI 2021", ("S",))
def neggrad(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 1e-3,
    forget_loss_cap: ArrayLike | None = None,
    **options: Unpack[SgdOptions],
) -> NegGrad:
    """Makes gradient ascent, which minimizes −CE on S.

    (Graves et al., AAAI 2021; Thudi et al., 2022.)

    Args:
      model: the architecture of the original model.
      epochs: passes over S; the RUM paper uses 5–10.
      learning_rate: constant; the RUM paper searches 1e-4–.1.
      forget_loss_cap: CE on S above which ascent stops, in nats; log K is a natural choice.
        Without it the loss is unbounded and may diverge.
      **options: see `SgdOptions`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> float(neggrad(Model(Cnn(10)), forget_loss_cap=2.5).forget_loss_cap)
      2.5
    """
    return NegGrad(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        forget_loss_cap=cap_leaf(forget_loss_cap),
    )


@card("β·CE on R − (1−β)·CE on S", "Kurmanji et al., NeurIPS 2023", ("S", "R"))
def neggrad_plus(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 0.01,
    beta: ArrayLike = 0.95,
    forget_loss_cap: ArrayLike | None = None,
    **options: Unpack[SgdOptions],
) -> NegGradPlus:
    """Makes NegGrad+, which minimizes β·CE on R − (1−β)·CE on S.

    (Kurmanji et al., NeurIPS 2023, section 4.)

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the RUM paper uses 5.
      learning_rate: constant; the RUM paper searches .01–.05.
      beta: β, the weight of R; the RUM paper searches .85–.99.
      forget_loss_cap: CE on S above which ascent stops, in nats; log K is a natural choice.
        Without it the loss is unbounded and may diverge.
      **options: see `SgdOptions`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> float(neggrad_plus(Model(Cnn(10)), beta=0.75).beta)
      0.75
    """
    return NegGradPlus(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        beta=number_leaf("beta", beta, most=1.0),
        forget_loss_cap=cap_leaf(forget_loss_cap),
    )


def cap_leaf(value: ArrayLike | None) -> Array:
    """Returns the cap as a leaf, infinite if there is none."""
    if value is None:
        return jnp.float32(jnp.inf)
    return number_leaf("forget_loss_cap", value)
