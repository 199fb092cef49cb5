"""Checking labeled images, and holding out a validation set. NumPy on the host."""

from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError, check_count
from rumjax.types import Dataset


def checked(where: str, images: Any, labels: Any, num_classes: int | None = None) -> Dataset:
    """Returns labeled images as uint8[N, H, W, C] and int32[N], if they are in order.

    Args:
      where: the name of the images in messages.
      images: uint8, [N, H, W, C] or [N, H, W].
      labels: integers, [N].
      num_classes: K; by default one more than the largest label, but at most N.

    Raises:
      InvalidInputError: no examples, other shapes or dtypes, lengths that differ, or labels that
        are negative or not below `num_classes`.

    Examples:
      >>> data = checked("mine", np.zeros((3, 8, 8), np.uint8), [0, 1, 1])
      >>> data.images.shape, data.labels
      ((3, 8, 8, 1), array([0, 1, 1], dtype=int32))
    """
    # Dtypes and shapes.
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

    # Labels within the classes.
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
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InvalidInputError(f"{where}: wanted images of one shape [H, W, C], got {got}")


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
      Ascending indices of the examples that stay and of those held out, int64; together 0…N-1.

    Raises:
      InvalidInputError: a fraction outside [0, 1), or a class that would lose all its examples.

    Examples:
      >>> labels = np.repeat([0, 1], 10)
      >>> stays, held_out = stratified_split(labels, 0.2, seed=0)
      >>> labels[held_out], len(stays)
      (array([0, 0, 1, 1]), 16)
    """
    labels = _integers("labels to split", labels)
    if not 0 <= fraction < 1:
        raise InvalidInputError(f"validation_fraction: wanted a number in [0, 1), got {fraction}")
    random = np.random.default_rng(check_count("seed of the validation set", seed, least=0))
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        examples = random.permutation(np.flatnonzero(labels == label))
        count = round(fraction * len(examples))
        if count == len(examples):
            raise InvalidInputError(
                f"validation_fraction: {fraction} leaves class {label} without training examples, "
                f"of which it has {count}; hold out less"
            )
        held_out[examples[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _array(where: str, values: Any) -> np.ndarray:
    """Returns an array of values, unless they are a ragged list."""
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InvalidInputError(f"{where}: wanted an array, got a ragged list: {error}") from error


def _integers(where: str, labels: Any) -> np.ndarray:
    """Returns labels as an array, if they are integers of one dimension."""
    labels = _array(where, labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(
            f"{where}: wanted integer labels [N], got {labels.dtype}{list(labels.shape)}"
        )
    return labels
