"""Checking labeled images, and holding out a validation set. NumPy on the host."""

from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError, check_count
from rumjax.types import Dataset


def checked(where: str, images: Any, labels: Any, num_classes: int | None = None) -> Dataset:
    """Labeled images as uint8[N, H, W, C] and int32[N].

    Args:
      where: what to call them in messages.
      images: uint8, [N, H, W, C] or [N, H, W].
      labels: integers, [N].
      num_classes: K; if unknown, one more than the largest label, which N has to reach.

    Raises:
      InvalidInputError: no examples, other shapes or dtypes, lengths that differ, or labels that
        are negative or not below `num_classes`.
    """
    images, labels = _array(where, images), _integers(where, labels)
    if images.dtype != np.uint8:
        raise InvalidInputError(
            f"{where}: wanted images of uint8, got {images.dtype}; scale them to 0…255 and cast"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise InvalidInputError(
            f"{where}: wanted images [N, H, W, C] or [N, H, W], at least one, got "
            f"{list(images.shape)}"
        )
    if len(labels) != len(images):
        raise InvalidInputError(
            f"{where}: {len(images)} images, but {len(labels)} labels; each needs one"
        )
    if num_classes is None:
        num_classes = int(labels.max()) + 1
        # A stray 2**31 would otherwise become as many classes.
        if num_classes > len(labels):
            raise InvalidInputError(
                f"{where}: label {num_classes - 1} of only {len(labels)} examples; number the "
                "classes 0…K-1, or give their names"
            )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise InvalidInputError(
            f"{where}: {outside.size} labels are outside 0…{num_classes - 1}, "
            f"the first is {labels[outside[0]]} of example {outside[0]}"
        )
    return Dataset(np.ascontiguousarray(images), labels.astype(np.int32))


def check_same_shape(where: str, **parts: Dataset) -> None:
    """Checks that the images of all parts of a data set have one shape.

    Raises:
      InvalidInputError: names the parts and their shapes.
    """
    shapes = {name: list(part.images.shape[1:]) for name, part in parts.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InvalidInputError(f"{where}: wanted images of one shape [H, W, C], got {found}")


def stratified_split(
    labels: np.ndarray, fraction: float, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a fraction of every class, at random.

    Args:
      labels: int[N].
      fraction: of each class, in [0, 1); `round(fraction * examples)` of a class are held out,
        so halves go to the even number and a small class may lose none.
      seed: of the choice; the same seed holds out the same examples.

    Returns:
      Ascending indices of what stays and of what is held out, int64; together 0…N-1.

    Raises:
      InvalidInputError: a fraction outside [0, 1), or a class that would lose all its examples.
    """
    labels = _integers("labels to split", labels)
    if not 0 <= fraction < 1:
        raise InvalidInputError(f"validation_fraction: wanted a number in [0, 1), got {fraction}")
    random = np.random.default_rng(check_count("seed of the validation set", seed, least=0))
    held_out = np.zeros(len(labels), bool)
    for each in np.unique(labels):
        examples = random.permutation(np.flatnonzero(labels == each))
        count = round(fraction * len(examples))
        if count == len(examples):
            raise InvalidInputError(
                f"validation_fraction: {fraction} leaves class {each} without training examples, "
                f"of which it has {count}; hold out less"
            )
        held_out[examples[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _array(where: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InvalidInputError(f"{where}: wanted an array, got a ragged list: {error}") from error


def _integers(where: str, labels: Any) -> np.ndarray:
    labels = _array(where, labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(
            f"{where}: wanted integer labels [N], got {labels.dtype}{list(labels.shape)}"
        )
    return labels
