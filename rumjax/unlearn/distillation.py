"""SCRUB: a student that disobeys its teacher on the forget set and obeys it on the retain set."""

from typing import ClassVar, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_count, check_flag
from rumjax.gradients import members, sum_over
from rumjax.losses import cross_entropy, distillation_loss
from rumjax.models import Model
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    Subset,
    Task,
    TrainState,
    Variables,
    fact,
    record,
)
from rumjax.unlearn.base import all_finite
from rumjax.unlearn.cards import card

ROUNDING = 1e-6
"""by how much two accuracies that are equal may differ in float32"""


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
        student, teacher = separate(variables)
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


class Kept(NamedTuple):
    """What `Rewound` remembers: bounded, however many epochs there are."""

    teacher: Variables
    variables: Variables
    """the model after the best epoch until now"""
    distance: Array
    """how far its error on S is from the reference, float32[]"""
    epoch: Array
    """int32[], the epochs done by then; 0 at the start"""


@record
class Rewound(Scrub):
    """`Scrub` that returns to the epoch whose error on S was nearest to a reference."""

    reference_error: Array | None = fact(
        about="the error of a model on held-out images with the class histogram of S"
    )

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Keeps the teacher, and the start as the best model until now."""
        state = super().init(key, variables, data, task)
        student, best = separate(state.variables)
        distance, _ = self.distance(student, data, task.forget)
        memory = Kept(state.memory, best, distance, jnp.int32(0))
        return state._replace(variables=student, memory=memory)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs the passes of `Scrub`, and keeps their model if it is the best until now."""
        memory = state.memory
        state, metrics = super().passes(state._replace(memory=memory.teacher), data, task)
        memory, error = self.better(memory, state.variables, state.epoch + 1, data, task.forget)
        metrics = {**metrics, "forget_error": error, "kept_epoch": memory.epoch}
        return state._replace(memory=memory), metrics

    def better(
        self, memory: Kept, variables: Variables, epoch: Array, data: Dataset, forget: Subset
    ) -> tuple[Kept, Array]:
        """Returns what to remember after an epoch, and the error on S; of equals, the earlier."""
        distance, error = self.distance(variables, data, forget)
        closer = distance < memory.distance - ROUNDING
        kept = jax.tree.map(
            lambda new, old: jnp.where(closer, new, old),
            (variables, distance, epoch),
            (memory.variables, memory.distance, memory.epoch),
        )
        return Kept(memory.teacher, *kept), error

    def distance(self, variables: Variables, data: Dataset, forget: Subset) -> tuple[Array, Array]:
        """Returns how far the error on S is from the reference, and the error; float32[] each.

        A model that is not finite is infinitely far, whatever class it predicts.
        """
        right = accuracy(self.model, variables, data, forget, batch_size=self.batch_size)
        distance = jnp.abs(1 - right - jnp.asarray(self.reference_error))
        return jnp.where(all_finite(variables), distance, jnp.inf), 1 - right

    def finish(self, state: TrainState) -> Variables:
        """Returns the best model."""
        return state.memory.variables


def separate(variables: Variables) -> tuple[Variables, Variables]:
    """Returns variables twice, for a student and a teacher that share no buffers."""
    # The barrier keeps the compiler from making one of the two.
    student, teacher = jax.lax.optimization_barrier((variables, variables))
    return student, teacher


def accuracy(
    model: Model, variables: Variables, data: Dataset, chosen: Subset, *, batch_size: int
) -> Array:
    """Returns the share of a subset that a model is right about, with running batch statistics.

    Args:
      model: the architecture.
      variables: of the model.
      data: all examples.
      chosen: the subset; of size 0, the share is 0.
      batch_size: images at a time.

    Returns:
      float32[], in 0…1.
    """

    def right(images: Array, labels: Array, weights: Array) -> Array:
        outputs, _ = model.apply(variables, images, train=False)
        return weights @ (outputs.logits.argmax(axis=-1) == labels).astype(jnp.float32)

    count = sum_over(right, jnp.float32(0), data, chosen, members(chosen), batch_size)
    return count / jnp.maximum(chosen.size, 1)


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
    rewind: bool = False,
    reference_error: ArrayLike | None = None,
    **options: Unpack[SgdOptions],
) -> Scrub:
    """Makes SCRUB (Kurmanji et al., NeurIPS 2023, equation 3 and algorithm 1), and SCRUB+R.

    SCRUB+R rewinds: of the models at the start and after every epoch, it returns the one whose
    error on S is nearest to a reference, the earliest of equals. S must not stand out by too high
    an error, so that is meant for privacy, not for removing a bias. The choice looks at S alone. A
    run whose loss diverges raises, whichever model is kept.

    The reference of the authors' code is the last model's error on all held-out images of S's
    classes, however many of each, and the code fails where the start would be best. An unlearner
    sees no held-out images, so here the reference is known before the run: a model's error on
    held-out images with S's class histogram. Any other number may be given, for example a retrained
    model's error on S, and then the result has used the oracle.

    Args:
      model: the architecture of the original model.
      epochs: epochs in all; the RUM paper uses 3–10.
      learning_rate: constant; the RUM paper searches 5e-4–.01.
      max_epochs: the first so many epochs open with a max pass over S ("msteps", 2–5); the rest
        are min passes only, and at least one must remain.
      beta: β, the weight of the teacher on R.
      gamma: γ, the weight of the labels on R.
      temperature: T of the divergence; the authors use 2–4.
      rewind: True for SCRUB+R, which needs held-out images besides S and R.
      reference_error: with `rewind`, the error that a model has on held-out images with the class
        histogram of S, in 0…1; None until whoever plans the run finds it out.
      **options: see `SgdOptions`.

    Raises:
      InvalidInputError: `max_epochs` leaves no min-only epoch, a number is out of range, or there
        is a `reference_error` without `rewind`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = scrub(Model(Cnn(10)), epochs=4, max_epochs=2, temperature=2.0)
      >>> int(unlearner.max_epochs), float(unlearner.temperature)
      (2, 2.0)
      >>> rewound = scrub(Model(Cnn(10)), rewind=True, reference_error=0.25)
      >>> type(rewound).__name__, float(rewound.reference_error)
      ('Rewound', 0.25)
    """
    if check_count("max_epochs", max_epochs) >= check_count("epochs", epochs):
        raise InvalidInputError(
            f"max_epochs: {max_epochs} of {epochs} epochs leave no min-only epoch; "
            f"raise epochs above {max_epochs}"
        )
    check_flag("rewind", rewind)
    if reference_error is not None and not rewind:
        raise InvalidInputError(
            "reference_error: without rewind=True there is no epoch to choose; leave it out"
        )
    fields = {
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        "max_epochs": jnp.int32(max_epochs),
        "beta": number_leaf("beta", beta),
        "gamma": number_leaf("gamma", gamma),
        "temperature": number_leaf("temperature", temperature, least=1e-3),
    }
    if not rewind:
        return Scrub(**fields)
    if reference_error is not None:
        reference_error = number_leaf("reference_error", reference_error, most=1.0)
    return Rewound(**fields, reference_error=reference_error)
