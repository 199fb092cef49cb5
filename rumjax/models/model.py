"""`Model`: a Flax module and its input normalization, as one value that JAX can compile for."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import InvalidInputError, check_choice
from rumjax.models.cnn import Cnn
from rumjax.models.resnet import STAGES, ResNet
from rumjax.models.vgg import Vgg16
from rumjax.types import AnyArray, Array, Key, Outputs, PyTree, Variables

COLLECTIONS = {"params", "batch_stats"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network and how its input is normalized; equal by value, so a good static argument.

    The module is any Flax Linen module whose `__call__` takes a batch of images, and `train` if it
    wants to, and returns `Outputs`, a pair of logits and embeddings, or logits alone.
    """

    module: nn.Module
    mean: tuple[float, ...] = (0.0,)
    """of each channel, or one for all; images of uint8 are divided by 255 first"""
    std: tuple[float, ...] = (1.0,)

    def init(self, key: Key, images: AnyArray) -> Variables:
        """Fresh variables for images like these.

        Raises:
          InvalidInputError: the module has variables other than params and batch_stats.
        """
        variables = self.module.init(key, self.normalize(images), **self._mode(train=False))
        if unknown := set(variables) - COLLECTIONS:
            raise InvalidInputError(
                f"{type(self.module).__name__} has variables of {sorted(unknown)}; "
                "only params and batch_stats are kept"
            )
        return Variables(variables["params"], variables.get("batch_stats", {}))

    def apply(
        self, variables: Variables, images: AnyArray, *, train: bool, key: Key | None = None
    ) -> tuple[Outputs, PyTree]:
        """Outputs on [B, H, W, C] images, and the batch statistics.

        Args:
          variables: params and batch_stats.
          images: uint8, or floats.
          train: whether batch norm uses the batch and updates its statistics, and dropout drops.
          key: for dropout.

        Returns:
          float32 outputs; batch statistics, updated if `train`, else as given.
        """
        collections = {"params": variables.params, "batch_stats": variables.batch_stats}
        call = partial(
            self.module.apply,
            collections,
            self.normalize(images),
            rngs=None if key is None else {"dropout": key},
            **self._mode(train=train),
        )
        if not train:
            return self._outputs(call(), len(images)), variables.batch_stats
        found, updated = call(mutable=["batch_stats"])
        return self._outputs(found, len(images)), updated.get("batch_stats", {})

    def normalize(self, images: AnyArray) -> Array:
        """float32 images of about mean 0 and variance 1 per channel."""
        scale = 255.0 if images.dtype == jnp.uint8 else 1.0
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (jnp.asarray(images).astype(jnp.float32) / scale - mean) / std

    def _mode(self, *, train: bool) -> dict[str, bool]:
        takes = inspect.signature(type(self.module).__call__).parameters
        return {"train": train} if "train" in takes else {}

    def _outputs(self, found: Any, batch: int) -> Outputs:
        if not isinstance(found, tuple):
            found = (found, jnp.zeros((batch, 0)))
        if len(found) != 2 or found[0].ndim != 2 or len(found[0]) != batch:
            raise InvalidInputError(
                f"{type(self.module).__name__} must return logits [B, K], alone or with embeddings "
                f"[B, E]; on {batch} images it returned {jax.tree.map(jnp.shape, found)}"
            )
        logits, embeddings = (each.astype(jnp.float32) for each in found)
        return Outputs(logits, embeddings.reshape(batch, -1))


def predict(
    model: Model, variables: Variables, images: AnyArray, *, batch_size: int = 500
) -> Outputs:
    """Outputs on any number of images, a batch at a time, without augmentation or dropout."""
    count = len(images)
    batch_size = min(batch_size, count)
    images = jnp.pad(jnp.asarray(images), ((0, -count % batch_size), (0, 0), (0, 0), (0, 0)))

    def outputs(batch: Array) -> Outputs:
        return model.apply(variables, batch, train=False)[0]

    batches = images.reshape(-1, batch_size, *images.shape[1:])
    found = jax.lax.map(outputs, batches)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1])[:count], found)


def build(
    name: str,
    num_classes: int,
    *,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    bfloat16: bool = False,
    options: dict[str, Any] | None = None,
) -> Model:
    """A model by name.

    Args:
      name: "cnn", "resnet18", "resnet50", "vgg16"; or "package.module:attribute" for a Flax module
        class of your own, or a function that returns a module, called with `num_classes`.
      num_classes: K.
      mean: of each channel, for normalization.
      std: of each channel.
      bfloat16: whether to compute in bfloat16; parameters and statistics stay float32.
      options: further arguments of the module, for example {"width": 16} of a ResNet.

    Raises:
      InvalidInputError: an unknown name, an attribute that cannot be imported or is no module.
    """
    factory = _imported(name) if ":" in name else MODELS[check_choice("model", name, MODELS)]
    arguments = dict(options or {}) | ({"dtype": jnp.bfloat16} if bfloat16 else {})
    try:
        module = factory(num_classes=num_classes, **arguments)
    except TypeError as error:
        raise InvalidInputError(f"model {name!r}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InvalidInputError(f"model {name!r}: {type(module).__name__} is no Flax Linen module")
    if np.any(np.asarray(std) <= 0):
        raise InvalidInputError(f"std: wanted positive numbers, got {std}; is a channel constant?")
    return Model(module, tuple(mean), tuple(std))


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(f"model {name!r}: {error}") from error
    return found


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8[N, H, W, C] images, on a scale of 0…1.

    Exact, from histograms, without a copy of the images as floats.
    """
    levels = np.arange(256) / 255.0
    mean, std = [], []
    for channel in range(images.shape[-1]):
        counts = np.zeros(256, np.int64)
        for block in np.array_split(images[..., channel], max(1, len(images) // 1000)):
            counts += np.bincount(block.ravel(), minlength=256)
        share = counts / counts.sum()
        mean.append(float(share @ levels))
        std.append(float(np.sqrt(share @ (levels - mean[-1]) ** 2)))
    return tuple(mean), tuple(std)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": Cnn,
    **{
        name: partial(ResNet, depths=depths, bottleneck=bottleneck)
        for name, (depths, bottleneck) in STAGES.items()
    },
    "vgg16": Vgg16,
}
"""Factories of Flax modules by name, called with `num_classes`."""
