"""Boundary unlearning: classes to be forgotten give way to their neighbours, or to a void."""

from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError
from rumjax.gradients import for_each
from rumjax.losses import weighted_mean
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
    record,
)
from rumjax.unlearn.adversarial import as_floats, uphill
from rumjax.unlearn.cards import card

DEFAULTS: SgdOptions = {"batch_size": 64, "weight_decay": 0.0}


@record
class BoundaryShrink(Sgd):
    """Minimizes CE on S, labelled with the other class that θo sees next to each image."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    bound: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Finds the labels by the model as it was given, and keeps them, int32[capacity]."""
        labels = neighbours(
            self.model, variables, data, task.forget, bound=self.bound, batch_size=self.batch_size
        )
        return super().init(key, variables, data, task)._replace(memory=labels)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S."""
        # Padding is pointed outside the array, where `mode="drop"` ignores it.
        inside = jnp.arange(state.memory.shape[0]) < task.forget.size
        places = jnp.where(inside, task.forget.indices, len(data.labels))
        labels = jnp.asarray(data.labels).at[places].set(state.memory, mode="drop")

        return self.descend(state, data._replace(labels=labels), (task.forget,), self.cross_entropy)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts those of passes over S, and one of each example that finds its label."""
        return (1 + self.epochs) * forget


@record
class BoundaryExpand(Sgd):
    """Minimizes CE on S towards an additional class, which the finished model does not have."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""
    reads_network: ClassVar[bool] = True
    """it may refuse a network"""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Adds an output to the classifier: its weights uniform within ±1/√E, its bias 0.

        Raises:
          InvalidInputError: the model does not return the input of its classifier.
        """
        width = self.model.signature(data.images).width
        if not width:
            raise InvalidInputError(
                f"boundary_expand: {self.model.name} returns no embeddings, to which an output "
                "could be added; let its module return (logits, embeddings)"
            )
        row_key, key = jax.random.split(key)
        most = width**-0.5
        row = jax.random.uniform(row_key, (width,), jnp.float32, -most, most)
        params = {"network": variables.params, "row": row, "bias": jnp.float32(0)}
        return super().init(key, variables._replace(params=params), data, task)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over S."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            network = variables._replace(params=variables.params["network"])
            outputs, after = self.forward(network, batch)
            added = outputs.embeddings @ variables.params["row"] + variables.params["bias"]
            everything = jnp.concatenate([outputs.logits, added[:, None]], axis=1)
            losses = jax.nn.logsumexp(everything, axis=1) - added
            return weighted_mean(losses, batch.weights), after

        return self.descend(state, data, (task.forget,), loss)

    def finish(self, state: TrainState) -> Variables:
        """Returns the variables without the additional output."""
        return state.variables._replace(params=state.variables.params["network"])

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over S."""
        return self.epochs * forget


def neighbours(
    model: Model,
    variables: Variables,
    data: Dataset,
    chosen: Subset,
    *,
    bound: ArrayLike,
    batch_size: int,
) -> Array:
    """Returns the most likely wrong class of each example after a step to where CE is higher.

    Args:
      model: the architecture.
      variables: of the model that is asked, which predicts, as with `train=False`.
      data: all examples.
      chosen: the subset.
      bound: how far each pixel in 0…1 is moved, along the sign of the gradient of CE.
      batch_size: how many examples at a time.

    Returns:
      int32[capacity], in the order of the subset; 0 for padding.
    """

    def nearest(images: Array, labels: Array, wanted: Array) -> Array:
        del wanted
        images = as_floats(images)
        gradient, _ = uphill(model, variables, images, labels)
        moved = jnp.clip(images + bound * jnp.sign(gradient), 0.0, 1.0)
        outputs, _ = model.apply(variables, moved, train=False)
        # Never the true class: where the step is too short, S would be trained on.
        own = jax.nn.one_hot(labels, outputs.logits.shape[-1], dtype=bool)
        others = jnp.where(own, -jnp.inf, outputs.logits)
        return jnp.argmax(others, axis=-1).astype(jnp.int32)

    none = jnp.zeros(chosen.indices.shape[0], jnp.int32)
    return for_each(nearest, none, data, chosen, batch_size)


@card(
    "CE on S with the nearest other class as label",
    "Chen et al., CVPR 2023",
    ("S",),
    "classes",
)
def boundary_shrink(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 1e-5,
    bound: ArrayLike = 0.1,
    **options: Unpack[SgdOptions],
) -> BoundaryShrink:
    """Makes boundary shrink, which minimizes CE on S with the nearest other class as label.

    (Chen et al., CVPR 2023.) The label of x is argmax_{k≠y} p_θo(k | x + bound·sign ∇_x CE), found
    once, the image kept in 0…1. It was made for whole classes, and does without R.

    The published code takes the argmax over all classes: where the step does not change the
    prediction, it trains on S as it is; and it undoes the normalization of blue by a wrong mean. In
    AMUN's comparison labels are found anew in every epoch, by the model that has moved.

    Args:
      model: the architecture of the original model.
      epochs: passes over S; the paper uses 10.
      learning_rate: constant; the paper uses 1e-5.
      bound: how far each pixel in 0…1 is moved; with 0, labels are the second choice of θo.
      **options: see `SgdOptions`; by default no weight decay, and 64 examples per step, as in the
        paper.

    Raises:
      InvalidInputError: a number out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> round(float(boundary_shrink(Model(Cnn(10)), bound=0.2).bound), 3)
      0.2
    """
    return BoundaryShrink(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(DEFAULTS | options)),
        bound=number_leaf("bound", bound, most=1.0),
    )


@card(
    "CE on S towards an additional class, dropped afterwards",
    "Chen et al., CVPR 2023",
    ("S",),
    "classes",
)
def boundary_expand(
    model: Model,
    *,
    epochs: int = 10,
    learning_rate: ArrayLike = 1e-5,
    **options: Unpack[SgdOptions],
) -> BoundaryExpand:
    """Makes boundary expand, which minimizes CE on S towards an additional class.

    (Chen et al., CVPR 2023.) The additional output is one of the classifier, drawn afresh; it goes
    when the model is finished, so the model has K logits as before. It was made for whole classes,
    and does without R. The network has to return its embeddings, from which its classifier
    computes the logits; all of rumjax's do.

    Args:
      model: the architecture of the original model.
      epochs: passes over S; the paper uses 10.
      learning_rate: constant; the paper uses 1e-5.
      **options: see `SgdOptions`; by default no weight decay, and 64 examples per step, as in the
        paper.

    Raises:
      InvalidInputError: a number out of range; and later, a network without embeddings.

    Examples:
      >>> from rumjax.models import Cnn
      >>> boundary_expand(Model(Cnn(10)), epochs=3).epochs
      3
    """
    return BoundaryExpand(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(DEFAULTS | options))
    )
