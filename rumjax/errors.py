"""Errors with messages that a user can act on, and the checks that many modules make.

Every message names what is wrong, where, and what to do. The command line prints these and leaves
with a non-zero status; any other exception is a defect of rumjax and keeps its traceback.
"""

import difflib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

MOST_LISTED = 16
"""Names that a message lists, at most."""
LONGEST = 100
"""Characters of a value that a message shows, at most."""


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


class EngineError(RumjaxError):
    """Whoever carries out the jobs cannot be reached, or is gone; starting again can go on."""


class JobError(RumjaxError):
    """A job ended the processes that did it, or failed for a reason that nobody foresaw."""


def check_choice(what: str, name: str, choices: Collection[str]) -> str:
    """Returns `name` if it is one of `choices`.

    Raises:
      InvalidInputError: it is not; suggests the nearest choice, and lists them all, or the 16
        nearest of more.

    Examples:
      >>> check_choice("schedule", "cosine", ("constant", "cosine"))
      'cosine'
      >>> check_choice("size", "smal", ("small",))
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: unknown size 'smal'; did you mean 'small'? There are: small
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"{what}: wanted a name, got {shown(name)}")
    if name in choices:
        return name
    # The nearest is one that it abbreviates, or else one of about the same letters.
    names = [str(choice) for choice in choices]
    initials = [one for one in names if "".join(word[:1] for word in one.split("_")) == name]
    near = initials or difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = "There are: " if names else "There are none"
    if len(names) > MOST_LISTED:
        names = difflib.get_close_matches(str(name), names, n=MOST_LISTED, cutoff=0)
        listed = f"Of {len(choices)}, the nearest are: "
    raise InvalidInputError(f"unknown {what} {shown(name)}{hint} {listed}{', '.join(names)}")


def shown(value: Any) -> str:
    """Returns a value as messages show it: arrays by dtype and shape, anything else cut short.

    Examples:
      >>> shown(np.zeros((2, 3)))
      'float64[2, 3]'
      >>> shown((np.zeros((2, 3)), 1))
      'tuple of float64[2, 3], 1'
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and hasattr(value, "dtype"):
        return f"{value.dtype}{list(shape)}"
    if isinstance(value, tuple | list) and any(hasattr(part, "shape") for part in value):
        parts = ", ".join(shown(part) for part in value[:MOST_LISTED])
        return f"{type(value).__name__} of {parts}"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def as_array(what: str, values: Any) -> np.ndarray:
    """Returns values as a NumPy array; bfloat16 as float32.

    Raises:
      InvalidInputError: a ragged list, an array that is still to be computed inside `jax.jit`,
        masked numbers, or anything else that is no array.

    Examples:
      >>> as_array("labels", [0, 1]).shape
      (2,)
    """
    if np.ma.is_masked(values):
        raise InvalidInputError(f"{what}: some are masked; leave those examples out")
    try:
        array = np.asarray(values)
    except Exception as error:
        raise InvalidInputError(
            f"{what}: wanted an array, got {type(values).__name__}: {error!s:.{LONGEST}}"
        ) from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def check_floats(what: str, values: Any, *axes: str, finite: bool = True) -> np.ndarray:
    """Returns `values` as an array if they are numbers with these axes.

    Args:
      what: the name used in messages, for example "scores".
      values: any array-like of real numbers.
      *axes: the names of the axes.
      finite: refuses numbers that are not finite.

    Raises:
      InvalidInputError: no numbers, other axes, or numbers that are not finite.

    Examples:
      >>> check_floats("scores", [0.5, 1], "N")
      array([0.5, 1. ])
    """
    array = as_array(what, values)
    if array.ndim != len(axes) or array.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"{what}: wanted numbers [{', '.join(axes)}], got {array.dtype}{list(array.shape)}"
        )
    if finite and not np.isfinite(array).all():
        raise InvalidInputError(
            f"{what}: {np.count_nonzero(~np.isfinite(array))} of {array.size} are not finite; has "
            "the model diverged?"
        )
    return array


def check_masks(what: str, values: Any, *axes: str) -> np.ndarray:
    """Returns `values` as an array if they are booleans with these axes.

    Raises:
      InvalidInputError: no booleans, or other axes.

    Examples:
      >>> check_masks("member", [[True, False]], "models", "N").shape
      (1, 2)
    """
    array = as_array(what, values)
    if array.ndim != len(axes) or array.dtype != bool:
        raise InvalidInputError(
            f"{what}: wanted booleans [{', '.join(axes)}], got {array.dtype}{list(array.shape)}"
        )
    return array


def check_share(what: str, value: float) -> float:
    """Returns `value` as a float if it is between 0 and 1, neither of them.

    Raises:
      InvalidInputError: it is not.

    Examples:
      >>> check_share("level", 0.95)
      0.95
    """
    number = float(check_scalar(what, value))
    if not 0 < number < 1:
        raise InvalidInputError(f"{what}: wanted a number between 0 and 1, got {shown(value)}")
    return number


def check_scalar(what: str, value: ArrayLike, *, least: float = 0.0, most: float = np.inf) -> float:
    """Returns `value` as a float if it is a single number in `least`…`most`.

    Raises:
      InvalidInputError: an array, or what `check_number` refuses.

    Examples:
      >>> check_scalar("accuracy", np.float32(0.5), most=1.0)
      0.5
    """
    if np.ndim(check_number(what, value, least=least, most=most)):
        raise InvalidInputError(f"{what}: wanted a single number, got {shown(value)}")
    return float(as_array(what, value))


def check_labels(
    what: str, labels: Any, *, size: int | None = None, num_classes: int | None = None
) -> np.ndarray:
    """Returns `labels` as int32[N] if they are integers from 0.

    Args:
      what: the name used in messages, for example "labels".
      labels: integers [N] or [N, 1].
      size: N; None allows any.
      num_classes: K; None allows any.

    Raises:
      InvalidInputError: no integers, other axes, another number than `size`, or labels that are
        negative or not below `num_classes`.

    Examples:
      >>> check_labels("labels", [[2], [0]], num_classes=3)
      array([2, 0], dtype=int32)
    """
    # Integers, one for each example.
    array = as_array(what, labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        hint = "; of one-hot labels take labels.argmax(axis=1)" if array.ndim == 2 else ""
        raise InvalidInputError(
            f"{what}: wanted integers [N], got {array.dtype}{list(array.shape)}{hint}"
        )
    if size is not None and len(array) != size:
        raise InvalidInputError(
            f"{what}: {len(array)} labels for {size} examples; each example needs one"
        )

    # Within the classes.
    most = np.iinfo(np.int32).max if num_classes is None else num_classes
    outside = np.flatnonzero((array < 0) | (array >= most))
    if outside.size:
        raise InvalidInputError(
            f"{what}: {outside.size} labels are outside 0…{most - 1}, the first is "
            f"{array[outside[0]]} of example {outside[0]}; number the classes from 0, leave out "
            "examples without a label, and give the model a logit for every class"
        )
    return array.astype(np.int32)


def check_indices(
    what: str, indices: Any, size: int | None, *, allow_empty: bool = False
) -> np.ndarray:
    """Returns `indices` as int32, ascending, if they are distinct positions below `size`.

    Args:
      what: the name used in messages, for example "forget set".
      indices: integers, any array-like of one dimension.
      size: the number of examples that may be pointed at; None if it is not known.
      allow_empty: accepts no index at all.

    Raises:
      InvalidInputError: not one-dimensional integers, empty, duplicated, or out of range.

    Examples:
      >>> check_indices("forget set", [5, 2], 10)
      array([2, 5], dtype=int32)
    """
    # Integers of one dimension.
    array = as_array(what, list(indices) if isinstance(indices, set | frozenset) else indices)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int32)
        if not allow_empty:
            raise InvalidInputError(f"{what}: no indices; at least one is needed")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        hint = "; of a mask take np.flatnonzero(mask)" if array.dtype == bool else ""
        raise InvalidInputError(
            f"{what}: wanted integers of one dimension, got {array.dtype}{list(array.shape)}{hint}"
        )

    # Within range, and each once.
    size = np.iinfo(np.int32).max if size is None else size
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


def check_count(what: str, value: int, *, least: int = 1, most: int | None = None) -> int:
    """Returns `value` as an int if it is a whole number of at least `least`, and at most `most`.

    Raises:
      InvalidInputError: names the argument and the value.

    Examples:
      >>> check_count("epochs", 3.0)
      3
    """
    try:
        whole = int(value) == value and value >= least and (most is None or value <= most)
    except Exception:  # whatever something that is no number makes of being compared
        whole = False
    if not whole:
        above = "" if most is None else f" and at most {most}"
        raise InvalidInputError(
            f"{what}: wanted a whole number of at least {least}{above}, got {shown(value)}"
        )
    return int(value)


def check_flag(what: str, value: bool) -> bool:
    """Returns `value` if it is True or False.

    Raises:
      InvalidInputError: it is anything else.

    Examples:
      >>> check_flag("rewind", np.True_)
      True
    """
    if not isinstance(value, bool | np.bool_):
        raise InvalidInputError(f"{what}: wanted True or False, got {shown(value)}")
    return bool(value)


def check_most(what: str, most: Any) -> int | str:
    """Returns how many models a device may hold, a whole number or "auto", if it is one.

    Raises:
      InvalidInputError: it is neither.

    Examples:
      >>> check_most("per_device", "auto")
      'auto'
    """
    if not isinstance(most, str):
        return check_count(what, most)
    if most != "auto":
        raise InvalidInputError(f'{what}: wanted a whole number or "auto", got {shown(most)}')
    return most


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
    given = as_array(what, value)
    if given.dtype.kind not in "fiu":
        raise InvalidInputError(f"{what}: wanted a number, got {shown(value)}")
    with np.errstate(over="ignore"):
        numbers = given.astype(np.float32)
        fits = np.isfinite(numbers) & (numbers >= least) & (numbers <= most)
    if not np.all(fits):
        bounds = f"of at least {least:g}" if most == np.inf else f"in {least:g}…{most:g}"
        raise InvalidInputError(f"{what}: wanted finite numbers {bounds}, got {shown(value)}")
    number: np.float32 | np.ndarray = numbers[()]
    return number
