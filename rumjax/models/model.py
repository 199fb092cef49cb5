"""`Model`: a Flax module and its input normalization, as one value that JAX can compile for."""

import dataclasses
import inspect
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError

from rumjax.errors import InvalidInputError
from rumjax.types import AnyArray, Array, Key, Outputs, PyTree, Variables

COLLECTIONS = {"params", "batch_stats"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network and how its input is normalized; equal by value, so a good static argument.

    The module is any Flax Linen module whose `__call__` takes a batch of images, and `train` if it
    wants to, and returns `Outputs`, a pair of logits and embeddings, or logits alone.

    Examples:
      >>> class Linear(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, images):
      ...         return nn.Dense(3)(images.reshape(len(images), -1))
      >>> model, images = Model(Linear()), np.zeros((2, 4, 4, 1), np.uint8)
      >>> variables = model.init(jax.random.key(0), images)
      >>> model.apply(variables, images, train=False)[0].logits.shape
      (2, 3)
    """

    module: nn.Module
    mean: tuple[float, ...] = (0.0,)
    """of each channel, or one for all; images of uint8 are divided by 255 first"""
    std: tuple[float, ...] = (1.0,)
    num_classes: int | None = None
    """K, to be checked against the module's logits; None if it is not to be checked"""

    def init(self, key: Key, images: AnyArray | jax.ShapeDtypeStruct) -> Variables:
        """Returns fresh variables for images of this shape and dtype; pixels do not matter.

        Raises:
          InvalidInputError: the module has variables other than params and batch_stats, or takes
            other images.
        """
        one = self.normalize(jnp.zeros((1, *images.shape[1:]), images.dtype))
        params_key, dropout_key = jax.random.split(key)
        rngs = {"params": params_key, "dropout": dropout_key}
        variables = self.module.init(rngs, one, **self._mode(train=False))
        if unknown := set(variables) - COLLECTIONS:
            raise InvalidInputError(
                f"{self._name} has variables of {sorted(unknown)}; "
                "only params and batch_stats are kept"
            )
        return Variables(variables.get("params", {}), variables.get("batch_stats", {}))

    def apply(
        self, variables: Variables, images: AnyArray, *, train: bool, key: Key | None = None
    ) -> tuple[Outputs, PyTree]:
        """Returns outputs on [B, H, W, C] images, and the batch statistics.

        Args:
          variables: params and batch_stats.
          images: uint8, or floats.
          train: True if batch norm is to use the batch and update its statistics, and dropout to
            drop.
          key: for dropout.

        Returns:
          float32 outputs, embeddings of width 0 if the module has none; batch statistics, updated
          if `train`, else as given.

        Raises:
          InvalidInputError: images or outputs of a wrong shape, or dropout without a key.
        """
        # The module's variables and arguments, as Linen has them.
        collections = {"params": variables.params, "batch_stats": variables.batch_stats}
        inputs, mode = self.normalize(images), self._mode(train=train)
        rngs = None if key is None else {"dropout": key}
        try:
            returned, updated = self.module.apply(
                collections, inputs, rngs=rngs, mutable=["batch_stats"] if train else [], **mode
            )
        except InvalidRngError as error:
            raise InvalidInputError(
                f"{self._name} draws random numbers: give apply a key, and call them 'dropout'"
            ) from error
        batch_stats = updated.get("batch_stats", variables.batch_stats)
        return self._outputs(returned, len(images)), batch_stats

    def normalize(self, images: AnyArray) -> Array:
        """Returns float32 images, (x - mean) / std per channel, x in 0…1 if they were uint8.

        Raises:
          InvalidInputError: neither uint8 nor floats, or of another number of channels.
        """
        if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
            raise InvalidInputError(f"images: wanted uint8 or floats, got {images.dtype}")
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        channels = {1, images.shape[-1]}
        if images.ndim != 4 or mean.size not in channels or std.size not in channels:
            raise InvalidInputError(
                f"images: {list(images.shape)} are not [B, H, W, C] with a mean for each of the C "
                f"channels; there are {mean.size} means and {std.size} standard deviations"
            )
        scale = 255.0 if images.dtype == jnp.uint8 else 1.0
        scaled = jnp.asarray(images).astype(jnp.float32) / scale
        return (scaled - mean.reshape(1, 1, 1, -1)) / std.reshape(1, 1, 1, -1)

    @property
    def _name(self) -> str:
        """The module in messages."""
        return type(self.module).__name__

    def _mode(self, *, train: bool) -> dict[str, bool]:
        """Returns `train` as keyword arguments, if the module takes it."""
        takes = inspect.signature(type(self.module).__call__).parameters.values()
        wants = any(p.name == "train" or p.kind is inspect.Parameter.VAR_KEYWORD for p in takes)
        return {"train": train} if wants else {}

    def _outputs(self, returned: Any, batch: int) -> Outputs:
        """Returns what the module returned as float32 `Outputs`, if it is in order."""
        pair = returned if isinstance(returned, tuple) else (returned, jnp.zeros((batch, 0)))
        if len(pair) != 2 or any(_leading(output) != (batch,) for output in pair):
            raise InvalidInputError(
                f"{self._name} must return logits [B, K], alone or with embeddings [B, E]; "
                f"on {batch} images it returned {jax.tree.map(jnp.shape, returned)}"
            )
        logits, embeddings = (output.astype(jnp.float32) for output in pair)
        if self.num_classes not in (None, logits.shape[-1]):
            raise InvalidInputError(
                f"{self._name} returned logits of {logits.shape[-1]} classes, "
                f"the data has {self.num_classes}"
            )
        return Outputs(logits, embeddings)


def _leading(output: Any) -> tuple[int, ...] | None:
    """Returns all dimensions but the last of an array; None of anything else."""
    return output.shape[:-1] if isinstance(output, jax.Array) and output.ndim else None


def predict(
    model: Model, variables: Variables, images: AnyArray, *, batch_size: int = 512
) -> Outputs:
    """Returns outputs on [N, H, W, C] images, a batch at a time, with running statistics.

    Args:
      model: the architecture.
      variables: of the model.
      images: uint8 or floats; N may be 0.
      batch_size: images at a time.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(3, widths=(4,), hidden=8)), jnp.zeros((5, 4, 4, 1), jnp.uint8)
      >>> outputs = predict(model, model.init(jax.random.key(0), images), images, batch_size=2)
      >>> outputs.logits.shape, outputs.embeddings.shape
      ((5, 3), (5, 8))
    """
    # Whole batches; the last one is filled up with black images.
    count = len(images)
    batch_size = max(1, min(batch_size, count))
    batches = -(-count // batch_size)
    fill = batches * batch_size - count
    padded = jnp.pad(jnp.asarray(images), ((0, fill), *[(0, 0)] * (images.ndim - 1)))

    def outputs(batch: Array) -> Outputs:
        return model.apply(variables, batch, train=False)[0]

    # One batch after another, and the filling cut off.
    stacked = jax.lax.map(outputs, padded.reshape(batches, batch_size, *images.shape[1:]))
    return jax.tree.map(
        lambda leaf: leaf.reshape(batches * batch_size, leaf.shape[-1])[:count], stacked
    )


def margins(logits: Array, labels: AnyArray) -> Array:
    """Returns the margin φ = z_y − logsumexp(z_{k≠y}) of every example, z the logits, y its label.

    It is the logit of the true label's probability: p_y = 1 / (1 + exp(−φ)). For logits on the
    host, `rumjax.audits.margins` does the same in NumPy.

    Args:
      logits: float32[B, K], of two classes or more.
      labels: int32[B].

    Returns:
      float32[B].

    Examples:
      >>> margins(jnp.array([[2.0, 0.0], [1.0, 3.0]]), jnp.array([0, 0])).tolist()
      [2.0, -2.0]
    """
    chex.assert_rank([logits, labels], [2, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    position = jnp.arange(len(labels))
    true = logits[position, labels]
    others = logits.at[position, labels].set(-jnp.inf)
    return true - jax.nn.logsumexp(others, axis=-1)


def require_embeddings(outputs: Outputs) -> Array:
    """Returns the embeddings, float32[B, E] with E of at least 1.

    Raises:
      InvalidInputError: the model has none.

    Examples:
      >>> require_embeddings(Outputs(jnp.zeros((2, 3)), jnp.zeros((2, 8)))).shape
      (2, 8)
    """
    if outputs.embeddings.shape[-1] == 0:
        raise InvalidInputError(
            "the model returns logits alone, but its embeddings are needed: let its module return "
            "(logits, embeddings)"
        )
    return outputs.embeddings
