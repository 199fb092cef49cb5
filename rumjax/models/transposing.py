"""Transposing a network: it then sees a transposed image as it saw the image."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.models.dense import Name, by_name, map_named
from rumjax.models.model import Model
from rumjax.models.order import layers_in_order
from rumjax.types import AnyArray, Array, PyTree, Variables


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

        return map_named(turn, params)


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
            f"transposing: {model.name} has no convolution larger than 1×1 and as high as wide, so "
            "nothing changes; use rumjax.unlearn.finetune instead of ct"
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
            f"transposing: {model.name} with transposed convolutions does not see a transposed "
            "image as it saw the image: it tells height from width by something else, such as "
            "positions, images or kernels that are not square; use another algorithm than ct"
        )
    return exchange


def _is_square(form: Array) -> bool:
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
