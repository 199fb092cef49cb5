"""A teacher with noise on the forget set, until that is known no better than held-out images."""

from typing import ClassVar, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.losses import soft_cross_entropy, weighted_mean
from rumjax.models import Model
from rumjax.sampling import membership, share, share_size, union
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
from rumjax.unlearn.cards import card
from rumjax.unlearn.distillation import ROUNDING, accuracy, separate

ENOUGH = -0.01
"""LoTUS stops where the accuracy on S, less that on held-out images, is not above this"""


class Watched(NamedTuple):
    """The memory of `Lotus`."""

    teacher: Variables
    """the model as it was given"""
    kept: Subset
    """the sample of R"""
    stopped: Array
    """bool[], True for good once S is known no better than held-out images"""


@record
class Lotus(Sgd):
    """Minimizes CE against noisy answers of the given model on S, and its drawn ones on R."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    alpha: Array
    retain_share: Array
    held_out_accuracy: Array | None = fact(
        about="the accuracy of the original model on held-out images, 0 to forget whole classes"
    )

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Draws the sample of R, and keeps the given model as the teacher."""
        key, sample_key = jax.random.split(key)
        student, teacher = separate(variables)
        kept = share(sample_key, task.retain, self.retain_share)
        state = super().init(key, student, data, task)
        return state._replace(memory=Watched(teacher, kept, jnp.bool(False)))

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S and the sample of R, or none once it has stopped."""
        # How much better S is known than held-out images were at the start.
        memory = state.memory
        right = accuracy(self.model, state.variables, data, task.forget, batch_size=self.batch_size)
        gap = right - jnp.asarray(self.held_out_accuracy)
        temperature = jnp.exp(self.alpha * gap)
        stopped = memory.stopped | (gap <= ENOUGH + ROUNDING)

        # The teacher's answers, soft ones on S and drawn ones on R.
        forgotten = membership(task.forget, data.labels.shape[0])

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            taught, _ = self.model.apply(memory.teacher, batch.images, train=False)
            # The forward pass has used the batch's key already.
            noise_key = jax.random.fold_in(batch.key, 1)
            soft, drawn = noisy(noise_key, taught.logits, temperature)
            targets = jnp.where(forgotten[batch.indices][:, None], soft, drawn)
            losses = soft_cross_entropy(targets, outputs.logits)
            return weighted_mean(losses, batch.weights), variables

        # A pass over an empty set takes no step.
        everything = union(memory.kept, task.forget)
        everything = everything._replace(size=jnp.where(stopped, 0, everything.size))
        state, metrics = self.descend(state, data, (everything,), loss)
        metrics = {**metrics, "accuracy_gap": gap, "stopped": stopped.astype(jnp.float32)}
        return state._replace(memory=memory._replace(stopped=stopped)), metrics

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over S and the sample of R, as if it did not stop."""
        return self.epochs * (forget + int(share_size(self.retain_share, retain)))


def noisy(key: Key, logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Returns answers of a teacher with Gumbel noise: soft ones, and classes drawn by it.

    Args:
      key: of the noise, the same for both, of which an example needs one.
      logits: z, float32[B, K].
      temperature: τ of the soft answers, float32[].

    Returns:
      softmax((z + G) / τ), and the class of largest z + G, one-hot, which is drawn from
      softmax(z); float32[B, K] each.
    """
    raised = logits + jax.random.gumbel(key, logits.shape, jnp.float32)
    drawn = jax.nn.one_hot(raised.argmax(axis=-1), logits.shape[-1])
    return jax.nn.softmax(raised / temperature), drawn


@card(
    "CE against the teacher's answers, with noise on S, drawn at random on a sample of R",
    "Spartalis et al., CVPR 2025",
    ("S", "R", "V"),
    "both",
)
def lotus(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 1e-4,
    alpha: ArrayLike = 2.0,
    retain_share: ArrayLike = 0.3,
    held_out_accuracy: ArrayLike | None = None,
    **options: Unpack[SgdOptions],
) -> Lotus:
    """Makes LoTUS (Spartalis et al., CVPR 2025), which stops by itself.

    Before every epoch Δ = accuracy on S − accuracy of the original model on held-out images. Where
    Δ ≤ −.01 it stops for good; at the start that means that it does nothing. Else it minimizes
    the mean over S ∪ R′ of the cross-entropy of p against softmax((z + G)/τ) on S, τ = exp(αΔ), and
    against a class drawn from softmax(z) on R′, a sample of R that is drawn once; z are the given
    model's logits and G Gumbel noise, fresh in every step. The authors' ResNet-18 has a convolution
    in every shortcut, so their figures are of another network.

    Args:
      model: the architecture of the original model.
      epochs: passes over S ∪ R′, at most; the authors use 10 (ResNet-18) and 3 (ViT-B/16).
      learning_rate: constant; the authors use 1e-4 (ResNet-18) and 1e-6 (ViT-B/16).
      alpha: α; the authors use 8 for CIFAR-10, and 2 elsewhere.
      retain_share: |R′|/|R|.
      held_out_accuracy: the accuracy of the original model on held-out images, in 0…1, or 0 where
        whole classes are to be forgotten; None until whoever plans the run finds it out.
      **options: see `SgdOptions`; by default AdamW, and 128 examples a step.

    Raises:
      InvalidInputError: a number is out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = lotus(Model(Cnn(10)), held_out_accuracy=0.75)
      >>> unlearner.optimizer, float(unlearner.held_out_accuracy)
      ('adamw', 0.75)
    """
    defaults: SgdOptions = {"optimizer": "adamw", "batch_size": 128}
    if held_out_accuracy is not None:
        held_out_accuracy = number_leaf("held_out_accuracy", held_out_accuracy, most=1.0)
    return Lotus(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        alpha=number_leaf("alpha", alpha),
        retain_share=number_leaf("retain_share", retain_share, most=1.0),
        held_out_accuracy=held_out_accuracy,
    )
