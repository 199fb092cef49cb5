"""Overrides of a configuration on the command line: --config.section.option=value."""

import ast
import contextlib
import dataclasses
import re
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from rumjax.errors import InvalidInputError
from rumjax.lab.schema import FORGET_OPTIONS, find_place
from rumjax.lab.values import converted, describe, fits, plain

PREFIX = "--config."
_RANGE = re.compile(r"range\(.*|-?\d+(\s*(-|–|;|:|\.\.+|…|\s)\s*-?\d+)+;?")
"""What ranges and lists look like that are written in other ways than Python's."""


def override(config: Any, arguments: Sequence[str]) -> None:
    """Applies overrides to a configuration, in place; the last of several counts.

    Args:
      config: a dictionary or a ConfigDict, whose references to other values hold on.
      arguments: of the form "--config.section.option=value". Another way to choose a forget set
        drops the options of the one that the file has.

    Raises:
      InvalidInputError: one is malformed, names an option that no section knows, or has a value of
        another type.
    """
    given: set[tuple[str, ...]] = set()
    for argument in arguments:
        flag, equals, text = argument.partition("=")
        if not flag.startswith(PREFIX) or not equals:
            raise InvalidInputError(
                f"argument {argument!r}: overrides look like --config.seeds=5; see --help"
            )
        key = flag.removeprefix(PREFIX)
        place = find_place(key, plain(config))
        assign(config, place.names, read_value(f"override {key}", place.kind, text))
        given.add(place.names)
        *sections, option = place.names
        if option == "by" and sections[-1:] == ["forget"]:
            drop_others(config, sections, given)


def drop_others(config: Any, sections: Sequence[str], given: Collection[tuple[str, ...]]) -> None:
    """Deletes options of a section `forget` that its way to choose does not have.

    Args:
      config: see `override`.
      sections: the names that lead to the section.
      given: the names that lead to options of the command line, which stay.
    """
    for section in sections:
        config = config[section]
    own = FORGET_OPTIONS.get(config["by"], FORGET_OPTIONS["memorization"])
    stays = {"by", "requests", "until", *(() if ":" in config["by"] else own)}
    for option in list(config):
        if option not in stays and (*sections, option) not in given:
            del config[option]


def assign(config: Any, names: Sequence[str], value: Any) -> None:
    """Puts a value into a nested configuration; sections that are not there are made."""
    *sections, last = names
    for section in sections:
        if section not in config or config[section] is None:
            assign(config, [section], {})
        config = config[section]

    # A ConfigDict insists on the types that it has, unless it is told otherwise.
    with contextlib.ExitStack() as stack:
        for loosen in ("ignore_type", "unlocked"):
            if hasattr(config, loosen) and not isinstance(config, dict):
                stack.enter_context(getattr(config, loosen)())
        config[last] = value


def read_value(where: str, kind: Any, text: str) -> Any:
    """Reads a value of the type that an option wants; text needs no quotes.

    Raises:
      InvalidInputError: it is of another type.

    Examples:
      >>> read_value("seeds", int, "5"), read_value("name", str, "5")
      (5, '5')
      >>> read_value("audit.methods", Sequence[str] | None, "one,two")
      ('one', 'two')
    """
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    several = [get_args(choice)[0] for choice in choices if get_origin(choice) is Sequence]
    value = literal(text)

    # Text is taken as it is, but for None where that may be.
    if all(choice in (str, type(None)) or get_origin(choice) is Literal for choice in choices):
        value = None if text == "None" and type(None) in choices else text
    elif several and isinstance(value, str):
        # Names without quotes, and numbers where these may be.
        words = [word.strip() for word in text.split(",")]
        if not all(words) or (several[0] is not str and any(map(_RANGE.fullmatch, words))):
            example = "one,two" if several[0] is str else '3,5, or ("3-5",) for a name'
            raise InvalidInputError(
                f"{where}: wanted several values, written like {example}; got {text!r}"
            )
        value = tuple(words if several[0] is str else map(literal, words))
    elif several and type(value) in (int, float) and type(value) not in choices:
        value = (value,)
    elif bool in choices:
        value = {"true": True, "false": False}.get(text.lower(), value)

    # Sections are options by name.
    value = plain(value, where)
    if any(dataclasses.is_dataclass(choice) for choice in choices):
        if isinstance(value, Mapping) or (value is None and type(None) in choices):
            return value
        raise InvalidInputError(f"{where}: wanted options by name, got {text!r}")
    if not fits(kind, value):
        raise InvalidInputError(f"{where}: wanted {describe(kind)}, got {text!r}")
    return converted(where, kind, value)


def literal(text: str) -> Any:
    """Returns the Python value that a text writes, or the text itself where it writes none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
