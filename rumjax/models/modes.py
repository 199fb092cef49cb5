"""How a module is told whether it trains: the names that its flag may have, and what they mean."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flax.linen as nn

FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "is_train": True,
    "deterministic": False,
    "use_running_average": False,
    "inference": False,
    "eval": False,
    "eval_mode": False,
}
"""Names of flags, and the value that means training."""


def flags(*, train: bool) -> dict[str, bool]:
    """Returns the value of every flag of `FLAGS`, in training or out of it."""
    return {name: training if train else not training for name, training in FLAGS.items()}


def flag_arguments(
    function: Callable[..., Any], *, train: bool, any_name: bool = True
) -> dict[str, bool]:
    """Returns the flags that a function takes by name, with their values.

    Args:
      function: a `__call__` of a class, or any other.
      train: whether it is to train.
      any_name: passes `train` to a function that takes arguments of any name.

    Examples:
      >>> flag_arguments(lambda images, is_training: images, train=True)
      {'is_training': True}
    """
    parameters = inspect.signature(function).parameters
    arguments = {name: value for name, value in flags(train=train).items() if name in parameters}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if takes_any and any_name and not arguments:
        arguments = {"train": train}
    return arguments


def in_mode(module: nn.Module, *, train: bool) -> tuple[nn.Module, dict[str, bool]]:
    """Puts a module into training or evaluation.

    A flag is an argument of `__call__` or a field of the module, by any of the names in `FLAGS`.

    Returns:
      The module with its fields set, and the arguments of its `__call__`.

    Examples:
      >>> class Network(nn.Module):
      ...     def __call__(self, images, deterministic):
      ...         return images
      >>> in_mode(Network(), train=True)[1]
      {'deterministic': False}
    """
    # Linen's chain of layers hands everything on to the first of them, which takes no flag.
    chain = isinstance(module, nn.Sequential)
    arguments = flag_arguments(type(module).__call__, train=train, any_name=not chain)

    # Fields that hold a flag, unless an argument of that name goes before.
    values = flags(train=train)
    fields = {
        field.name: values[field.name]
        for field in dataclasses.fields(module)
        if field.name in values
        and field.name not in arguments
        and isinstance(getattr(module, field.name), bool | None)
    }
    return (module.clone(**fields) if fields else module), arguments


def unknown_flags(module: nn.Module) -> list[str]:
    """Returns the booleans that `__call__` takes by other names, if none of `FLAGS` is there.

    Examples:
      >>> class Network(nn.Module):
      ...     def __call__(self, images, phase_train=False):
      ...         return images
      >>> unknown_flags(Network())
      ['phase_train']
    """
    moved, arguments = in_mode(module, train=True)
    if arguments or moved is not module:
        return []
    return booleans(type(module).__call__)


def booleans(function: Callable[..., Any]) -> list[str]:
    """Returns the names of the arguments of a function that are booleans."""
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if isinstance(parameter.default, bool)
        or str(parameter.annotation).removeprefix("<class '").startswith("bool")
    ]


@contextmanager
def dropouts() -> Iterator[list[bool]]:
    """Yields a list that tells of every dropout applied inside whether it drops anything."""
    drops: list[bool] = []

    def watch(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if isinstance(layer, nn.Dropout) and context.method_name == "__call__" and layer.rate > 0:
            # The second argument of the call, or else the field of the layer.
            argument = args[1] if len(args) > 1 else kwargs.get("deterministic")
            drops.append(not (layer.deterministic if argument is None else argument))
        return method(*args, **kwargs)

    with nn.intercept_methods(watch):
        yield drops
