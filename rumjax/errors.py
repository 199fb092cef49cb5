"""Errors with messages that a user can act on, and the checks that many modules make.

Every message names what is wrong, where, and what to do. The command line prints these and leaves
with a non-zero status; any other exception is a defect of rumjax and keeps its traceback.
"""

import difflib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

MOST_LISTED = 10
"""Names that a message lists, at most."""


class RumjaxError(Exception):
    """The root of every error that rumjax raises on purpose."""


class InvalidInputError(RumjaxError, ValueError):
    """An argument, a configuration or a data set that cannot be used."""


class DivergenceError(RumjaxError, ArithmeticError):
    """A loss or a parameter stopped being finite."""


class WorkDirectoryError(RumjaxError):
    """A work directory that is locked, belongs to another configuration, or is damaged."""


class DamagedFileError(WorkDirectoryError):
    """A file of the work directory is there, and not what was once written to it."""


def check_choice(what: str, name: str, choices: Collection[str]) -> str:
    """Returns `name` if it is one of `choices`.

    Raises:
      InvalidInputError: it is not; suggests the nearest choice, and lists them all, or the ten
        nearest of more.

    Examples:
      >>> check_choice("schedule", "cosine", ("constant", "cosine"))
      'cosine'
      >>> check_choice("size", "smal", ("small",))
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: unknown size 'smal'; did you mean 'small'? There are: small
    """
    if isinstance(name, str) and name in choices:
        return name
    # The nearest is one that it abbreviates, or else one of about the same letters.
    names = [str(choice) for choice in choices]
    initials = [one for one in names if "".join(word[:1] for word in one.split("_")) == name]
    near = initials or difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = "There are: "
    if len(names) > MOST_LISTED:
        names = difflib.get_close_matches(str(name), names, n=MOST_LISTED, cutoff=0)
        listed = f"Of {len(choices)}, the nearest are: "
    shown = f"{name!r:.100}"
    raise InvalidInputError(f"unknown {what} {shown}{hint} {listed}{', '.join(names)}")


def check_indices(what: str, indices: Any, size: int, *, allow_empty: bool = False) -> np.ndarray:
    """Returns `indices` as int32, ascending, if they are distinct positions below `size`.

    Args:
      what: the name used in messages, for example "forget set".
      indices: integers, any array-like of one dimension.
      size: the number of examples that may be pointed at.
      allow_empty: accepts no index at all.

    Raises:
      InvalidInputError: not one-dimensional integers, empty, duplicated, or out of range.

    Examples:
      >>> check_indices("forget set", [5, 2], 10)
      array([2, 5], dtype=int32)
    """
    # Integers of one dimension.
    array = np.asarray(indices)
    if array.size == 0:
        array = array.astype(np.int32)
        if not allow_empty:
            raise InvalidInputError(f"{what}: no indices; at least one is needed")
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(
            f"{what}: wanted integers of one dimension, got {array.dtype}{list(array.shape)}"
        )

    # Within range, and each once.
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        raise InvalidInputError(
            f"{what}: {outside.size} of {array.size} indices are outside 0…{size - 1}, "
            f"the first is {outside[0]}"
        )
    ordered, counts = np.unique(array, return_counts=True)
    if ordered.size != array.size:
        raise InvalidInputError(
            f"{what}: {array.size - ordered.size} duplicated indices, "
            f"the first is {ordered[counts > 1][0]}"
        )
    return ordered.astype(np.int32)


def check_count(what: str, value: int, *, least: int = 1) -> int:
    """Returns `value` as an int if it is a whole number of at least `least`.

    Raises:
      InvalidInputError: names the argument and the value.

    Examples:
      >>> check_count("epochs", 3.0)
      3
    """
    try:
        whole = int(value) == value and value >= least
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise InvalidInputError(f"{what}: wanted a whole number of at least {least}, got {value}")
    return int(value)


def check_number(
    what: str, value: ArrayLike, *, least: float = 0.0, most: float = np.inf
) -> np.float32 | np.ndarray:
    """Returns `value` as float32 if it is a number, or an array of numbers, in a range.

    Args:
      what: the name used in messages.
      value: a number, or an array of them for `jax.vmap` over records.
      least: the smallest value allowed.
      most: the largest value allowed.

    Returns:
      A NumPy scalar, or an array of the same shape.

    Raises:
      InvalidInputError: not a number, not finite, or outside the range.

    Examples:
      >>> check_number("momentum", 0.5, most=1.0)
      np.float32(0.5)
      >>> check_number("learning rates", [1, 2])
      array([1., 2.], dtype=float32)
    """
    try:
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what}: wanted a number, got {value!r}") from error
    if not np.all(np.isfinite(numbers) & (numbers >= least) & (numbers <= most)):
        bounds = f"of at least {least:g}" if most == np.inf else f"in {least:g}…{most:g}"
        raise InvalidInputError(f"{what}: wanted finite numbers {bounds}, got {value!s}")
    number: np.float32 | np.ndarray = numbers[()]
    return number
