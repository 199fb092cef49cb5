"""Perturbing convolutions, then fine-tuning on R: by transposed kernels, or by fresh entries."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rumjax.descent import Sgd, SgdOptions, cross_entropy, number_leaf, sgd_fields
from rumjax.errors import InvalidInputError, check_choice
from rumjax.gradients import mean_gradient
from rumjax.models import Model
from rumjax.models.conv import he_fan_out
from rumjax.models.dense import Name, by_name
from rumjax.models.order import layers_in_order
from rumjax.sampling import sample
from rumjax.types import (
    AnyArray,
    Array,
    Batch,
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

LAYERS = ("convolutions", "kernels")
"""What `msg` redraws entries of: convolutions alone, or dense layers too."""


@record
class Msg(Sgd):
    """Redraws what tells S from R least, then minimizes CE on R with care for all the others."""

    reads_forget: ClassVar[bool] = True
    """S must not be empty"""

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
        redrawn = self.redrawn(difference, kernels(self.model, data.images[:1], self.layers))
        params = _map_named(
            lambda number, name, leaf, mask: (
                jnp.where(mask, he_fan_out(jax.random.fold_in(draw_key, number), leaf.shape), leaf)
                if mask.ndim
                else leaf
            ),
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

        return _map_named(mask, difference)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R; entries of kernels that were kept have smaller gradients."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            return cross_entropy(outputs.logits, batch), variables

        def transform(gradient: PyTree) -> PyTree:
            return jax.tree.map(
                lambda g, redrawn: jnp.where(redrawn, g, self.kept_rate * g) if redrawn.ndim else g,
                gradient,
                state.memory,
            )

        rate = self.rate(state.epoch)
        return self.descend(
            state, data, (task.retain,), loss, rate=lambda _: rate, transform=transform
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
class Ct(Sgd):
    """Transposes every convolution, then minimizes CE on R."""

    def init(self, key: Key, variables: Variables, data: Dataset, task: Task) -> TrainState:
        """Transposes kernels.

        Raises:
          InvalidInputError: the network does not see a transposed image as it saw the image.
        """
        params = transposed(self.model, variables.params, data.images[:1])
        return super().init(key, variables._replace(params=params), data, task)

    def passes(self, state: TrainState, data: Dataset, task: Task) -> tuple[TrainState, Metrics]:
        """Runs one pass over R, at a rate that falls from epoch to epoch."""

        def loss(variables: Variables, batch: Batch) -> tuple[Array, Variables]:
            outputs, variables = self.forward(variables, batch)
            return cross_entropy(outputs.logits, batch), variables

        rate = (1 + jnp.cos(jnp.pi * state.epoch / self.epochs)) / 2
        return self.descend(state, data, (task.retain,), loss, rate=lambda _: rate)

    def gradients(self, forget: int, retain: int, data: Dataset) -> int:
        """Counts the gradients of passes over R."""
        return self.epochs * retain


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


def _map_named(function: Any, tree: PyTree, *others: PyTree) -> PyTree:
    """Maps `function(number, name, leaf, *leaves of others)` over a tree of parameters."""
    columns = [jax.tree.leaves(other) for other in others]
    named = enumerate(by_name(tree).items())
    leaves = [
        function(number, name, leaf, *rest)
        for (number, (name, leaf)), *rest in zip(named, *columns, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


# Transposition


class Exchange(NamedTuple):
    """What is exchanged when a network is transposed."""

    convolutions: frozenset[Name]
    """kernels [h, h, C, F], whose height and width are"""
    flattened: Name | None
    """the kernel of a dense layer that flattened images go to"""
    side: int
    """height and width of those images"""

    def __call__(self, params: PyTree) -> PyTree:
        """Returns parameters with height and width exchanged."""

        def turn(number: int, name: Name, leaf: Array) -> Array:
            if name in self.convolutions:
                return jnp.swapaxes(leaf, 0, 1)
            if name == self.flattened:
                rows = leaf.reshape(self.side, self.side, -1, leaf.shape[1])
                return jnp.swapaxes(rows, 0, 1).reshape(leaf.shape)
            return leaf

        return _map_named(turn, params)


def transposed(model: Model, params: PyTree, images: AnyArray) -> PyTree:
    """Exchanges height and width of every convolution.

    The network then sees the transposed image xᵀ as it saw x. Where images are flattened before a
    dense layer, as `rumjax.models.Cnn` does, that layer's inputs change places as well.

    Args:
      model: the architecture.
      params: its parameters.
      images: of which shape and dtype alone matter.

    Raises:
      InvalidInputError: there is no convolution that is larger than 1×1 and as high as wide, or the
        network knows height from width in another way too.
    """
    dtype = jax.dtypes.canonicalize_dtype(images.dtype)
    return _exchange(model, tuple(images.shape[1:]), str(dtype))(params)


@functools.lru_cache(maxsize=64)
def _exchange(model: Model, shape: tuple[int, ...], dtype: str) -> Exchange:
    """Returns what is exchanged when a model of images of a shape and dtype is transposed."""
    # Kernels in the order of use, by shape.
    form = jax.ShapeDtypeStruct((2, *shape), dtype)
    forms = by_name(model.signature(form).variables.params)
    names = [
        (*layer.path, name)
        for layer in layers_in_order(model, form)
        for name in layer.parameters
        if layer.kind == "kernel" and len(forms[*layer.path, name].shape) > 1
    ]
    square = [name for name in names if len(forms[name].shape) == 4 and _is_square(forms[name])]
    if not square:
        raise InvalidInputError(
            f"ct: {model.name} has no convolution larger than 1×1 and as high as wide, so there is "
            "nothing to transpose; use rumjax.msg or rumjax.finetune"
        )

    # The dense layer after the last convolution may be given flattened images of it.
    last = max(place for place, name in enumerate(names) if len(forms[name].shape) == 4)
    features, exchange = forms[names[last]].shape[-1], Exchange(frozenset(square), None, 1)
    for name in names[last + 1 : last + 2]:
        side = math.isqrt(forms[name].shape[0] // features)
        if side > 1 and side**2 * features == forms[name].shape[0]:
            exchange = exchange._replace(flattened=name, side=side)

    # Random parameters and images tell whether that is all.
    if not _mirrors(model, exchange, form):
        raise InvalidInputError(
            f"ct: {model.name}, its convolutions transposed, does not see a transposed image as it "
            "saw the image: it tells height from width by something else, such as positions, "
            "images that are not square, or kernels; use rumjax.msg or rumjax.finetune"
        )
    return exchange


def _is_square(form: jax.ShapeDtypeStruct) -> bool:
    """Tests whether a kernel is as high as wide, and larger than 1×1."""
    return form.shape[0] == form.shape[1] > 1


def _mirrors(model: Model, exchange: Exchange, form: jax.ShapeDtypeStruct) -> bool:
    """Tests whether the exchange makes a network see xᵀ as it saw x, with random parameters."""
    count, height, width, channels = form.shape
    if height != width and exchange.flattened is not None:
        return False

    # Coarse images, whose transposition makes a difference even after pooling.
    random = np.random.default_rng(0)
    rows, columns = (np.arange(size) * 4 // size for size in (height, width))
    coarse = random.uniform(0, 1, (count, 4, 4, channels))[:, rows][:, :, columns]
    scale = 255 if jnp.issubdtype(form.dtype, jnp.integer) else 1
    images = (scale * coarse).astype(form.dtype)

    # Kernels around 0, so that signals keep their size, and all other numbers around 1.
    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        values = random.normal(0, (2 / max(1, np.prod(leaf.shape[:-1]))) ** 0.5, leaf.shape)
        values = values if len(leaf.shape) > 1 else random.uniform(0.5, 1.5, leaf.shape)
        return values.astype(leaf.dtype)

    variables = jax.tree.map(drawn, model.signature(form).variables)
    with jax.ensure_compile_time_eval():
        exchanged = variables._replace(params=exchange(variables.params))
        turned = images.swapaxes(1, 2)
        runs = [(variables, images), (variables, turned), (exchanged, turned)]
        # All at once, which takes one compilation, unless shapes differ.
        groups = [runs] if height == width else [runs[:1], runs[1:]]
        before, other, after = np.concatenate([_logits(model, group) for group in groups])
    return bool(np.linalg.norm(after - before) < 0.1 * np.linalg.norm(other - before))


def _logits(model: Model, runs: Sequence[tuple[Variables, np.ndarray]]) -> np.ndarray:
    """Returns logits [runs, B, K]; the map is compiled as a whole, which is quicker than calls."""

    def predict(one: tuple[Variables, Array]) -> Array:
        return model.apply(*one, train=False)[0].logits

    return np.asarray(jax.lax.map(predict, jax.tree.map(lambda *some: jnp.stack(some), *runs)))


# Factories


@card(
    "CE on R, after fresh entries in kernels where S and R have like gradients",
    "Triantafillou et al., 2024",
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
    batch_size: int = 64,
    **options: Unpack[SgdOptions],
) -> Msg:
    """Makes MSG."""
    return Msg(
        **sgd_fields(
            model, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, **options
        ),
        layers=check_choice("layers", layers, LAYERS),
        fraction=number_leaf("fraction", fraction, most=1.0),
        kept_rate=number_leaf("kept_rate", kept_rate, most=1.0),
    )


@card("CE on R, after transposing every convolution", "x", ("R",))
def ct(
    model: Model,
    *,
    epochs: int = 3,
    learning_rate: ArrayLike = 1e-3,
    batch_size: int = 64,
    **options: Unpack[SgdOptions],
) -> Ct:
    """Makes CT."""
    return Ct(
        **sgd_fields(
            model, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, **options
        )
    )
