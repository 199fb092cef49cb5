"""ReGUn: held-out images say how sure a model is of what it was not trained on."""

from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_choice, check_floats
from rumjax.losses import relative_entropy
from rumjax.models import Model
from rumjax.types import (
    Array,
    Batch,
    Dataset,
    Metrics,
    Task,
    TrainState,
    Variables,
    fact,
    record,
    static,
)
from rumjax.unlearn.cards import card

VARIANTS = ("batch", "per_example")


@record
class ReGUn(Sgd):
    """Minimizes λ·KL(q‖p) on S + (1−λ)·CE on R, q from held-out images of S's classes."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    variant: str = static()
    forget_weight: Array
    held_out_probabilities: Array | None = fact(
        "K",
        "K",
        about="the mean probabilities that the original model gives held-out images of each class",
    )

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S, R cycled along with fresh shuffles."""
        by_class = self.held_out_probabilities
        assert by_class is not None  # a run refuses a record without it

        def loss(variables: Variables, forget: Batch, retain: Batch) -> tuple[Array, Variables]:
            lost, variables = self.forward(variables, forget)
            descent, variables = self.cross_entropy(variables, retain)
            wanted = guides(by_class, forget, self.variant)
            guided = relative_entropy(wanted, lost.logits, forget.weights)
            return self.forget_weight * guided + (1 - self.forget_weight) * descent, variables

        return self.descend(state, data, (task.forget, task.retain), loss)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts those of passes over S, with a batch of R beside each batch."""
        return self.epochs * (forget + self.cycled(retain, forget))


def guides(by_class: Array, batch: Batch, variant: str) -> Array:
    """Returns the probabilities that a batch of S is guided to, float32[B, K].

    Args:
      by_class: Q, float32[K, K], a row of probabilities for each true class.
      batch: of S; examples of weight 0 do not count.
      variant: "per_example", Q[y_i]; or "batch", their mean over the batch for all its examples.

    Examples:
      >>> by_class = jnp.array([[0.75, 0.25], [0.25, 0.75]])
      >>> batch = Batch(jnp.zeros((2, 1)), jnp.array([0, 1]), jnp.ones(2), None, jnp.arange(2))
      >>> guides(by_class, batch, "batch")[0].tolist()
      [0.5, 0.5]
    """
    rows = by_class[batch.labels]
    if variant == "per_example":
        return rows
    mean = batch.weights @ rows / jnp.maximum(jnp.sum(batch.weights), 1.0)
    return jnp.broadcast_to(mean, rows.shape)


@card(
    "λ·KL(q‖student) on S + (1−λ)·CE on R, q what θo says of held-out images of S's classes",
    "Mirlach et al., 2026 (arXiv 2603.11210)",
    ("S", "R", "V"),
)
def regun(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    forget_weight: ArrayLike = 0.5,
    variant: str = "batch",
    held_out_probabilities: ArrayLike | None = None,
    **options: Unpack[SgdOptions],
) -> ReGUn:
    """Makes ReGUn, which minimizes λ·KL(q‖p) on S + (1−λ)·CE on R (Mirlach et al., 2026).

    q is what the original model says of images that it was not trained on, of S's classes. The
    paper averages as many held-out images as a batch of S has, drawn to match its classes; here q
    is the expectation of that, the mean over the batch of Q[y], where row c of Q is the mean over
    all held-out images of class c. The authors' released code draws them uniformly by default,
    whatever S's classes, and holds out a tenth of the training set.

    Args:
      model: the architecture of the original model.
      epochs: passes over S, with a batch of R beside each of its batches.
      learning_rate: constant.
      forget_weight: λ, 0…1; with 0, it is fine-tuning for as many steps as S has batches.
      variant: "batch", the mean over a batch for all its examples, the paper's; or "per_example",
        each example's own Q[y], a variant of rumjax's.
      held_out_probabilities: Q, float[K, K], rows of probabilities; `rumjax.run` needs it, and a
        run of a configuration finds it out.
      **options: see `SgdOptions`; by default no weight decay, and 128 examples of S and of R per
        step, as in the paper.

    Raises:
      InvalidInputError: a number is out of range, an unknown variant, or rows that are no
        probabilities.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = regun(Model(Cnn(2)), held_out_probabilities=[[0.75, 0.25], [0.5, 0.5]])
      >>> unlearner.held_out_probabilities.shape, float(unlearner.forget_weight)
      ((2, 2), 0.5)
    """
    defaults: SgdOptions = {"batch_size": 128, "weight_decay": 0.0}
    return ReGUn(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        variant=check_choice("variant", variant, VARIANTS),
        forget_weight=number_leaf("forget_weight", forget_weight, most=1.0),
        held_out_probabilities=_probabilities(held_out_probabilities),
    )


def _probabilities(values: ArrayLike | None) -> Array | None:
    """Returns rows of probabilities as a leaf, if they are; float32[K, K]."""
    what = "held_out_probabilities"
    if values is None or isinstance(values, jax.core.Tracer):
        return values
    rows = check_floats(what, values, "K", "K")
    wrong = np.flatnonzero((rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > 1e-3))
    if len(wrong):
        raise InvalidInputError(
            f"{what}: row {wrong[0]} is no distribution over classes; wanted the mean of softmax "
            "over held-out images of each class"
        )
    return jnp.asarray(rows, jnp.float32)
