"""Calls functions with sections of a configuration as their keyword arguments."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab.values import converted
from rumjax.registry import attempt, resolve

Options = Mapping[str, Any]


def accepted(
    where: str, table: Mapping[str, Callable[..., Any]], options: Options, choice: str
) -> Callable[..., Any]:
    """Returns the function that `options[choice]` names, in the table or by an import path.

    Raises:
      InvalidInputError: options that are none, no such function, or an option that it does not
        take.
    """
    if not isinstance(options, Mapping):
        raise InvalidInputError(f"{where}: wanted options by name, got {options!r}")
    if choice not in options:
        raise InvalidInputError(f"{where}: it lacks {choice!r}")
    name = converted(f"{where}.{choice}", str, options[choice])
    function = resolve(f"{choice} in {where}", name, table)
    names = names_of(function)
    for option in options:
        if option != choice:
            check_choice(f"option in {where}", option, names)
    return function


def typed(
    where: str, function: Callable[..., Any], options: Options, without: Collection[str] = ()
) -> dict[str, Any]:
    """Returns a section of the configuration with values of the types that a function wants.

    Args:
      where: the name of the section in messages.
      function: a function or a record.
      options: the section.
      without: arguments of the function that configurations do not give.

    Raises:
      InvalidInputError: no options by name, one that the function does not take, or a value of
        another type.
    """
    if not isinstance(options, Mapping):
        raise InvalidInputError(f"{where}: wanted options by name, got {options!r}")
    types = {name: kind for name, kind in types_of(function).items() if name not in without}
    for option in options:
        check_choice(f"option in {where}", option, types)
    return {
        name: converted(f"{where}.{name}", types[name], value) for name, value in options.items()
    }


def call(where: str, function: Callable[..., Any], options: Options, **extra: Any) -> Any:
    """Calls a function with a section of the configuration.

    Raises:
      InvalidInputError: an option that the function does not take, or one that it lacks; a value
        of another type; or the function fails, which says where.
    """
    arguments = typed(where, function, options, without=extra) | extra
    check_arguments(where, function, arguments)
    return attempt(where, function, arguments)


def call_with(where: str, function: Callable[..., Any], **known: Any) -> Any:
    """Calls a function of the user's with those of the known arguments that it takes.

    Raises:
      InvalidInputError: the function needs an argument that is not among them, or fails.
    """
    check_signature(where, function, known)
    names = names_of(function)
    return attempt(where, function, {name: value for name, value in known.items() if name in names})


def check_signature(where: str, function: Callable[..., Any], known: Collection[str]) -> None:
    """Checks that a function of the user's needs no argument but known ones.

    Raises:
      InvalidInputError: it needs another.
    """
    names = names_of(function)
    given = {name: None for name in known if name in names}
    check_arguments(where, function, given, f"; it may take {', '.join(known)}")


def check_arguments(
    where: str, function: Callable[..., Any], arguments: Options, hint: str = ""
) -> None:
    """Checks that a function takes these arguments and lacks none.

    Raises:
      InvalidInputError: it does not; ends with the hint.
    """
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{where}: {error}{hint}") from error


def types_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the names and types of a function's arguments, `Any` where it says none.

    Where a function takes more, these are the options that it says by `Unpack`, or else those of
    `SgdOptions`.

    Raises:
      InvalidInputError: its arguments cannot be told, as those of some functions in C.
    """
    try:
        parameters = _signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{function!r}: its arguments cannot be told ({error}); write a function around it"
        ) from error
    types: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            types |= _more(parameter.annotation)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            unknown = parameter.annotation is inspect.Parameter.empty
            types[parameter.name] = Any if unknown else parameter.annotation
    return types


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a function's arguments; see `types_of`."""
    return tuple(types_of(function))


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # annotations that are imported for type checkers alone
        return inspect.signature(function)


def _more(annotation: Any) -> dict[str, Any]:
    """Returns the names and types of the further options of a function."""
    # Imported late, since it brings JAX with it.
    from rumjax.descent import SgdOptions

    said = get_args(annotation)[0] if get_origin(annotation) is Unpack else SgdOptions
    return get_type_hints(said)
