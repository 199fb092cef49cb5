"""Models by name, those of rumjax and anyone's own."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from rumjax.errors import InvalidInputError, check_choice, check_count
from rumjax.models.cnn import Cnn
from rumjax.models.factories import Factory
from rumjax.models.function_pairs import from_factory, from_pair, is_pair
from rumjax.models.model import Model
from rumjax.models.nnx_modules import check_arguments, from_nnx, is_nnx_factory, is_nnx_instance
from rumjax.models.pixels import normalization
from rumjax.models.resnet import STAGES, STEMS, ResNet
from rumjax.models.resnet9 import ResNet9
from rumjax.models.vgg import Vgg16
from rumjax.models.vit import SIZES, ViT
from rumjax.models.wide_resnet import WIDENINGS, WideResNet
from rumjax.registry import resolve

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": Cnn,
    **{
        name: partial(ResNet, depths=depths, bottleneck=bottleneck)
        for name, (depths, bottleneck) in STAGES.items()
    },
    "resnet9": ResNet9,
    **{name: partial(WideResNet, widen=widen) for name, widen in WIDENINGS.items()},
    "vgg16": Vgg16,
    **{name: partial(ViT, dim=dim, heads=heads) for name, (dim, heads) in SIZES.items()},
}
"""Factories of Flax modules by name, called with `num_classes`."""

WANTED = (
    "a Flax module class, a function that returns a module or a pair (init, apply), or such a pair"
)


def build(
    name: str,
    num_classes: int,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    pixels: str = "0-1",
    bfloat16: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Builds a model by name.

    Args:
      name: "cnn", "resnet18", "resnet34", "resnet50", "resnet9", "wrn28_2", "wrn28_10", "vgg16",
        "vit_ti4", "vit_s4"; or "package.module:attribute" of your own: a Flax module class, Linen's
        or NNX's, or a function that returns an instance, called with `num_classes` and, of NNX,
        with `rngs`; or a pair (init, apply), or a function that returns one. See `from_nnx` and
        `from_functions`.
      num_classes: K.
      mean: of each channel, or one number for all, that is taken away; 0 by default.
      std: of each channel, or one number for all, that is divided by; 1 by default.
      pixels: the scale of both, "0-1" or "0-255". With "0-255" and neither mean nor std, the
        network gets pixels of 0…255.
      bfloat16: computes in bfloat16, passed on as `dtype`; parameters and statistics stay float32.
      options: further arguments of the module, for example {"width": 16} of a ResNet.

    Raises:
      InvalidInputError: an unknown name, an attribute that cannot be imported or is no module, an
        option that it does not take, a standard deviation that is not positive.

    Examples:
      >>> build("resnet18", 10, mean=(0.5,), std=(0.25,), options={"width": 16}).module.width
      16
      >>> build("cnn", 10, mean=51, std=255, pixels="0-255").mean
      (0.2,)
    """
    # The factory and its arguments.
    factory = resolve("model", name, MODELS, wanted=WANTED, accepts=_is_network)
    arguments = dict(options or {}) | ({"dtype": jnp.bfloat16} if bfloat16 else {})
    if "num_classes" in arguments:
        raise InvalidInputError("model.options.num_classes: this is that of the data; leave it out")
    # Lists, as configurations have them, would make the model unhashable.
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    if name in MODELS:
        arguments = {option: _checked(option, value) for option, value in arguments.items()}
    num_classes = check_count("num_classes", num_classes, least=2)

    # The module and its normalization.
    module = _module(name, factory, arguments, num_classes)
    scaled = normalization(mean, std, pixels)
    return Model(module, *scaled, num_classes)


def _is_network(entry: Any) -> bool:
    """Tests whether `build` can make a model of something that was imported."""
    return callable(entry) or is_pair(entry)


def _module(name: str, factory: Any, arguments: dict[str, Any], num_classes: int) -> nn.Module:
    """Makes a Linen module of whatever a name leads to.

    Raises:
      InvalidInputError: see `build`.
    """
    # What is there already.
    if is_pair(factory) or isinstance(factory, nn.Module):
        if arguments:
            raise InvalidInputError(
                f"model {name!r}: it is made already and takes no options, got "
                f"{', '.join(arguments)}; name the function that makes it"
            )
        return factory if isinstance(factory, nn.Module) else from_pair(factory)

    # Apart from the call, so that a TypeError inside a factory keeps its traceback.
    arguments["num_classes"] = num_classes
    if name not in MODELS and is_nnx_instance(factory):
        return from_nnx(factory)
    nnx = name not in MODELS and is_nnx_factory(factory)
    try:
        if nnx:
            check_arguments(Factory.of(factory, arguments))
        else:
            inspect.signature(factory).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"model {name!r}: {error}") from error
    if nnx:
        return from_nnx(factory, **arguments)
    module = factory(**arguments)
    if is_pair(module):
        return from_factory(Factory.of(factory, arguments))
    if isinstance(module, nn.Module):
        return module
    if is_nnx_instance(module):
        raise InvalidInputError(
            f"model {name!r}: it makes an NNX module without `rngs`, so that all seeds would start "
            "alike; let it take `rngs` and hand it on"
        )
    raise InvalidInputError(
        f"model {name!r}: {type(module).__name__} is no Flax Linen module, no NNX module and no "
        "pair (init, apply)"
    )


COUNTS = ("hidden", "width", "widen", "patch", "dim", "heads", "depth")
"""Options of rumjax's networks that are whole numbers, and those that are several."""
SEVERAL = ("widths", "depths")


def _checked(option: str, value: Any) -> Any:
    """Returns the value of an option of rumjax's models, whole numbers where these are wanted."""
    where = f"model.options.{option}"
    if option in COUNTS:
        return check_count(where, value)
    if option in SEVERAL:
        if not isinstance(value, tuple):
            raise InvalidInputError(
                f"{where}: wanted several whole numbers, like (16, 32), got {value!r}"
            )
        return tuple(check_count(where, one) for one in value)
    if option == "stem":
        return check_choice(where, value, STEMS)
    return value
