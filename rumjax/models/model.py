"""`Model`: a Flax module and its input normalization, as one value that JAX can compile for."""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError, ModifyScopeVariableError

from rumjax.errors import InvalidInputError, as_array, check_number, shown
from rumjax.models.layers import quick_convolutions
from rumjax.models.modes import dropouts, in_mode, unknown_flags
from rumjax.types import AnyArray, Array, Key, Outputs, PyTree, Variables, collections_of

COLLECTIONS = {"params", "batch_stats"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network and how its input is normalized; equal by value, so a good static argument.

    The module is any Flax Linen module whose `__call__` takes a batch of images and returns
    `Outputs`, a pair of logits and embeddings, or logits alone. A module that trains in another way
    than it predicts has a flag, an argument or a field, called `train`, `training`, `is_training`,
    `deterministic` or `use_running_average` for instance; see `rumjax.models.modes.FLAGS`. Networks
    of other libraries come by `rumjax.models.from_nnx` and `rumjax.models.from_functions`.

    Raises:
      InvalidInputError: no instance of a Linen module, one that cannot be hashed, or means and
        standard deviations that are not finite numbers, the latter above 0.

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

    def __post_init__(self) -> None:
        # A module, and numbers, which JAX can tell from others.
        if not isinstance(self.module, nn.Module):
            raise InvalidInputError(
                f"model: wanted an instance of a Flax Linen module, got {shown(self.module)}; "
                "rumjax.models.from_nnx makes one of an NNX class, and "
                "rumjax.models.from_functions one of a pair (init, apply)"
            )
        for name, least in (("mean", -np.inf), ("std", float(np.finfo(np.float32).tiny))):
            numbers = check_number(f"model, {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, tuple(map(float, np.ravel(getattr(self, name)))))
            if np.size(numbers) == 0:
                raise InvalidInputError(
                    f"model, {name}: wanted a number for each channel, got none"
                )
        lists = {name: tuple(v) for name, v in vars(self.module).items() if isinstance(v, list)}
        try:
            # Linen's own chain of layers takes a list, which could not be hashed.
            if lists:
                object.__setattr__(self, "module", self.module.clone(**lists))
            hash(self.module)
        except TypeError as error:
            raise InvalidInputError(
                f"model: {self.name} cannot be hashed ({error}); let its fields be numbers, "
                "strings, tuples and functions"
            ) from error

    def signature(self, images: AnyArray | jax.ShapeDtypeStruct) -> "Signature":
        """Returns the form of the variables, and K, for images of this shape and dtype.

        The module is traced on two such images in training and out of it, once for each shape.

        Raises:
          InvalidInputError: the module does not take the images, returns anything but logits and
            embeddings, or trains as it predicts although it has batch norm or dropout.
        """
        dtype = jax.dtypes.canonicalize_dtype(images.dtype)
        return _signature(self, tuple(images.shape[1:]), str(dtype))

    def init(self, key: Key, images: AnyArray | jax.ShapeDtypeStruct) -> Variables:
        """Returns fresh variables for images of this shape and dtype; pixels do not matter.

        Raises:
          InvalidInputError: the module has variables other than params and batch_stats, or takes
            other images.
        """
        if not hasattr(images, "dtype"):
            images = as_array("images", images)
        dtype, form = getattr(key, "dtype", None), np.shape(key)
        typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
        if not (typed and form == ()) and not (dtype == np.uint32 and len(form) == 1):
            raise InvalidInputError(f"key: wanted jax.random.key(seed), got {shown(key)}")
        one = self.normalize(jnp.zeros((1, *images.shape[1:]), images.dtype))
        params_key, dropout_key = jax.random.split(key)
        rngs = {"params": params_key, "dropout": dropout_key}
        module, mode = in_mode(self.module, train=False)
        with quick_convolutions():
            variables = module.init(rngs, one, **mode)
        if unknown := set(variables) - COLLECTIONS:
            raise InvalidInputError(
                f"{self.name} has variables of {sorted(unknown)}; "
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
          InvalidInputError: images or outputs of a wrong shape, dropout without a key, or batch
            statistics that change outside of training.
        """
        if not hasattr(images, "dtype"):
            images = as_array("images", images)

        # The module's variables and arguments, as Linen has them.
        variables = collections_of("variables", variables)
        collections = {"params": variables.params, "batch_stats": variables.batch_stats}
        inputs, (module, mode) = self.normalize(images), in_mode(self.module, train=train)
        rngs = None if key is None else {"dropout": key}
        try:
            mutable = ["batch_stats"] if train else []
            with quick_convolutions():
                returned, updated = module.apply(
                    collections, inputs, rngs=rngs, mutable=mutable, **mode
                )
        except InvalidRngError as error:
            raise InvalidInputError(
                f"{self.name} draws random numbers: give apply a key, and call them 'dropout'"
                if train
                else f"{self.name} draws random numbers outside of training: {FLAGLESS}"
            ) from error
        except ModifyScopeVariableError as error:
            raise InvalidInputError(
                f"{self.name} changes its batch statistics outside of training: {FLAGLESS}"
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
    def name(self) -> str:
        """The name of the network, for messages."""
        # Modules that wrap another's network say what it is called.
        return getattr(self.module, "network_name", type(self.module).__name__)

    def _outputs(self, returned: Any, batch: int) -> Outputs:
        """Returns what the module returned as float32 `Outputs`, if it is in order."""
        pair = returned if isinstance(returned, tuple) else (returned, jnp.zeros((batch, 0)))
        if len(pair) != 2 or any(_leading(output) != (batch,) for output in pair):
            raise InvalidInputError(
                f"{self.name} must return logits [B, K], alone or with embeddings [B, E]; "
                f"on {batch} images it returned {jax.tree.map(jnp.shape, returned)}"
            )
        logits, embeddings = (output.astype(jnp.float32) for output in pair)
        if self.num_classes not in (None, logits.shape[-1]):
            raise InvalidInputError(
                f"{self.name} returned logits of {logits.shape[-1]} classes, "
                f"the data has {self.num_classes}"
            )
        return Outputs(logits, embeddings)


class Signature(NamedTuple):
    """The form of a model's variables and outputs, for images of one shape and dtype."""

    variables: Variables
    """a shape and a dtype in the place of each array"""
    num_classes: int
    """K, the number of its logits"""
    width: int
    """E, the width of its embeddings; 0 without"""


FLAGLESS = (
    "let its __call__ take `train`, and hand `use_running_average=not train` to batch norm and "
    "`deterministic=not train` to dropout"
)
"""The advice to modules that train as they predict."""


@functools.lru_cache(maxsize=256)
def _signature(model: Model, shape: tuple[int, ...], dtype: str) -> Signature:
    """Traces a model on two images of a shape and dtype, and checks that its modes differ."""
    images = jax.ShapeDtypeStruct((2, *shape), dtype)
    if flags := unknown_flags(model.module):
        raise InvalidInputError(
            f"{model.name}: its __call__ takes {flags[0]!r}, and nothing says whether that means "
            "training; call it 'train' if it does, or else make it a field"
        )

    def trace(key: Key, images: Array) -> tuple[Variables, Outputs, Outputs]:
        # Training must move the batch statistics, and use the dropout that there is.
        variables = model.init(key, images)
        with dropouts() as drops:
            trained, after = model.apply(variables, images, train=True, key=key)
        before = jax.tree.leaves(variables.batch_stats)
        moved = [old is not new for old, new in zip(before, jax.tree.leaves(after), strict=True)]
        for what, works in {"batch statistics": moved, "dropout": drops}.items():
            if works and not any(works):
                raise InvalidInputError(
                    f"{model.name} has {what} that training does not use: {FLAGLESS}"
                )

        # Prediction has no key to draw by, and cannot change statistics.
        outputs, _ = model.apply(variables, images, train=False)
        return variables, trained, outputs

    # Whatever a module of someone else raises, it does not take these images.
    try:
        variables, trained, outputs = jax.eval_shape(trace, jax.random.key(0), images)
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"{model.name} does not work on images {dtype}{list(images.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    _check_forms(model.name, variables, trained, outputs)
    return Signature(variables, outputs.logits.shape[-1], outputs.embeddings.shape[-1])


def _check_forms(name: str, variables: Variables, trained: Outputs, outputs: Outputs) -> None:
    """Checks shapes and dtypes: parameters of float32, and the same outputs in both modes."""
    for path, leaf in jax.tree.flatten_with_path(variables._asdict())[0]:
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != jnp.float32:
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InvalidInputError(
                f"{name}: {where} is {leaf.dtype}; keep parameters in float32 "
                "(param_dtype=jnp.float32) and compute in bfloat16 (dtype=jnp.bfloat16)"
            )
    shapes = [[list(part.shape) for part in both] for both in (trained, outputs)]
    if shapes[0] != shapes[1]:
        raise InvalidInputError(
            f"{name} returns logits and embeddings of {shapes[0]} in training, and of {shapes[1]} "
            "otherwise; return the same two always, and leave out auxiliary logits"
        )
    if outputs.logits.shape[-1] < 2:
        raise InvalidInputError(
            f"{name} has too few logits, {outputs.logits.shape[-1]}; wanted one for each class, "
            "two of two classes"
        )


def _leading(output: Any) -> tuple[int, ...] | None:
    """Returns all dimensions but the last of an array; None of anything else."""
    return output.shape[:-1] if isinstance(output, jax.Array) and output.ndim else None
