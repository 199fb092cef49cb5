"""Changing a part of the network alone: its critical channels, or its last layers."""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_choice, check_count
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
from rumjax.unlearn.finetuning import Finetune
from rumjax.unlearn.relabelling import largest

CRITERIA = ("weighted_gradient", "gradient", "weight")
"""Whose magnitude is a parameter's criticality for S: that of θ·g, of g, or of θ."""
POOLINGS = ("largest", "mean")
"""A channel's criticality: the mean of the largest of its parameters', or of all."""
SHARE = 0.1
"""of a channel's parameters that count as its largest"""


@record
class LocalizedReset(Sgd):
    """Resets the channels most critical for S; minimizes CE on R in them and the classifier."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""
    reads_network: ClassVar[bool] = True
    """it may refuse a network"""

    criterion: str = static()
    pooling: str = static()
    fraction: Array
    final_rate: Array
    initial: PyTree = dataclasses.field(default=None, metadata={"values": True})
    """what parameters are reset to, like them; None for a fresh draw"""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Resets channels, and keeps which variables are free to move.

        Raises:
          InvalidInputError: initial values that are not of the model's form.
        """
        init_key, key = jax.random.split(key)
        images = data.images[:1]
        gradient = mean_gradient(
            self.model, variables, data, task.forget, batch_size=self.batch_size
        )
        reset = self.channels(variables.params, gradient)

        # Norm layers that are reset as a whole start from no statistics, too.
        follows, whole = statistics(self.model, reset, images)
        fresh = self.model.init(init_key, images)
        if self.initial is not None:
            fresh = fresh._replace(params=checked_initial(self.initial, variables.params))
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
            across = (1,) * max(0, weight.ndim - 1) + channels.shape
            return jnp.broadcast_to(channels.reshape(across[: weight.ndim]), weight.shape)

        return jax.tree.map(spread, chosen, params)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R; parameters and statistics that are not free do not move."""
        free = state.memory

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            value, after = self.cross_entropy(variables, batch)
            stats = jax.tree.map(
                jnp.where, free.batch_stats, after.batch_stats, variables.batch_stats
            )
            return value, after._replace(batch_stats=stats)

        return self.descend(state, data, (task.retain,), loss, rate=self.rate, mask=free.params)

    def rate(self, progress: Array) -> Array:
        """Returns the factor of the learning rate after `progress` epochs."""
        cosine = (1 + jnp.cos(jnp.pi * progress / self.epochs)) / 2
        return self.final_rate + (1 - self.final_rate) * cosine

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of S, and of passes over R."""
        return forget + self.epochs * retain


@record
class CfK(Finetune):
    """Minimizes CE on R in the last layers, the others frozen."""

    reads_network: ClassVar[bool] = True
    """it may refuse a network"""

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
                value, after = self.cross_entropy(variables._replace(params=params), batch)
            stats = jax.tree.map(
                lambda new, old, moves: new if moves else old,
                after.batch_stats,
                variables.batch_stats,
                free.batch_stats,
            )
            return value, after._replace(batch_stats=stats)

        return self.descend(state, data, (task.retain,), loss, mask=free.params)


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
    """Returns the numbers whose magnitude is the criticality of parameters; see `CRITERIA`."""
    if criterion == "weight":
        return weight
    return slope if criterion == "gradient" else weight * slope


def statistics(model: Model, reset: PyTree, images: AnyArray) -> tuple[PyTree, PyTree]:
    """Returns which batch statistics are updated, and which start anew.

    Statistics are updated from the first parameter that is reset onwards, since their inputs have
    changed; they start anew where all parameters of their layer are reset.

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


def checked_initial(initial: PyTree, params: PyTree) -> PyTree:
    """Returns initial values, if they are like the parameters.

    Raises:
      InvalidInputError: another structure, or other shapes.
    """
    forms = [jax.tree.map(jnp.shape, tree) for tree in (initial, params)]
    if forms[0] != forms[1]:
        raise InvalidInputError(
            "localized_reset: initial is not like the parameters of the model; give the params "
            "that its training began with"
        )
    return initial


@card(
    "CE on R in the channels that matter most to S, drawn anew, and in the last layer",
    "Torkzadehmahani et al., TMLR 2025",
    ("S", "R"),
    "both",
)
def localized_reset(
    model: Model,
    *,
    epochs: int = 30,
    learning_rate: ArrayLike = 0.015,
    fraction: ArrayLike = 0.3,
    final_rate: ArrayLike = 0.01,
    criterion: str = "weighted_gradient",
    pooling: str = "largest",
    initial: PyTree = None,
    **options: Unpack[SgdOptions],
) -> LocalizedReset:
    """Makes DEL, the deletion of localized memories (Torkzadehmahani et al., TMLR 2025).

    A parameter's criticality is |θ·∇L_S(θ)| at the model that is given, with running batch-norm
    statistics. A channel is what the last index of a kernel has in common, and a parameter of one
    axis, a bias for instance, is one channel whose criticality is its largest. The most critical
    channels of the whole network are reset. Then CE on R is minimized in them and in the last
    layer; all other parameters stay bit-identical, under weight decay too. Batch statistics are
    those of `batch_norm` after the first parameter that is reset, and stay as they are before it;
    norm layers that are reset as a whole start from none.

    The authors' code takes, of every channel, as many largest values as a tenth of the *layer's*
    channels, which are none of small layers; here it is a tenth of the channel's own, at least one.
    Its mask acts on the gradient, so that weight decay would move what is to be frozen.

    Args:
      model: the architecture of the original model.
      epochs: passes over R; the authors' 30 on CIFAR-10 and SVHN, 100 on ImageNet-100.
      learning_rate: at the start, on a cosine, batch by batch; the authors' .015 with ResNet-18,
        .05 with ViT or on SVHN, .1 with ResNet-50.
      fraction: of the network's channels that are reset, in 0…1; the authors' .3.
      final_rate: the learning rate at the end, as a fraction of that at the start.
      criterion: "weighted_gradient", |θ·g|; or "gradient" or "weight", the authors' ablations.
      pooling: "largest", the mean of a channel's largest tenth; or "mean", of all, which the
        authors take for ViT.
      initial: parameters that channels are reset to, those that training began with for instance;
        by default a fresh draw, as in the authors' code.
      **options: see `SgdOptions`; by default no weight decay and 128 examples per step, as the
        authors.

    Raises:
      InvalidInputError: an unknown criterion or pooling, or a number out of range.

    Examples:
      >>> from rumjax.models import Cnn
      >>> round(float(localized_reset(Model(Cnn(10)), fraction=0.25).fraction), 3)
      0.25
    """
    defaults: SgdOptions = {"batch_size": 128, "weight_decay": 0.0}
    return LocalizedReset(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **(defaults | options)),
        criterion=check_choice("criterion", criterion, CRITERIA),
        pooling=check_choice("pooling", pooling, POOLINGS),
        fraction=number_leaf("fraction", fraction, most=1.0),
        final_rate=number_leaf("final_rate", final_rate, most=1.0),
        initial=getattr(initial, "params", initial),
    )


@card(
    "CE on R in the last k layers, all others frozen",
    "Goel et al., 2022 (arXiv 2201.06640)",
    ("R",),
    "both",
)
def cf_k(
    model: Model,
    *,
    k: int = 1,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.01,
    **options: Unpack[SgdOptions],
) -> CfK:
    """Makes CF-k, catastrophic forgetting of the last k layers (Goel et al., 2022).

    The last k convolutions and dense layers, in the order in which the network uses them, and the
    norm layers after each minimize CE on R. All others stay bit-identical, and so do their batch
    statistics, which frozen norm layers use in training too (those of NNX modules and of pairs of
    functions use the batch's there). With all layers it is `finetune`.

    Released code leaves frozen norm layers in training, so that their statistics move. SCRUB's
    CF-k trains the last stage of a ResNet and freezes the classifier.

    Args:
      model: the architecture of the original model.
      k: how many convolutions and dense layers, counted from the last; compiled for. The authors
        take 10 of ResNet's.
      epochs: passes over R; the authors' 30.
      learning_rate: constant; the authors restart it from .1 to .005.
      **options: see `SgdOptions`; the authors take 64 examples per step.

    Raises:
      InvalidInputError: `k` below 1; one above the number of layers is refused by a run.

    Examples:
      >>> from rumjax.models import Cnn
      >>> cf_k(Model(Cnn(10)), k=2).k
      2
    """
    return CfK(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        k=check_count("k", k),
    )


@card(
    "CE on R in the last k layers, drawn anew",
    "Goel et al., 2022 (arXiv 2201.06640)",
    ("R",),
    "both",
)
def eu_k(
    model: Model,
    *,
    k: int = 1,
    epochs: int = 10,
    learning_rate: ArrayLike = 0.1,
    **options: Unpack[SgdOptions],
) -> EuK:
    """Makes EU-k, exact unlearning of the last k layers (Goel et al., 2022).

    It is `cf_k` after fresh draws of the last k convolutions and dense layers, but not of their
    norm layers. Without norm layers, and with all others, it is `retrain` at a constant rate.

    Args:
      model: the architecture of the original model.
      k: how many convolutions and dense layers, counted from the last; compiled for. The authors
        take 10 of ResNet's.
      epochs: passes over R; the authors' 62.
      learning_rate: constant; the authors restart it from .1 to .005.
      **options: see `SgdOptions`; the authors take 64 examples per step.

    Raises:
      InvalidInputError: `k` below 1; one above the number of layers is refused by a run.

    Examples:
      >>> from rumjax.models import Cnn
      >>> eu_k(Model(Cnn(10)), k=3).k
      3
    """
    return EuK(
        **sgd_fields(model, epochs=epochs, learning_rate=learning_rate, **options),
        k=check_count("k", k),
    )
