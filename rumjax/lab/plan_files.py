"""The file that holds a plan, and its numbers as people read them."""

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, TypeAlias

from rumjax.errors import InvalidInputError
from rumjax.lab.estimates import GIB

Span: TypeAlias = tuple[float, float]
"""The least and the most that something takes."""

FORMAT = "rumjax plan 1"
"""The first entry of every plan, by which one is told from other files."""


def check_place(path: pathlib.Path) -> None:
    """Checks that a plan may be written somewhere: where nothing is, or another plan.

    Raises:
      InvalidInputError: something else is there.
    """
    if not path.exists():
        return
    try:
        is_plan = json.loads(path.read_text())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        is_plan = False
    if not is_plan:
        raise InvalidInputError(f"plan: {path} is no plan, and is not overwritten; choose --output")


def write(plan: Mapping[str, Any], path: pathlib.Path) -> None:
    """Writes a plan, whole or not at all.

    Raises:
      InvalidInputError: something else is there, or it cannot be written.
    """
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w") as opened:
            json.dump(plan, opened, indent=1)
        os.replace(name, path)
    except OSError as error:
        raise InvalidInputError(f"plan: {path} cannot be written: {error}") from error


def gib(count: float | None) -> str:
    """Writes bytes in GiB.

    Examples:
      >>> gib(3 * 2**29)
      '1.50'
    """
    return "" if count is None else f"{count / GIB:.2f}"


def span(values: Span | None) -> str:
    """Writes a range in two digits.

    Examples:
      >>> span((0.0123, 4567.8)), span(None)
      ('0.012–4,600', '–')
    """
    if values is None:
        return "–"

    def digits(value: float) -> str:
        rounded = float(f"{value:.2g}")
        return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"

    low, high = map(digits, values)
    return low if low == high else f"{low}–{high}"
