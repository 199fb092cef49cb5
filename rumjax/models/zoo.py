"""Models by name, those of rumjax and anyone's own, and the statistics that normalize images."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, check_count
from rumjax.models.cnn import Cnn
from rumjax.models.model import Model
from rumjax.models.resnet import STAGES, ResNet
from rumjax.models.vgg import Vgg16
from rumjax.registry import resolve

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": Cnn,
    **{
        name: partial(ResNet, depths=depths, bottleneck=bottleneck)
        for name, (depths, bottleneck) in STAGES.items()
    },
    "vgg16": Vgg16,
}
"""Factories of Flax modules by name, called with `num_classes`."""


def build(
    name: str,
    num_classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    bfloat16: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Builds a model by name.

    Args:
      name: "cnn", "resnet18", "resnet50", "vgg16"; or "package.module:attribute" for a Flax module
        class of your own, or a function that returns a module, called with `num_classes`.
      num_classes: K.
      mean: of each channel, for normalization, on the scale of 0…1 if images are uint8.
      std: of each channel.
      bfloat16: computes in bfloat16, passed on as `dtype`; parameters and statistics stay float32.
      options: further arguments of the module, for example {"width": 16} of a ResNet.

    Raises:
      InvalidInputError: an unknown name, an attribute that cannot be imported or is no module, an
        option that it does not take, a standard deviation that is not positive.

    Examples:
      >>> build("resnet18", 10, mean=(0.5,), std=(0.25,), options={"width": 16}).module.width
      16
    """
    # The factory and its arguments.
    factory = resolve("model", name, MODELS, wanted="a Flax module class or a function")
    arguments = dict(options or {}) | ({"dtype": jnp.bfloat16} if bfloat16 else {})
    if "num_classes" in arguments:
        raise InvalidInputError("model.options.num_classes: this is that of the data; leave it out")
    # Lists, as configurations have them, would make the model unhashable.
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    if name in MODELS:
        arguments = {option: _size(option, value) for option, value in arguments.items()}
    arguments["num_classes"] = check_count("num_classes", num_classes, least=2)

    # The module.
    try:
        # Apart from the call, so that a TypeError inside a factory keeps its traceback.
        inspect.signature(factory).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"model {name!r}: {error}") from error
    module = factory(**arguments)
    if not isinstance(module, nn.Module):
        raise InvalidInputError(f"model {name!r}: {type(module).__name__} is no Flax Linen module")
    if not np.all(np.isfinite(mean)) or not np.all(np.asarray(std) > 0):
        raise InvalidInputError(f"mean {mean} and std {std}: wanted numbers, those of std positive")
    return Model(module, tuple(map(float, mean)), tuple(map(float, std)), num_classes)


def _size(option: str, value: Any) -> Any:
    """Returns the value of an option of rumjax's models, whole numbers where these are wanted."""
    where = f"model.options.{option}"
    if option in ("hidden", "width"):
        return check_count(where, value)
    if option in ("widths", "depths"):
        if not isinstance(value, tuple):
            raise InvalidInputError(
                f"{where}: wanted several whole numbers, like (16, 32), got {value!r}"
            )
        return tuple(check_count(where, one) for one in value)
    return value


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
