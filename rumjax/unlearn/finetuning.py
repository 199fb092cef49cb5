"""Fine-tuning on the retain set, plain and with an L1 penalty that fades out."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.models import Model
from rumjax.training import Sgd, SgdOptions, cross_entropy, number_leaf, sgd_fields
from rumjax.types import Array, Batch, Dataset, Metrics, Task, TrainState, Variables, record


@record
class Finetune(Sgd):
    """Minimizes CE on R, and lets S fade."""

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """One pass over R."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            return cross_entropy(outputs.logits, batch), variables

        return self.descend(state, data, (task.retain,), loss)


@record
class L1Sparse(Sgd):
    """Minimizes CE on R + γ_t ‖θ‖₁."""

    penalty: Array

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """One pass over R; γ_t falls linearly, from γ in the first epoch to γ/E in the last."""
        penalty = self.penalty * (1 - state.epoch / self.epochs)

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, after = self.forward(variables, batch)
            norm = sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(variables.params))
            return cross_entropy(outputs.logits, batch) + penalty * norm, after

        return self.descend(state, data, (task.retain,), loss)


def finetune(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    **options: Unpack[SgdOptions],
) -> Finetune:
    """Fine-tuning: minimize CE on R (Golatkar et al., CVPR 2020, as the simplest baseline).

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the RUM paper uses 10.
      learning_rate: constant; the RUM paper searches .01–.1.
      **options: see `SgdOptions`.
    """
    return Finetune(**sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options))


def l1_sparse(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    penalty: ArrayLike = 1e-5,
    **options: Unpack[SgdOptions],
) -> L1Sparse:
    """Fine-tuning with an L1 penalty: minimize CE on R + γ_t ‖θ‖₁ (Jia et al., NeurIPS 2023).

    Args:
      model: the architecture of the original model.
      epochs: E, passes over R; the RUM paper uses 10.
      learning_rate: constant; the RUM paper searches .005–.1.
      penalty: γ; γ_t falls linearly from γ to γ/E; the RUM paper searches 1e-6–1e-4.
      **options: see `SgdOptions`.
    """
    return L1Sparse(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        penalty=number_leaf("penalty", penalty),
    )
