"""How a module is told whether it trains: the names that its flag may have, and what they mean."""

import dataclasses
import inspect
from collections.abc import Iterator
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
    values = {name: training if train else not training for name, training in FLAGS.items()}
    parameters = inspect.signature(type(module).__call__).parameters

    # Arguments, by the names that the module has, or `train` where it takes any name.
    arguments = {name: value for name, value in values.items() if name in parameters}
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    # Linen's chain of layers hands everything on to the first of them, which takes no flag.
    if anything and not arguments and not isinstance(module, nn.Sequential):
        arguments = {"train": train}

    # Fields that hold a flag, unless an argument of that name goes before.
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
    parameters = inspect.signature(type(module).__call__).parameters
    return [
        name
        for name, parameter in parameters.items()
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
