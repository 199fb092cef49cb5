"""Calls functions with sections of a configuration as their keyword arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rumjax.errors import InvalidInputError, check_choice
from rumjax.registry import resolve
from rumjax.training import SgdOptions

Options = Mapping[str, Any]


def accepted(
    where: str, table: Mapping[str, Callable[..., Any]], options: Options, choice: str
) -> Callable[..., Any]:
    """Returns the function that `options[choice]` names, in the table or by an import path.

    Raises:
      InvalidInputError: no such function, or an option that it does not take.
    """
    if choice not in options:
        raise InvalidInputError(f"{where}: it lacks {choice!r}")
    function = resolve(f"{choice} in {where}", options[choice], table)
    for option in options:
        if option != choice:
            check_choice(f"option in {where}", option, names_of(function))
    return function


def call(where: str, function: Callable[..., Any], options: Options, **extra: Any) -> Any:
    """Calls a function with a section of the configuration.

    Raises:
      InvalidInputError: an option that the function does not take, or one that it lacks.
    """
    known = [name for name in names_of(function) if name not in extra]
    for option in options:
        check_choice(f"option in {where}", option, known)
    signature = inspect.signature(function)
    try:
        signature.bind(**options, **extra)
    except TypeError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    return function(**options, **extra)


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a function's arguments, with `SgdOptions` where it takes more."""
    parameters = inspect.signature(function).parameters.values()
    named = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(named) < len(parameters):
        named += SgdOptions.__annotations__
    return tuple(named)


def call_with(where: str, function: Callable[..., Any], **known: Any) -> Any:
    """Calls a function of the user's with those of the known arguments that it takes.

    Raises:
      InvalidInputError: the function needs an argument that is not among them.
    """
    wanted = names_of(function)
    given = {name: value for name, value in known.items() if name in wanted}
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise InvalidInputError(f"{where}: {error}; it may take {', '.join(known)}") from error
    return function(**given)
