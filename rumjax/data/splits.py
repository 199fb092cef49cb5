"""Checking labelled images, and holding out a validation set. NumPy on the host."""

from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.types import Dataset


def checked(where: str, images: Any, labels: Any, num_classes: int | None = None) -> Dataset:
    """Labelled images as uint8[N, H, W, C] and int32[N].

    Args:
      where: what to call them in messages.
      images: uint8, [N, H, W, C] or [N, H, W].
      labels: integers, [N].
      num_classes: K, if known.

    Raises:
      InvalidInputError: no examples, other shapes or dtypes, lengths that differ, or labels that
        are negative or not below `num_classes`.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise InvalidInputError(
            f"{where}: wanted images uint8[N, H, W, C], N of at least 1, got "
            f"{images.dtype}{list(images.shape)}"
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(
            f"{where}: wanted integer labels [N], got {labels.dtype}{list(labels.shape)}"
        )
    if len(labels) != len(images):
        raise InvalidInputError(f"{where}: {len(images)} images, but {len(labels)} labels")
    limit = int(labels.max()) + 1 if num_classes is None else num_classes
    outside = np.flatnonzero((labels < 0) | (labels >= limit))
    if outside.size:
        raise InvalidInputError(
            f"{where}: {outside.size} labels are outside 0…{limit - 1}, "
            f"the first is {labels[outside[0]]} of example {outside[0]}"
        )
    return Dataset(np.ascontiguousarray(images), labels.astype(np.int32))


def stratified_split(
    labels: np.ndarray, fraction: float, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a fraction of every class, at random.

    Args:
      labels: int[N].
      fraction: of each class, rounded to whole examples; 0 holds out none.
      seed: of the choice.

    Returns:
      Ascending indices of what stays and of what is held out, int64.

    Raises:
      InvalidInputError: a fraction outside [0, 1), or a class that would lose all its examples.
    """
    if not 0 <= fraction < 1:
        raise InvalidInputError(f"validation_fraction: wanted a number in [0, 1), got {fraction}")
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for each in np.unique(labels):
        examples = random.permutation(np.flatnonzero(labels == each))
        count = round(fraction * len(examples))
        if count == len(examples):
            raise InvalidInputError(
                f"validation_fraction: {fraction} leaves class {each} without training examples"
            )
        held_out[examples[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
