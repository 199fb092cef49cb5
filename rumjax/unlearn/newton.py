"""Influence unlearning: one damped Newton step away from the forget set."""

from typing import ClassVar

import jax
import optax
from jax.typing import ArrayLike

from rumjax.descent import number_leaf
from rumjax.errors import check_count
from rumjax.gradients import fisher_solve, gram_evaluations, mean_gradient
from rumjax.models import Model
from rumjax.models.checks import check_model
from rumjax.sampling import sample
from rumjax.types import (
    Array,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Subset,
    Task,
    Variables,
    record,
    static,
)
from rumjax.unlearn.cards import card
from rumjax.unlearn.one_shot import OneShot


@record
class Influence(OneShot):
    """θ ← θo + α·(F + λI)⁻¹ v with v = |S|/|D| · (∇L_S − ∇L_R), per-set mean gradients."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    fisher_examples: int = static()
    batch_size: int = static()
    alpha: Array
    damping: Array

    def changed(
        self, key: Key, variables: Variables, data: Dataset, task: Task
    ) -> tuple[PyTree, Metrics]:
        """Takes the step."""
        # The direction, solved with the damped Fisher of some examples of R.
        step = fisher_solve(
            self.model,
            variables,
            data,
            self.sample(key, task.retain),
            self.direction(variables, data, task),
            damping=self.damping,
            micro_batch=self.micro_batch,
        )

        # A step of length α along it.
        params = jax.tree.map(lambda p, s: p + self.alpha * s, variables.params, step)
        return params, {"step_norm": self.alpha * optax.tree.norm(step)}

    def sample(self, key: Key, retain: Subset) -> Subset:
        """Draws the examples of R that make F."""
        capacity = min(self.fisher_examples, retain.indices.shape[0])
        drawn = sample(key, retain, capacity)
        return drawn._replace(indices=drawn.indices[:capacity])

    def direction(self, variables: Variables, data: Dataset, task: Task) -> PyTree:
        """Returns v, which leads up the loss of S and down the loss of R."""

        def gradient(chosen: Subset) -> PyTree:
            return mean_gradient(self.model, variables, data, chosen, batch_size=self.batch_size)

        share: Array = task.forget.size / (task.forget.size + task.retain.size)
        return jax.tree.map(
            lambda up, down: share * (up - down), gradient(task.forget), gradient(task.retain)
        )

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts both mean gradients, and products with those of the Fisher there and back."""
        used = min(self.fisher_examples, retain)
        like = self.model.signature(data.images).variables
        gram = gram_evaluations(self.model, like, data, used, micro_batch=self.micro_batch)
        return forget + retain + 2 * used + gram


@card(
    "one damped Newton step up the loss of S and down that of R",
    "Izzo et al., AISTATS 2021",
    ("S", "R"),
)
def influence(
    model: Model,
    *,
    alpha: ArrayLike = 0.1,
    damping: ArrayLike = 1e-3,
    fisher_examples: int = 1000,
    batch_size: int = 256,
    micro_batch: int = 32,
) -> Influence:
    """Makes influence unlearning (Izzo et al., AISTATS 2021; Jia et al., NeurIPS 2023, section 3).

    The inverse is exact, by `rumjax.gradients.fisher_solve`, which states its memory.

    Args:
      model: the architecture of the original model.
      alpha: α, the length of the step. The RUM paper searches 1–100; others report that only α < 1
        leaves a working model. It depends on λ: tune it.
      damping: λ, added to the Fisher's diagonal.
      fisher_examples: N, examples of R that make the Fisher.
      batch_size: examples at a time in mean gradients.
      micro_batch: per-example gradients taken at a time; see `rumjax.gradients.gram_matrix`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = influence(Model(Cnn(10)), alpha=0.5, fisher_examples=100)
      >>> float(unlearner.alpha), unlearner.fisher_examples, unlearner.epochs
      (0.5, 100, 1)
    """
    return Influence(
        model=check_model(model),
        fisher_examples=check_count("fisher_examples", fisher_examples),
        batch_size=check_count("batch_size", batch_size),
        micro_batch=check_count("micro_batch", micro_batch),
        alpha=number_leaf("alpha", alpha),
        damping=number_leaf("damping", damping, least=1e-9),
    )
