"""Changing a part of the network alone: its critical channels, or its last layers."""

import math
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, cross_entropy, number_leaf, sgd_fields
from rumjax.errors import check_choice, check_count
from rumjax.gradients import mean_gradient
from rumjax.models import Model
from rumjax.models.dense import Name, by_name
from rumjax.models.frozen import frozen_norms
from rumjax.models.order import classifier, last_layers, layers_in_order
from rumjax.types import (
    AnyArray,
    Array,
    Batch,
    Dataset,
    Key,
    Metrics,
    PyTree,
    Task,
    TrainState,
    Variables,
    record,
    static,
)
from rumjax.unlearn.cards import card
from rumjax.unlearn.relabelling import largest

CRITERIA = ("weighted_gradient", "gradient", "weight")
"""What a parameter's criticality for S is the magnitude of: θ·g, g, or θ."""
POOLINGS = ("largest", "mean")
"""How a channel's criticality is made of its parameters': the mean of the largest, or of all."""
SHARE = 0.1
"""of a channel's parameters that count as its largest"""


@record
class LocalizedReset(Sgd):
    """Resets the channels that are most critical for S, then minimizes CE on R, those alone free.

    The classifier is free too.
    """

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

    criterion: str = static()
    pooling: str = static()
    fraction: Array
    final_rate: Array

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Resets channels, and keeps which variables are free to move."""
        init_key, key = jax.random.split(key)
        images = data.images[:1]
        gradient = mean_gradient(
            self.model, variables, data, task.forget, batch_size=self.batch_size
        )
        reset = self.channels(variables.params, gradient)

        # Norm layers that are reset as a whole start from no statistics, too.
        follows, whole = statistics(self.model, reset, images)
        fresh = self.model.init(init_key, images)
        started = jax.tree.map(jnp.where, Variables(reset, whole), fresh, variables)
        free = jax.tree.map(jnp.logical_or, reset, classifier(self.model, images).params)
        state = super().init(key, started, data, task)
        return state._replace(memory=Variables(free, follows))

    def channels(self, params: PyTree, gradient: PyTree) -> PyTree:
        """Returns booleans like the parameters, True in the most critical channels of the network.

        A channel is what the last index of a kernel has in common; a parameter of one axis is one
        channel.
        """

        def pooled(weight: Array, slope: Array) -> Array:
            values = jnp.abs(criticality(self.criterion, weight, slope))
            if values.ndim < 2:
                return jnp.max(values)
            columns = values.reshape(-1, values.shape[-1]).T
            if self.pooling == "mean":
                return columns.mean(axis=1)
            taken = max(1, math.floor(SHARE * columns.shape[1]))
            return jax.lax.top_k(columns, taken)[0].mean(axis=1)

        chosen = largest(jax.tree.map(pooled, params, gradient), self.fraction)

        def spread(channels: Array, weight: Array) -> Array:
            around = (1,) * (weight.ndim - 1) if weight.ndim > 1 else ()
            shape = (*around, -1) if weight.ndim > 1 else (1,) * weight.ndim
            return jnp.broadcast_to(channels.reshape(shape), weight.shape)

        return jax.tree.map(spread, chosen, params)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R; parameters and statistics that are not free do not move."""
        free = state.memory

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, after = self.forward(variables, batch)
            stats = jax.tree.map(
                jnp.where, free.batch_stats, after.batch_stats, variables.batch_stats
            )
            return cross_entropy(outputs.logits, batch), after._replace(batch_stats=stats)

        return self.descend(state, data, (task.retain,), loss, rate=self.rate, mask=free.params)

    def rate(self, progress: Array) -> Array:
        """Returns the factor of the learning rate after `progress` epochs."""
        cosine = (1 + jnp.cos(jnp.pi * progress / self.epochs)) / 2
        return self.final_rate + (1 - self.final_rate) * cosine

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of S, and of passes over R."""
        return forget + self.epochs * retain


@record
class CfK(Sgd):
    """Minimizes CE on R in the last layers, the others frozen."""

    k: int = static()

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R."""
        free = last_layers(self.model, data.images[:1], self.k)
        names = by_name(free.batch_stats)
        frozen = frozenset(name[:-1] for name, moves in names.items() if not moves)

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            # No gradient is taken of frozen layers, whose norms use and keep running statistics.
            params = jax.tree.map(
                lambda leaf, moves: leaf if moves else jax.lax.stop_gradient(leaf),
                variables.params,
                free.params,
            )
            with frozen_norms(frozen):
                outputs, after = self.forward(variables._replace(params=params), batch)
            stats = jax.tree.map(
                lambda new, old, moves: new if moves else old,
                after.batch_stats,
                variables.batch_stats,
                free.batch_stats,
            )
            return cross_entropy(outputs.logits, batch), after._replace(batch_stats=stats)

        return self.descend(state, data, (task.retain,), loss, mask=free.params)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over R."""
        return self.epochs * retain


@record
class EuK(CfK):
    """`CfK` after fresh draws of the last convolutions and dense layers."""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Redraws the last layers, but not their norms."""
        init_key, key = jax.random.split(key)
        images = data.images[:1]
        redrawn = last_layers(self.model, images, self.k, norms=False)
        params = jax.tree.map(
            lambda new, old, drawn: new if drawn else old,
            self.model.init(init_key, images).params,
            variables.params,
            redrawn.params,
        )
        return super().init(key, variables._replace(params=params), data, task)


def criticality(criterion: str, weight: Array, slope: Array) -> Array:
    """Returns what a parameter's criticality is the magnitude of; see `CRITERIA`."""
    if criterion == "weight":
        return weight
    return slope if criterion == "gradient" else weight * slope


def statistics(model: Model, reset: PyTree, images: AnyArray) -> tuple[PyTree, PyTree]:
    """Returns which batch statistics are to follow, and which to start anew.

    They follow after the first parameter that is reset, since what they are of has changed; and
    start anew where all parameters of their layer are reset.

    Args:
      model: the architecture.
      reset: booleans like the parameters.
      images: of which shape and dtype alone matter.

    Returns:
      Two trees like the batch statistics, of bool[].
    """
    parts, follows, whole = by_name(reset), {}, {}
    changed, all_reset = jnp.bool_(False), jnp.bool_(False)
    for layer in layers_in_order(model, images):
        masks = [parts[*layer.path, name] for name in layer.parameters]
        if masks:
            changed = changed | jnp.any(jnp.stack([jnp.any(mask) for mask in masks]))
            all_reset = jnp.all(jnp.stack([jnp.all(mask) for mask in masks]))
        for name in layer.statistics:
            follows[*layer.path, name], whole[*layer.path, name] = changed, all_reset
    form = model.signature(images).variables.batch_stats

    def like(flags: dict[Name, Array]) -> PyTree:
        return jax.tree.unflatten(jax.tree.structure(form), [flags[n] for n in by_name(form)])

    return like(follows), like(whole)


@card("CE on R in the channels critical for S, after resetting them", "x", ("S", "R"), "both")
def localized_reset(
    model: Model,
    *,
    epochs: int = 30,
    learning_rate: ArrayLike = 0.015,
    fraction: ArrayLike = 0.3,
    final_rate: ArrayLike = 0.01,
    criterion: str = "weighted_gradient",
    pooling: str = "largest",
    batch_size: int = 128,
    weight_decay: ArrayLike = 0.0,
    **options: Unpack[SgdOptions],
) -> LocalizedReset:
    """Makes DEL."""
    return LocalizedReset(
        **sgd_fields(
            model,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            weight_decay=weight_decay,
            **options,
        ),
        criterion=check_choice("criterion", criterion, CRITERIA),
        pooling=check_choice("pooling", pooling, POOLINGS),
        fraction=number_leaf("fraction", fraction, most=1.0),
        final_rate=number_leaf("final_rate", final_rate, most=1.0),
    )


@card("CE on R in the last k layers", "x", ("R",), "both")
def cf_k(
    model: Model,
    *,
    k: int = 1,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    **options: Unpack[SgdOptions],
) -> CfK:
    """Makes CF-k."""
    return CfK(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        k=check_count("k", k),
    )


@card("CE on R in the last k layers, redrawn", "x", ("R",), "both")
def eu_k(
    model: Model,
    *,
    k: int = 1,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.1,
    **options: Unpack[SgdOptions],
) -> EuK:
    """Makes EU-k."""
    return EuK(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        k=check_count("k", k),
    )
