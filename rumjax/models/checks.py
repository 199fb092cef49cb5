"""Checks of images, labels and variables on the host, which every door of the library makes.

Values are looked at only where that is cheap: labels always, images if they are floats. Arrays that
are still to be computed, inside `jax.jit` or `jax.vmap`, are checked by shape and dtype alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, as_array, check_floats, check_labels
from rumjax.models.model import Model
from rumjax.rows import Rows
from rumjax.types import AnyArray, Array, PyTree, Variables, collections_of

MOST = 10.0
"""The largest |x| of float images: those of 0…1 stay below it, standardized or not."""


def is_traced(tree: PyTree) -> bool:
    """Tests whether some array of a tree is still to be computed.

    Examples:
      >>> is_traced(jnp.zeros(3))
      False
    """
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_model(model: Any) -> Model:
    """Returns a model, if it is one.

    Raises:
      InvalidInputError: a bare module, or anything else.

    Examples:
      >>> from rumjax.models import Cnn
      >>> check_model(Model(Cnn(2))) == Model(Cnn(2))
      True
    """
    if not isinstance(model, Model):
        raise InvalidInputError(f"model: wanted rumjax.Model(module), got {type(model).__name__}")
    return model


def check_images(what: str, images: Any) -> AnyArray:
    """Returns images as [N, H, W, C], if they are uint8, or floats of a scale that models take.

    Args:
      what: the name used in messages.
      images: [N, H, W, C] or [N, H, W], uint8 or floats; N may be 0. `Rows` are made of images
        that were checked.

    Raises:
      InvalidInputError: other shapes or dtypes, or floats that are not finite or beyond ±`MOST`,
        such as those on the scale of 0…255.

    Examples:
      >>> check_images("images", np.zeros((2, 8, 8), np.uint8)).shape
      (2, 8, 8, 1)
    """
    # Dtype and shape.
    if isinstance(images, Rows):
        return images  # type: ignore[return-value]
    if not isinstance(images, np.ndarray | jax.Array) or np.ma.isMaskedArray(images):
        images = as_array(what, images)
    floats = jnp.issubdtype(images.dtype, jnp.floating)
    advice = "cast pixels of 0…255 by images.astype(np.uint8)"
    if images.dtype != np.uint8 and not floats:
        raise InvalidInputError(
            f"{what}: wanted uint8, or floats of 0…1, got {images.dtype}; {advice}"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InvalidInputError(
            f"{what}: wanted [N, H, W, C] or [N, H, W], got {list(images.shape)}"
        )

    # The range of floats.
    if floats and len(images) and not is_traced(images):
        with jax.ensure_compile_time_eval():
            least, most = float(images.min()), float(images.max())
        if not -MOST <= least <= most <= MOST:
            raise InvalidInputError(
                f"{what}: floats from {least:g} to {most:g}; wanted finite ones of 0…1, or "
                f"standardized ones; {advice}, or divide them by 255"
            )
    return images


def check_labels_of(what: str, labels: Any, size: int, num_classes: int | None = None) -> AnyArray:
    """Returns labels as int32[N], on the device if they are there, like `check_labels`.

    Examples:
      >>> check_labels_of("labels", np.array([1, 0]), 2).dtype
      dtype('int32')
    """
    if not is_traced(labels):
        checked = check_labels(what, labels, size=size, num_classes=num_classes)
        as_given = isinstance(labels, jax.Array) and labels.dtype == jnp.int32
        return labels.reshape(size) if as_given else checked
    if labels.size != size or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InvalidInputError(
            f"{what}: wanted integers [{size}], got {labels.dtype}{list(labels.shape)}"
        )
    return jnp.reshape(labels, size).astype(jnp.int32)


def check_logits(logits: Any) -> Array:
    """Returns logits [B, K] of two classes or more.

    Raises:
      InvalidInputError: another shape, or no floats.
    """
    array = logits
    if not is_traced(logits):
        array = jnp.asarray(check_floats("logits", logits, "B", "K", finite=False))
    if array.ndim != 2 or array.shape[1] < 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InvalidInputError(
            f"logits: wanted floats [B, K], K at least 2, got {array.dtype}{list(array.shape)}"
        )
    return array


def check_variables(
    what: str, model: Model, variables: Any, images: AnyArray, *, lead: tuple[int, ...] = ()
) -> Variables:
    """Returns variables in the form that a model has them, if they are of this model.

    Args:
      what: the name used in messages.
      model: the architecture.
      variables: `Variables`, or what has or holds `params` and `batch_stats`: the dictionary of a
        Linen module, frozen or not, or a train state. Floats of other dtypes are converted.
      images: that the model is applied to; only shape and dtype count.
      lead: axes before those of every array, of many models.

    Raises:
      InvalidInputError: an array is missing, or of another shape than the model's.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(2, widths=(), hidden=4)), jnp.zeros((1, 2, 2, 1), jnp.uint8)
      >>> params = model.init(jax.random.key(0), images).params
      >>> check_variables("variables", model, {"params": params}, images).batch_stats
      {}
    """
    # The names of all arrays, those wanted and those given.
    given = _by_name(collections_of(what, variables))
    form = model.signature(images).variables
    wanted = _by_name(form)
    missing, surplus = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or surplus:
        names = [f"{name} is missing" for name in missing[:1]]
        names += [f"{name} is not the model's" for name in surplus[:1]]
        raise InvalidInputError(
            f"{what}: they are not those of {model.name}: "
            f"{' and '.join(names)}; {len(missing)} are missing in all, and {len(surplus)} too many"
        )

    # Their shapes and dtypes.
    leaves = []
    for name, like in wanted.items():
        leaf = given[name]
        if np.shape(leaf) != (*lead, *like.shape) or not hasattr(leaf, "dtype"):
            raise InvalidInputError(
                f"{what}: {name} has shape {list(np.shape(leaf))}, but "
                f"{[*lead, *like.shape]} in {model.name} on images "
                f"{list(images.shape[1:])}"
            )
        leaves.append(leaf if leaf.dtype == like.dtype else jnp.asarray(leaf, like.dtype))
    checked: Variables = jax.tree.unflatten(jax.tree.structure(form), leaves)
    return checked


def _by_name(tree: PyTree) -> dict[str, Any]:
    """Returns the arrays of a tree by their names, "params/Dense_0/kernel" for instance."""
    flat, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
