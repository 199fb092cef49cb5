"""Perturbing convolutions, then fine-tuning on R: by transposed kernels, or by fresh entries."""

from collections.abc import Iterable
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_choice
from rumjax.gradients import mean_gradient
from rumjax.models import Model
from rumjax.models.conv import he_fan_out
from rumjax.models.dense import Name, by_name, map_named
from rumjax.models.order import layers_in_order
from rumjax.models.transposing import transposed
from rumjax.sampling import sample
from rumjax.types import (
    AnyArray,
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
from rumjax.unlearn.finetuning import Finetune
from rumjax.unlearn.ranking import count, largest_rank, rank

DEFAULTS: SgdOptions = {"batch_size": 64}
LAYERS = ("convolutions", "kernels")
"""Where `msg` redraws entries: in convolutions alone, or in dense layers too."""


@record
class Msg(Sgd):
    """Redraws the entries of kernels that tell S from R least, then minimizes CE on R."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""
    reads_network: ClassVar[bool] = True
    """it may refuse a network"""

    layers: str = static()
    fraction: Array
    kept_rate: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Redraws entries of kernels, and keeps which."""
        # The difference of two mean gradients, of S and of as many examples of R.
        sample_key, draw_key, key = jax.random.split(key, 3)
        retain = sample(sample_key, task.retain, task.forget.size)

        def gradient(chosen: Subset) -> PyTree:
            return mean_gradient(self.model, variables, data, chosen, batch_size=self.batch_size)

        difference = jax.tree.map(jnp.subtract, gradient(retain), gradient(task.forget))

        # Fresh entries where it is smallest.
        def redraw(number: int, name: Name, leaf: Array, mask: Array) -> Array:
            del name
            if not mask.ndim:
                return leaf
            fresh = he_fan_out(jax.random.fold_in(draw_key, number), leaf.shape, leaf.dtype)
            return jnp.where(mask, fresh, leaf)

        redrawn = self.redrawn(difference, kernels(self.model, data.images[:1], self.layers))
        params = map_named(
            redraw,
            variables.params,
            redrawn,
        )
        state = super().init(key, variables._replace(params=params), data, task)
        return state._replace(memory=redrawn)

    def redrawn(self, difference: PyTree, names: Iterable[Name]) -> PyTree:
        """Returns booleans like each kernel that is named, one False for every other parameter."""

        def mask(number: int, name: Name, leaf: Array) -> Array:
            if name not in names:
                return jnp.bool_(False)
            return smallest(leaf, jnp.round(self.fraction * leaf.size).astype(jnp.int32))

        return map_named(mask, difference)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R; entries of kernels that were kept have smaller gradients."""

        def transform(gradient: PyTree) -> PyTree:
            return jax.tree.map(
                lambda g, redrawn: jnp.where(redrawn, g, self.kept_rate * g) if redrawn.ndim else g,
                gradient,
                state.memory,
            )

        rate = self.rate(state.epoch)
        return self.descend(
            state,
            data,
            (task.retain,),
            self.cross_entropy,
            rate=lambda _: rate,
            transform=transform,
        )

    def rate(self, epoch: Array) -> Array:
        """Returns the factor of the learning rate in an epoch: up to 1 halfway, and down again."""
        half = (self.epochs + 1) // 2
        rising, falling = (epoch + 1) / half, (self.epochs - epoch) / (self.epochs - half + 1)
        return jnp.where(epoch < half, rising, falling)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of S, of as many examples of R, and of passes over R."""
        return forget + min(forget, retain) + self.epochs * retain


@record
class Ct(Finetune):
    """Transposes every convolution, then minimizes CE on R."""

    reads_network: ClassVar[bool] = True
    """it may refuse a network"""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Transposes kernels.

        Raises:
          InvalidInputError: the network does not see a transposed image as it saw the image.
        """
        params = transposed(self.model, variables.params, data.images[:1])
        return super().init(key, variables._replace(params=params), data, task)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R, at a rate that falls from epoch to epoch."""
        rate = (1 + jnp.cos(jnp.pi * state.epoch / self.epochs)) / 2
        return self.descend(state, data, (task.retain,), self.cross_entropy, rate=lambda _: rate)


def kernels(model: Model, images: AnyArray, layers: str) -> frozenset[Name]:
    """Returns the names of the kernels of convolutions, or of dense layers too.

    Raises:
      InvalidInputError: there are none.
    """
    forms = by_name(model.signature(images).variables.params)
    names = [
        (*layer.path, name)
        for layer in layers_in_order(model, images)
        for name in layer.parameters
        if layer.kind == "kernel"
    ]
    axes = (4,) if layers == "convolutions" else (2, 3, 4)
    found = frozenset(name for name in names if len(forms[name].shape) in axes)
    if not found:
        raise InvalidInputError(
            f"msg: {model.name} has no convolutions whose entries could be redrawn; say "
            'layers="kernels" to redraw those of dense layers'
        )
    return found


def smallest(values: Array, room: Array) -> Array:
    """Returns True for so many entries of smallest magnitude, the earlier of equals; like `values`.

    Examples:
      >>> smallest(jnp.array([3.0, -1.0, 0.5, 1.0]), jnp.int32(2)).tolist()
      [False, True, True, False]
    """
    # All that are below the largest that is taken, and the first of those that equal it.
    order = np.int32(np.iinfo(np.int32).max) - rank(values)
    least = largest_rank([order], room)
    room = room - count([order], lambda part: part > least)
    ties = order == least
    numbered = jnp.cumsum(ties.ravel(), dtype=jnp.int32).reshape(ties.shape)
    return (order > least) | (ties & (numbered <= room))


@card(
    "CE on R, after fresh draws of kernel entries whose gradients on S and R are alike",
    "NeurIPS 2023 challenge, by Cadet et al., 2024 (arXiv 2410.01276)",
    ("S", "R"),
)
def msg(
    model: Model,
    *,
    epochs: int = 5,
    learning_rate: ArrayLike = 1e-3,
    fraction: ArrayLike = 0.3,
    kept_rate: ArrayLike = 0.1,
    layers: str = "convolutions",
    **options: Unpack[SgdOptions],
) -> Msg:
    """Makes MSG, an entry of the NeurIPS 2023 challenge as Cadet et al. (2024) describe it.

    G = ∇L_R₀ − ∇L_S at the model that is given, with running batch-norm statistics and R₀ a random
    part of R, of as many examples as S. In every convolution the entries of smallest |G| are drawn
    anew, He-normal by fan out. Then CE on R is minimized, the gradients of the kept entries of
    convolutions being scaled down. Made for examples.

    The authors' code sums up means over batches, of which the last may be smaller, and its gradient
    pass updates batch-norm statistics or not, as they happen to be.

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the authors' 5, searched from 1 % to 20 % of training's.
      learning_rate: at its highest, halfway; it rises and falls linearly from epoch to epoch. The
        authors' 1e-3, searched from 1e-5 to .1.
      fraction: of each kernel's entries that are redrawn, in 0…1; the authors' .3.
      kept_rate: what the gradients of kept entries are multiplied by; the authors' .1.
      layers: "convolutions"; or "kernels", those of dense layers too.
      **options: see `SgdOptions`; by default 64 examples per step.

    Raises:
      InvalidInputError: unknown `layers`, or a number out of range. A run refuses networks without
        such kernels.

    Examples:
      >>> from rumjax.models import Cnn
      >>> unlearner = msg(Model(Cnn(10)), fraction=0.25)
      >>> [round(float(unlearner.rate(epoch)), 2) for epoch in range(5)]
      [0.33, 0.67, 1.0, 0.67, 0.33]
    """
    return Msg(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(DEFAULTS | options)),
        layers=check_choice("layers", layers, LAYERS),
        fraction=number_leaf("fraction", fraction, most=1.0),
        kept_rate=number_leaf("kept_rate", kept_rate, most=1.0),
    )


@card(
    "CE on R, after exchanging height and width of every convolution",
    "NeurIPS 2023 challenge, by Cadet et al., 2024 (arXiv 2410.01276)",
    ("R",),
)
def ct(
    model: Model,
    *,
    epochs: int = 3,
    learning_rate: ArrayLike = 1e-3,
    **options: Unpack[SgdOptions],
) -> Ct:
    """Makes CT, an entry of the NeurIPS 2023 challenge as Cadet et al. (2024) describe it.

    Height and width of every convolution are exchanged, which makes the network see a transposed
    image as it saw the image. Then CE on R is minimized. S is never looked at. Made for examples.

    Where square images are flattened before a dense layer, as `rumjax.models.Cnn` does, the inputs
    of that layer are exchanged as well; the authors' code has no such networks. A run refuses
    networks for which the exchange does not do that, which it finds out with random parameters.
    Vision transformers are among them, because of their positions.

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the authors' 3, searched from 1 % to 20 % of training's.
      learning_rate: at the start; it falls on a cosine from epoch to epoch. The authors' 1e-3,
        searched from 1e-5 to .1.
      **options: see `SgdOptions`; by default 64 examples per step.

    Examples:
      >>> from rumjax.models import Cnn
      >>> ct(Model(Cnn(10))).epochs
      3
    """
    return Ct(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(DEFAULTS | options))
    )
