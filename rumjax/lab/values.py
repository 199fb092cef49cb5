"""Values as configurations hold them, and as the types that options want."""

import math
import os
import re
import types
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from rumjax.errors import InvalidInputError, check_choice

LONGEST_NAME = 100
"""Bytes of a name, at most: the names of files have more in them, and 255 in all."""


def plain(value: Any, where: str = "configuration") -> Any:
    """Returns a configuration as dictionaries, tuples, text, numbers, booleans and None.

    NumPy's and JAX's numbers and arrays, ranges, sets (in order), paths, and whatever else is a
    mapping or can be iterated over, become these; so equal configurations are written alike.

    Args:
      value: the configuration, or any part of it.
      where: the name used in messages.

    Raises:
      InvalidInputError: something else, a name that is no text, or a number that is not finite.

    Examples:
      >>> plain({"seeds": np.int64(3), "classes": range(2), "levels": {"low", "high"}})
      {'seeds': 3, 'classes': (0, 1), 'levels': ('high', 'low')}
    """
    # Options by name; ConfigDict is no Mapping, but has items.
    if callable(items := getattr(value, "items", None)):
        pairs = list(items())
        for key, _ in pairs:
            if not isinstance(key, str):
                raise InvalidInputError(f"{where}: wanted names that are text, got {key!r}")
        return {str(key): plain(item, f"{where}.{key}") for key, item in pairs}

    # Single values.
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"{where}: wanted a finite number, got {value}")
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)

    # Several values.
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview):
        several = tuple(plain(item, where) for item in value)
        return ordered(several) if isinstance(value, set | frozenset) else several
    raise InvalidInputError(
        f"{where}: wanted text, numbers, True, False, None, or several of them, got {value!r}"
    )


def check_names(where: str, names: Collection[str], taken: Collection[str] = ()) -> None:
    """Checks names that files and columns are called after.

    Args:
      where: what they are the names of, for messages.
      names: from a configuration.
      taken: names that rumjax has itself.

    Raises:
      InvalidInputError: one has other characters, is too long, is rumjax's own, or differs from
        another in case alone.

    Examples:
      >>> check_names("cases", ["a/b"])
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: cases.a/b: choose another name, of letters, digits and ._+-
    """
    before: dict[str, str | None] = dict.fromkeys(map(folded, taken))
    for name in names:
        check_length(f"{where}.{name:.100}", name)
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise InvalidInputError(
                f"{where}.{name}: choose another name, of letters, digits and ._+-"
            )
        if (same := folded(name)) in before:
            reason = (
                f"{same} is rumjax's own name"
                if before[same] is None
                else f"on some systems it and {before[same]} would be one file"
            )
            raise InvalidInputError(f"{where}.{name}: choose another name; {reason}")
        before[same] = name


def check_distinct(where: str, values: Sequence[Any]) -> None:
    """Checks that no value is given twice.

    Raises:
      InvalidInputError: one is.

    Examples:
      >>> check_distinct("audit.methods", ("fine", "fine"))
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: audit.methods: 'fine' is given twice
    """
    for number, value in enumerate(values):
        if value in values[:number]:
            raise InvalidInputError(f"{where}: {value!r} is given twice")


def check_length(where: str, name: str) -> None:
    """Checks that a name is short enough to be a part of a file's.

    Raises:
      InvalidInputError: it is not.
    """
    if (size := len(name.encode())) > LONGEST_NAME:
        raise InvalidInputError(
            f"{where}: choose a shorter name, of at most {LONGEST_NAME} bytes; this has {size}"
        )


def folded(name: str) -> str:
    """Returns what a name has in common with those that file systems may take for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def ordered(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns plain values in order, or in that of their text where they are of several types."""
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(sorted(values, key=repr))


def converted(where: str, wanted: Any, value: Any) -> Any:
    """Returns a plain value as the type that an option wants.

    Args:
      where: the name used in messages.
      wanted: the annotation of the option; any value goes where it is none of those that
        configurations can hold.
      value: from `plain`.

    Raises:
      InvalidInputError: it is of another type.

    Examples:
      >>> converted("epochs", int, 3.0), converted("classes", Sequence[int], (1, 2.0))
      (3, (1, 2))
      >>> converted("samples", int | None, "all")
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: samples: wanted a whole number or None, got 'all'
    """
    # A value that fits is returned from its branch; any other is refused at the end.
    choices = get_args(wanted)
    kind = get_origin(wanted) or wanted
    if wanted is int:
        if is_number(value) and float(value).is_integer():
            return int(value)
    elif wanted is float or is_array_like(wanted):
        if is_number(value):
            return float(value)
    elif wanted in (bool, str):
        if isinstance(value, wanted):
            return value
    elif kind in (Union, types.UnionType):
        for choice in choices:
            if fits(choice, value):
                return converted(where, choice, value)
    elif kind is Literal:
        return check_choice(where, value, choices)
    elif kind in (Sequence, list, tuple) and choices:
        return _several(where, wanted, value)
    elif kind is Mapping:
        if isinstance(value, Mapping):
            inner = choices[1] if choices else Any
            return {key: converted(f"{where}.{key}", inner, item) for key, item in value.items()}
    elif wanted is type(None):
        if value is None:
            return None
    else:
        return value
    raise InvalidInputError(f"{where}: wanted {describe(wanted)}, got {value!r}")


def _several(where: str, wanted: Any, value: Any) -> tuple[Any, ...]:
    """Returns several values, each as its type; see `converted`."""
    choices = get_args(wanted)
    is_fixed = get_origin(wanted) is tuple and choices[-1] is not Ellipsis
    if not isinstance(value, tuple | list) or (is_fixed and len(value) != len(choices)):
        raise InvalidInputError(f"{where}: wanted {describe(wanted)}, got {value!r}")
    kinds = choices if is_fixed else [choices[0]] * len(value)
    return tuple(
        converted(f"{where}[{number}]", kind, item)
        for number, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def fits(wanted: Any, value: Any) -> bool:
    """Tests whether a value can be converted to a type."""
    try:
        converted("", wanted, value)
    except InvalidInputError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Tests whether a plain value is a finite number, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_array_like(wanted: Any) -> bool:
    """Tests whether a type is NumPy's or JAX's ArrayLike, of which configurations hold numbers."""
    return complex in get_args(wanted)


def describe(wanted: Any) -> str:
    """Describes a type in words.

    Examples:
      >>> describe(Sequence[int] | None)
      'several whole numbers, like (1, 2) or None'
    """
    words = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "some text",
        type(None): "None",
    }
    if is_array_like(wanted):
        return words[float]
    if wanted in words:
        return words[wanted]
    choices, kind = get_args(wanted), get_origin(wanted) or wanted
    if kind in (Union, types.UnionType):
        return " or ".join(describe(choice) for choice in choices)
    if kind in (Sequence, list, tuple):
        examples = {int: "whole numbers, like (1, 2)", str: 'names, like ("one", "two")'}
        return f"several {examples.get(choices[0], 'values in parentheses')}"
    if kind is Mapping:
        return "options by name"
    return "a value"
