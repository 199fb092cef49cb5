"""How pixels are normalized: numbers of the user's own, or the statistics of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError, check_choice, check_number

PIXELS = {"0-1": 1.0, "0-255": 255.0}
"""Scales that mean and standard deviation may be given on, and what white is on them."""
LEAST = float(np.finfo(np.float32).tiny)

Numbers = float | Sequence[float]


def normalization(
    mean: Numbers | None = None,
    std: Numbers | None = None,
    pixels: str = "0-1",
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation on the scale of 0…1, as `Model` takes them.

    Args:
      mean: of each channel, or one number for all; 0 by default.
      std: of each channel, or one number for all; 1 by default.
      pixels: the scale of both, "0-1" or "0-255".

    Raises:
      InvalidInputError: another scale, or numbers that are not finite, those of std positive.

    Examples:
      >>> normalization(51, (255, 51), "0-255")
      ((0.2,), (1.0, 0.2))
      >>> normalization(pixels="0-255")  # a network of its own pixels
      ((0.0,), (0.00392156862745098,))
    """
    white = PIXELS[check_choice("model.pixels", pixels, PIXELS)]
    means = _numbers("model.mean", 0.0 if mean is None else mean, -np.inf)
    deviations = _numbers("model.std", 1.0 if std is None else std, LEAST)
    return (
        tuple(number / white for number in means),
        tuple(number / white for number in deviations),
    )


def normalization_of(
    images: np.ndarray,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    pixels: str = "0-1",
) -> dict[str, Any]:
    """Returns the arguments of `rumjax.models.build` that normalize images.

    Numbers that are given win. Those that are not are the statistics of the images on the scale of
    0…1; on that of 0…255 they are left out, since a network for such pixels has its own.

    Args:
      images: uint8[N, H, W, C].
      mean: as `normalization`.
      std: as `normalization`.
      pixels: as `normalization`.

    Raises:
      InvalidInputError: as `normalization`, or another number of channels.

    Examples:
      >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
      >>> normalization_of(images, mean=0.25)
      {'mean': 0.25, 'std': (0.5,), 'pixels': '0-1'}
    """
    for name, numbers in {"mean": mean, "std": std}.items():
        count = 1 if numbers is None else np.size(np.asarray(numbers))
        if count not in (1, images.shape[-1]):
            raise InvalidInputError(
                f"model.{name}: wanted one number, or one for each of the {images.shape[-1]} "
                f"channels of the images, got {count}"
            )
    normalization(mean, std, pixels)
    if pixels == "0-1":
        found = channel_statistics(images)
        mean, std = (
            other if own is None else own for own, other in zip((mean, std), found, strict=True)
        )
    return {"mean": mean, "std": std, "pixels": pixels}


def _numbers(what: str, given: Any, least: float) -> tuple[float, ...]:
    """Returns numbers as a tuple.

    Raises:
      InvalidInputError: there are none, or they are no finite numbers of `least` or more.
    """
    numbers = check_number(what, given, least=least)
    if np.size(numbers) == 0 or np.ndim(numbers) > 1:
        raise InvalidInputError(f"{what}: wanted a number, or one for each channel, got {given!r}")
    return tuple(map(float, np.ravel(np.asarray(given, np.float64))))


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel of uint8[N, H, W, C], scaled to 0…1.

    They are exact to the last rounding, from histograms in whole numbers, without a copy of the
    images. The standard deviation of a constant channel is given as 1, so that it normalizes to 0.

    Raises:
      InvalidInputError: not uint8[N, H, W, C], or empty.

    Examples:
      >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
      >>> channel_statistics(images)
      ((0.5,), (0.5,))
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise InvalidInputError(
            f"images: wanted some of uint8[N, H, W, C], got {images.dtype}{list(images.shape)}"
        )
    moments = [_moments(images[..., channel]) for channel in range(images.shape[-1])]
    mean = tuple(total / (255 * count) for count, total, _ in moments)
    variances = (count * squares - total**2 for count, total, squares in moments)
    std = tuple(
        variance**0.5 / (255 * count) if variance else 1.0
        for variance, (count, _, _) in zip(variances, moments, strict=True)
    )
    return mean, std


def _moments(channel: np.ndarray) -> tuple[int, int, int]:
    """Returns number, sum and sum of squares of uint8 values, in Python's whole numbers."""
    counts = np.zeros(256, np.int64)
    for block in np.array_split(channel, -(-len(channel) // 1000)):
        counts += np.bincount(block.ravel(), minlength=256)
    levels = list(enumerate(counts.tolist()))
    return (
        sum(n for _, n in levels),
        sum(value * n for value, n in levels),
        sum(value**2 * n for value, n in levels),
    )
