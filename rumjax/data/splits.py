"""Checking labeled images, and holding out a validation set. NumPy on the host."""

from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError, check_count
from rumjax.types import Dataset

MOST_CHANNELS = 4
"""Channels, above which an axis may be the height or width of images with channels first."""


def checked(where: str, images: Any, labels: Any, num_classes: int | None = None) -> Dataset:
    """Returns labeled images as uint8[N, H, W, C] and int32[N], if they are in order.

    Args:
      where: the name of the images in messages.
      images: [N, H, W, C] or [N, H, W], uint8 or whole numbers 0…255 of another dtype.
      labels: whole numbers, [N] or [N, 1].
      num_classes: K; by default one more than the largest label, and then every class below must
        have an example.

    Raises:
      InvalidInputError: no examples, other shapes or dtypes, channels that are not last, lengths
        that differ, labels that are negative or not below `num_classes`, or a class without an
        example though nobody says that it exists.

    Examples:
      >>> data = checked("mine", np.zeros((3, 8, 8), np.uint8), [0, 1, 1])
      >>> data.images.shape, data.labels
      ((3, 8, 8, 1), array([0, 1, 1], dtype=int32))
    """
    images, labels = _pixels(where, images), _integers(where, labels)
    if len(labels) != len(images):
        raise InvalidInputError(
            f"{where}: {len(images)} images, but {len(labels)} labels; each needs one"
        )
    count = _count_classes(where, labels) if num_classes is None else num_classes
    outside = np.flatnonzero((labels < 0) | (labels >= count))
    if outside.size:
        raise InvalidInputError(
            f"{where}: {outside.size} labels are outside 0…{count - 1}, "
            f"the first is {labels[outside[0]]} of example {outside[0]}"
        )
    return Dataset(np.ascontiguousarray(images), labels.astype(np.int32))


def _pixels(where: str, values: Any) -> np.ndarray:
    """Returns images as uint8[N, H, W, C], if that changes none of their numbers.

    Raises:
      InvalidInputError: other numbers than 0…255, or shapes that are no images with channels last.
    """
    # The shape, with a channel where there is none.
    images = _array(where, values)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise InvalidInputError(
            f"{where}: wanted images [N, H, W, C] or [N, H, W], at least one, got "
            f"{list(images.shape)}"
        )
    _, height, width, channels = images.shape
    if channels > MOST_CHANNELS >= height:
        raise InvalidInputError(
            f"{where}: {list(images.shape)} are images with channels first; wanted [N, H, W, C], "
            "which numpy.moveaxis(images, 1, -1) makes of them"
        )
    if channels > MOST_CHANNELS and height == width == channels:
        raise InvalidInputError(
            f"{where}: {list(images.shape)} are volumes, wanted images [N, H, W, C]"
        )

    # Whole numbers 0…255 are kept as they are; a scale of 0…1 is not guessed.
    if images.dtype == np.uint8:
        return images
    real = images.dtype.kind in "iuf"
    whole = real and images.min() >= 0 and images.max() <= 255 and (images == images // 1).all()
    if not whole or images.max() <= 1:
        span = f" in {images.min():g}…{images.max():g}" if real else ""
        raise InvalidInputError(
            f"{where}: wanted images of uint8, got {images.dtype}{span}; scale them to whole "
            "numbers 0…255, which are taken in other dtypes too"
        )
    return images.astype(np.uint8)


def _count_classes(where: str, labels: np.ndarray) -> int:
    """Returns K, one more than the largest label, if every class below has an example."""
    count = int(labels.max()) + 1
    # A stray 2**31 would otherwise become as many classes.
    if count > len(labels):
        raise InvalidInputError(
            f"{where}: label {count - 1} of only {len(labels)} examples; number the "
            "classes 0…K-1, or give their names"
        )
    examples = np.bincount(labels[labels >= 0], minlength=count)
    if absent := np.flatnonzero(examples == 0).tolist():
        first = "; subtract 1 from the labels" if absent == [0] else ""
        raise InvalidInputError(
            f"{where}: labels go up to {count - 1}, and no example has label "
            f"{', '.join(map(str, absent[:5]))}{first}, number the classes 0…K-1 without gaps, or "
            "give the names of all classes as class_names"
        )
    return count


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
    labels: np.ndarray, fraction: float, *, seed: int, keep: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a fraction of every class, at random.

    Args:
      labels: int[N].
      fraction: of each class, in [0, 1); `round(fraction * examples)` of a class are held out,
        so halves go to the even number and a small class may lose none.
      seed: of the choice; the same seed holds out the same examples.
      keep: bool[N], examples that are not held out; others take their place as far as there are.

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
    try:
        fraction = float(fraction)
    except (TypeError, ValueError):
        fraction = np.nan
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
        if keep is not None:
            examples = examples[~keep[examples]]
        held_out[examples[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _array(where: str, values: Any) -> np.ndarray:
    """Returns an array of values, unless they are a ragged list."""
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InvalidInputError(f"{where}: wanted an array, got a ragged list: {error}") from error


def _integers(where: str, labels: Any) -> np.ndarray:
    """Returns labels as integers of one dimension, if they are whole numbers [N] or [N, 1].

    Raises:
      InvalidInputError: other shapes, rows of a class each (one-hot) among them, or no numbers.
    """
    labels = _array(where, labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f" and bool((labels == np.trunc(labels)).all())
    )
    if labels.ndim != 1 or not whole or labels.size == 0:
        hint = "; one-hot rows become labels by argmax(axis=1)" if labels.ndim == 2 else ""
        raise InvalidInputError(
            f"{where}: wanted integer labels [N] or [N, 1], got {labels.dtype}"
            f"{list(labels.shape)}{hint}"
        )
    if labels.dtype.kind == "f" and np.abs(labels).max() > np.iinfo(np.int32).max:
        raise InvalidInputError(f"{where}: label {np.abs(labels).max():g} is no class")
    return labels.astype(np.int64) if labels.dtype.kind in "fb" else labels
