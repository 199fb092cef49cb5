"""Fine-tuning on the retain set, plain and with an L1 penalty that fades out."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.models import Model
from rumjax.types import Array, Batch, Dataset, Metrics, Task, TrainState, Variables, record
from rumjax.unlearn.cards import card


@record
class Finetune(Sgd):
    """Minimizes CE on R, while S fades."""

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R."""
        return self.descend(state, data, (task.retain,), self.cross_entropy)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over R."""
        return self.epochs * retain


@record
class L1Sparse(Finetune):
    """Minimizes CE on R + γ_t ‖θ‖₁."""

    penalty: Array

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs a pass over R; γ_t falls linearly, from γ in the first epoch to γ/E in the last."""
        penalty = self.penalty * (1 - state.epoch / self.epochs).astype(jnp.float32)

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            fit, after = self.cross_entropy(variables, batch)
            norm = sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(variables.params))
            return fit + penalty * norm, after

        return self.descend(state, data, (task.retain,), loss)


@card("CE on R", "Golatkar et al., CVPR 2020", ("R",))
def finetune(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    **options: Unpack[SgdOptions],
) -> Finetune:
    """Makes fine-tuning, which minimizes CE on R.

    (Golatkar et al., CVPR 2020, as the simplest baseline.)

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the RUM paper uses 10.
      learning_rate: constant; the RUM paper searches .01–.1.
      **options: see `SgdOptions`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = finetune(Model(Cnn(10)), epochs=3, learning_rate=0.5, batch_size=64)
      >>> unlearner.epochs, float(unlearner.learning_rate), unlearner.batch_size
      (3, 0.5, 64)
    """
    return Finetune(**sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options))


@card("CE on R + γ_t ‖θ‖₁", "Jia et al., NeurIPS 2023", ("R",))
def l1_sparse(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    penalty: ArrayLike = 1e-5,
    **options: Unpack[SgdOptions],
) -> L1Sparse:
    """Makes fine-tuning with an L1 penalty, which minimizes CE on R + γ_t ‖θ‖₁.

    (Jia et al., NeurIPS 2023.)

    Args:
      model: the architecture of the original model.
      epochs: E, passes over R; the RUM paper uses 10.
      learning_rate: constant; the RUM paper searches .005–.1.
      penalty: γ; γ_t falls linearly from γ to γ/E; the RUM paper searches 1e-6–1e-4.
      **options: see `SgdOptions`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> float(l1_sparse(Model(Cnn(10)), penalty=0.5).penalty)
      0.5
    """
    return L1Sparse(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        penalty=number_leaf("penalty", penalty),
    )
