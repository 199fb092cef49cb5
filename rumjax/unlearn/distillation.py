"""SCRUB: a student that disobeys its teacher on the forget set and obeys it on the retain set."""

from typing import ClassVar, Unpack

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, cross_entropy, number_leaf, sgd_fields, weighted_mean
from rumjax.errors import InvalidInputError, check_count
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
)
from rumjax.unlearn.cards import card


@record
class Scrub(Sgd):
    """Maximizes KL_T(teacher‖student) on S and minimizes γ·CE + β·KL_T(teacher‖student) on R."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    max_epochs: Array
    beta: Array
    gamma: Array
    temperature: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Keeps the model as it was given as the teacher, which does not change."""
        # The barrier keeps the compiler from letting student and teacher share a buffer.
        student, teacher = jax.lax.optimization_barrier((variables, variables))
        return super().init(key, student, data, task)._replace(memory=teacher)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs a max pass over S in the first `max_epochs` epochs, and a min pass over R in all."""
        teacher = state.memory

        def divergence(logits: Array, batch: Batch) -> Array:
            taught, _ = self.model.apply(teacher, batch.images, train=False)
            return distillation_loss(taught.logits, logits, batch.weights, self.temperature)

        def max_loss(variables: Variables, forget: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, forget)
            return -divergence(outputs.logits, forget), variables

        def min_loss(variables: Variables, retain: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, retain)
            supervised = cross_entropy(outputs.logits, retain)
            distilled = divergence(outputs.logits, retain)
            return self.gamma * supervised + self.beta * distilled, variables

        # A pass over an empty set takes no step: that is how the max passes end.
        size = jnp.where(state.epoch < self.max_epochs, task.forget.size, 0)
        state, maximized = self.descend(state, data, (task.forget._replace(size=size),), max_loss)
        state, minimized = self.descend(state, data, (task.retain,), min_loss)
        # Batches are counted through both passes.
        first, second = maximized["diverged_at"], minimized["diverged_at"]
        second = jnp.where(second >= 0, second + -(-size // self.batch_size), second)
        diverged_at = jnp.where(first >= 0, first, second)
        return state, {**minimized, "max_loss": maximized["loss"], "diverged_at": diverged_at}

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over R, and of max passes over S."""
        return self.epochs * retain + int(self.max_epochs) * forget


def distillation_loss(
    teacher_logits: Array, student_logits: Array, weights: Array, temperature: Array
) -> Array:
    """Returns T²·KL(softmax(teacher/T)‖softmax(student/T)), its mean over examples of weight 1.

    T² keeps gradients comparable across temperatures (Hinton et al., 2015).

    Args:
      teacher_logits: float32[B, K].
      student_logits: float32[B, K].
      weights: 0 or 1, float32[B].
      temperature: T, float32[].

    Returns:
      float32[].
    """
    chex.assert_rank([teacher_logits, weights], [2, 1])
    chex.assert_equal_shape([teacher_logits, student_logits])
    teacher = jax.nn.log_softmax(teacher_logits / temperature)
    student = jax.nn.log_softmax(student_logits / temperature)
    divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * weighted_mean(divergence, weights)


@card(
    "−KL(teacher‖student) on S, then γ·CE + β·KL(teacher‖student) on R",
    "Kurmanji et al., NeurIPS 2023",
    ("S", "R"),
)
def scrub(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 5e-3,
    max_epochs: int = 2,
    beta: ArrayLike = 0.001,
    gamma: ArrayLike = 0.99,
    temperature: ArrayLike = 4.0,
    **options: Unpack[SgdOptions],
) -> Scrub:
    """Makes SCRUB (Kurmanji et al., NeurIPS 2023, equation 3 and algorithm 1).

    Args:
      model: the architecture of the original model.
      epochs: epochs in all; the RUM paper uses 3–10.
      learning_rate: constant; the RUM paper searches 5e-4–.01.
      max_epochs: the first so many epochs open with a max pass over S ("msteps", 2–5); the rest
        are min passes only, and at least one must remain.
      beta: β, the weight of the teacher on R.
      gamma: γ, the weight of the labels on R.
      temperature: T of the divergence.
      **options: see `SgdOptions`.

    Raises:
      InvalidInputError: `max_epochs` leaves no min-only epoch, or a number is out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = scrub(Model(Cnn(10)), epochs=4, max_epochs=2, temperature=2.0)
      >>> int(unlearner.max_epochs), float(unlearner.temperature)
      (2, 2.0)
    """
    if check_count("max_epochs", max_epochs) >= check_count("epochs", epochs):
        raise InvalidInputError(
            f"max_epochs: {max_epochs} of {epochs} epochs leave no min-only epoch; "
            f"raise epochs above {max_epochs}"
        )
    return Scrub(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        max_epochs=jnp.int32(max_epochs),
        beta=number_leaf("beta", beta),
        gamma=number_leaf("gamma", gamma),
        temperature=number_leaf("temperature", temperature, least=1e-3),
    )
