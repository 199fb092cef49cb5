"""Teachers that forget: one that never learned, and the given model without the true class."""

from typing import ClassVar, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_choice, check_count
from rumjax.losses import relative_entropy
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
    record,
    static,
)
from rumjax.unlearn.cards import card
from rumjax.unlearn.distillation import separate

TEACHERS = ("random", "uniform")


class Taught(NamedTuple):
    """The memory of `BadTeacher`, which no epoch changes."""

    good: Variables
    """the model as it was given"""
    bad: Variables | tuple[()]
    """freshly initialized ones, along a leading axis of draws; none if the teacher is uniform"""
    kept: Subset
    """the sample of R"""


@record
class BadTeacher(Sgd):
    """Minimizes KL(bad teacher‖student) on S and KL(given model‖student) on a sample of R."""

    teacher: str = static()
    draws: int = static()
    retain_share: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Draws the bad teachers and the sample of R, and keeps the given model as the good one."""
        key, sample_key, teacher_key = jax.random.split(key, 3)
        student, good = separate(variables)
        bad: Variables | tuple[()] = ()
        if self.teacher == "random":
            fresh = [
                self.model.init(one, data.images[:1])
                for one in jax.random.split(teacher_key, self.draws)
            ]
            bad = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fresh)
        kept = share(sample_key, task.retain, self.retain_share)
        state = super().init(key, student, data, task)
        return state._replace(memory=Taught(good, bad, kept))

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S and the sample of R, shuffled together; labels are not looked at."""
        memory = state.memory
        forgotten = membership(task.forget, data.labels.shape[0])

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            taught, _ = self.model.apply(memory.good, batch.images, train=False)
            good = jax.nn.softmax(taught.logits)
            bad = self.ignorance(memory.bad, batch.images, good)
            targets = jnp.where(forgotten[batch.indices][:, None], bad, good)
            return relative_entropy(targets, outputs.logits, batch.weights), variables

        return self.descend(state, data, (union(memory.kept, task.forget),), loss)

    def ignorance(self, bad: Variables | tuple[()], images: Array, like: Array) -> Array:
        """Returns what the bad teacher says of images: probabilities, float32[B, K]."""
        if self.teacher == "uniform":
            return jnp.full_like(like, 1 / like.shape[-1])

        def one(variables: Variables) -> Array:
            outputs, _ = self.model.apply(variables, images, train=False)
            return jax.nn.softmax(outputs.logits)

        return jax.lax.map(one, bad).mean(axis=0)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over S and the sample of R."""
        return self.epochs * (forget + int(share_size(self.retain_share, retain)))


@record
class Delete(Sgd):
    """Minimizes KL(given model without the true class‖student) on S."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Keeps the given model as the teacher."""
        student, teacher = separate(variables)
        return super().init(key, student, data, task)._replace(memory=teacher)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            taught, _ = self.model.apply(state.memory, batch.images, train=False)
            targets = without_class(taught.logits, batch.labels)
            return relative_entropy(targets, outputs.logits, batch.weights), variables

        return self.descend(state, data, (task.forget,), loss)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over S."""
        return self.epochs * forget


def without_class(logits: Array, labels: Array) -> Array:
    """Returns probabilities of the other classes, which sum to 1 without the true one's.

    Args:
      logits: float32[B, K].
      labels: int32[B].

    Returns:
      float32[B, K], 0 for the true class.

    Examples:
      >>> without_class(jnp.array([[9.0, 0.0, 0.0]]), jnp.array([0])).tolist()
      [[0.0, 0.5, 0.5]]
    """
    return jax.nn.softmax(logits.at[jnp.arange(len(labels)), labels].set(-jnp.inf))


@card(
    "KL(untrained network‖student) on S + KL(teacher‖student) on a sample of R",
    "Chundawat et al., AAAI 2023",
    ("S", "R"),
    "both",
)
def bad_teacher(
    model: Model,
    *,
    epochs: int = 1,
    learning_rate: ArrayLike = 1e-4,
    teacher: str = "random",
    draws: int = 1,
    retain_share: ArrayLike = 0.3,
    **options: Unpack[SgdOptions],
) -> BadTeacher:
    """Makes Bad Teacher (Chundawat et al., AAAI 2023), which needs no labels.

    It minimizes the mean over S ∪ R′ of KL(t(x)‖p(x)), where t is a freshly initialized network
    of the same architecture on S, and the given model on R′, a sample of R that is drawn once.
    Both teachers use running batch statistics and do not change.

    A fresh network is not uniform: it says much the same of every image, often one class, and so
    teaches that class for all of S. The mean of several is nearer to uniform. The authors' loss is
    1/K of this one, which only matters to SGD.

    Args:
      model: the architecture of the original model.
      epochs: passes over S ∪ R′.
      learning_rate: constant; 1e-5–.1 is searched (DeepUnlearn, 2024).
      teacher: the bad one, "random" or "uniform", which says 1/K of each class.
      draws: how many random teachers there are; their mean probabilities teach.
      retain_share: |R′|/|R|.
      **options: see `SgdOptions`; by default Adam without weight decay, 256 examples a step.

    Raises:
      InvalidInputError: an unknown teacher, several draws of the uniform one, or a number out of
        range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = bad_teacher(Model(Cnn(10)), draws=3)
      >>> unlearner.optimizer, round(float(unlearner.retain_share), 3)
      ('adam', 0.3)
    """
    check_choice("teacher", teacher, TEACHERS)
    if check_count("draws", draws) > 1 and teacher == "uniform":
        raise InvalidInputError(f"draws: there is one uniform teacher, not {draws}; leave it out")
    defaults: SgdOptions = {"optimizer": "adam", "weight_decay": 0.0}
    return BadTeacher(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        teacher=teacher,
        draws=draws,
        retain_share=number_leaf("retain_share", retain_share, most=1.0),
    )


@card(
    "KL(teacher without the true class‖student) on S", "Zhou et al., CVPR 2025", ("S",), "classes"
)
def delete(
    model: Model,
    *,
    epochs: int = 20,
    learning_rate: ArrayLike = 1e-4,
    **options: Unpack[SgdOptions],
) -> Delete:
    """Makes DELETE (Zhou et al., CVPR 2025), which looks at S alone.

    It minimizes the mean over S of KL(q‖p), where q is the given model's p without the true class,
    divided by what remains. That asks for p_y = 0, which a retrained model shows for whole classes
    and not for single examples.

    Args:
      model: the architecture of the original model.
      epochs: passes over S.
      learning_rate: constant; the authors use 1e-4 (ResNet-18) and 5e-5 (ViT-S, Swin-T).
      **options: see `SgdOptions`; by default no weight decay, and 128 examples a step.

    Raises:
      InvalidInputError: a number is out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> delete(Model(Cnn(10))).batch_size
      128
    """
    defaults: SgdOptions = {"weight_decay": 0.0, "batch_size": 128}
    return Delete(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options))
    )
