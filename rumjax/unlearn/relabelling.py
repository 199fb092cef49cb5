"""Random relabelling of the forget set, of the whole network or of its salient parameters."""

from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import check_choice, check_count
from rumjax.gradients import mean_gradient, mean_gradient_magnitude
from rumjax.models import Model
from rumjax.sampling import union
from rumjax.types import (
    Array,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Subset,
    Task,
    TrainState,
    Variables,
    record,
    static,
)
from rumjax.unlearn.cards import card
from rumjax.unlearn.ranking import count, largest_rank, rank

SALIENCIES = {"mean": mean_gradient, "per_example": mean_gradient_magnitude}


@record
class RandomLabel(Sgd):
    """Minimizes CE on R ∪ S, with S's labels redrawn every epoch among the other classes."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    num_classes: int = static()

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R ∪ S; parameters outside the state's mask, if any, do not move."""
        next_key, key = jax.random.split(state.key)
        data = relabelled(key, data, task.forget, self.num_classes)

        everything = union(task.retain, task.forget)
        mask = state.memory if state.memory != () else None
        state = state._replace(key=next_key)
        return self.descend(state, data, (everything,), self.cross_entropy, mask=mask)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over R ∪ S."""
        return self.epochs * (forget + retain)


@record
class SalUn(RandomLabel):
    """`RandomLabel` on the parameters where |∇ CE on S| at the given model is largest."""

    saliency: str = static()
    mask_fraction: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Takes the saliency mask before anything moves, and keeps it."""
        gradient = SALIENCIES[self.saliency]
        saliency = gradient(self.model, variables, data, task.forget, batch_size=self.batch_size)
        mask = largest(saliency, self.mask_fraction)
        return super().init(key, variables, data, task)._replace(memory=mask)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the pass over S that the mask takes as well."""
        return forget + super().gradients(forget, retain, data)


def relabelled(key: Key, data: Dataset, forget: Subset, num_classes: int) -> Dataset:
    """Redraws the labels of the forget set, uniformly among the other classes."""
    capacity = forget.indices.shape[0]
    true = data.labels[forget.indices]
    steps = jax.random.randint(key, (capacity,), 1, num_classes, jnp.int32)
    drawn = (true + steps) % num_classes
    # Padding is pointed outside the array, where `mode="drop"` ignores it.
    positions = jnp.where(jnp.arange(capacity) < forget.size, forget.indices, data.labels.shape[0])
    return data._replace(labels=jnp.asarray(data.labels).at[positions].set(drawn, mode="drop"))


def largest(values: PyTree, fraction: ArrayLike) -> PyTree:
    """Returns booleans like `values`, True for the fraction of largest magnitude in the tree.

    Exactly ⌊fraction · size⌋ entries are kept; ties go to the earlier leaf and entry.
    """
    leaves, structure = jax.tree.flatten(values)
    ranks = [rank(leaf) for leaf in leaves]
    room = jnp.floor(fraction * sum(leaf.size for leaf in leaves)).astype(jnp.int32)

    # All that exceed the smallest, and of those that equal it the first for which there is room.
    least = largest_rank(ranks, room)
    room -= count(ranks, lambda part: part > least)
    kept = []
    for part in ranks:
        ties = part == least
        numbered = jnp.cumsum(ties.ravel(), dtype=jnp.int32).reshape(part.shape)
        kept.append((part > least) | (ties & (numbered <= room)))
        room -= jnp.sum(ties, dtype=jnp.int32)
    return jax.tree.unflatten(structure, kept)


@card("CE on R ∪ S, S with wrong labels", "Golatkar et al., CVPR 2020", ("S", "R"))
def random_label(
    model: Model,
    *,
    num_classes: int,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    **options: Unpack[SgdOptions],
) -> RandomLabel:
    """Makes random relabelling, which minimizes CE on R ∪ S with wrong labels for S.

    (Golatkar et al., CVPR 2020.)

    Args:
      model: the architecture of the original model.
      num_classes: K, at least 2; each epoch draws labels uniformly among the K−1 wrong ones.
      epochs: passes over R ∪ S; the RUM paper uses 10.
      learning_rate: constant; the RUM paper searches .01–.1.
      **options: see `SgdOptions`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> random_label(Model(Cnn(10)), num_classes=10, epochs=2).epochs
      2
    """
    return RandomLabel(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        num_classes=check_count("num_classes", num_classes, least=2),
    )


@card(
    "the same, in the parameters where the gradient of CE on S is largest",
    "Fan et al., ICLR 2024",
    ("S", "R"),
)
def salun(
    model: Model,
    *,
    num_classes: int,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    mask_fraction: ArrayLike = 0.5,
    saliency: str = "mean",
    **options: Unpack[SgdOptions],
) -> SalUn:
    """Makes SalUn, random relabelling of salient parameters (Fan et al., ICLR 2024, eqs. 3–5).

    Args:
      model: the architecture of the original model.
      num_classes: K, at least 2.
      epochs: passes over R ∪ S; the RUM paper uses 5–10.
      learning_rate: constant; the RUM paper searches .005–.1.
      mask_fraction: fraction of parameters that may move; the RUM paper searches .3–.7.
      saliency: "mean", the magnitude of the mean gradient over S (the paper's); or "per_example",
        the mean over S of each example's gradient magnitude.
      **options: see `SgdOptions`.

    Examples:
      >>> from rumjax.models import Cnn
      >>> float(salun(Model(Cnn(10)), num_classes=10, mask_fraction=0.25).mask_fraction)
      0.25
    """
    return SalUn(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        num_classes=check_count("num_classes", num_classes, least=2),
        mask_fraction=number_leaf("mask_fraction", mask_fraction, most=1.0),
        saliency=check_choice("saliency", saliency, tuple(SALIENCIES)),
    )
