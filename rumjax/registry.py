"""Short names for what rumjax has, and import paths for what others have written."""

import difflib
import importlib
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rumjax.errors import InvalidInputError, RumjaxError, check_choice

Entry = TypeVar("Entry", bound=Callable[..., Any])

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def resolve(
    what: str,
    name: str,
    table: Mapping[str, Entry],
    *,
    wanted: str = "a function or a class",
    accepts: Callable[[Any], bool] = callable,
) -> Entry | Callable[..., Any]:
    """Returns the entry of a table, or imports "package.module:attribute".

    Args:
      what: the kind of thing in messages, "model" for instance.
      name: a key of the table; or anything with a colon, which is imported.
      table: what rumjax itself has, by name.
      wanted: what an import has to lead to, for messages.
      accepts: tests whether it does.

    Raises:
      InvalidInputError: an unknown name, with the nearest one; an import path that leads nowhere,
        with the nearest attribute; or an attribute that is not accepted.

    Examples:
      >>> resolve("number type", "int", {"int": int, "float": float})
      <class 'int'>
      >>> resolve("number type", "fractions:Fraction", {"int": int})
      <class 'fractions.Fraction'>
    """
    if isinstance(name, str) and (":" in name or not table):
        return _imported(what, name, wanted, accepts)
    try:
        return table[check_choice(what, name, table)]
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}, or 'package.module:attribute' of your own") from None


def is_import_path(name: str) -> bool:
    """Tests whether a name has the form "package.module:attribute".

    Examples:
      >>> is_import_path("my_package.images:load"), is_import_path("mnist:3.0.1")
      (True, False)
    """
    return _IMPORT_PATH.fullmatch(name) is not None


def _imported(
    what: str, name: str, wanted: str, accepts: Callable[[Any], bool]
) -> Callable[..., Any]:
    """Imports what "package.module:attribute" names, and checks that it is accepted."""
    # The module.
    path, _, attribute = name.partition(":")
    if not is_import_path(name):
        raise InvalidInputError(
            f"{what} {name!r}: wanted 'package.module:attribute', importable from here"
        )
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise InvalidInputError(
            f"{what} {name!r}: {error}; wanted 'package.module:attribute', importable from here: "
            "install the package, or put its folder on PYTHONPATH"
        ) from error

    # Its attribute, which must be accepted.
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "name one that it defines"
        raise InvalidInputError(f"{what} {name!r}: {path} has no attribute {attribute!r}; {hint}")
    entry = getattr(module, attribute)
    if not accepts(entry):
        raise InvalidInputError(f"{what} {name!r}: wanted {wanted}, got {type(entry).__name__}")
    imported: Callable[..., Any] = entry
    return imported


def attempt(
    where: str, function: Callable[..., Any], options: Mapping[str, Any], *arguments: Any
) -> Any:
    """Calls a function, which may be someone else's, and says where it fails.

    Args:
      where: the name used in messages.
      function: to be called.
      options: its keyword arguments.
      *arguments: its other arguments.

    Raises:
      InvalidInputError: it raises an exception that is none of rumjax's.

    Examples:
      >>> attempt("mine", divmod, {}, 7, 2)
      (3, 1)
    """
    try:
        return function(*arguments, **options)
    except RumjaxError:
        raise
    except Exception as error:  # whatever the configuration or the function's author got wrong
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename]
        last = (own or frames)[-1]
        raise InvalidInputError(
            f"{where}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        ) from error
