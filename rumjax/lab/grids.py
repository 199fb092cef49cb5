"""Grids of hyper-parameters: which settings they hold, whole or drawn at random."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab.values import check_distinct, is_number

Setting: TypeAlias = dict[str, dict[str, Any]]
"""Options that differ from the configured ones, by part of the forget set."""

PATIENCE = 100
"""Draws for each setting that is wanted, after which there are no more."""


def settings(
    grid: Mapping[str, Any],
    order: Sequence[str],
    *,
    draw: int | None = None,
    allows: Callable[[Setting], bool] = lambda setting: True,
) -> Iterator[Setting]:
    """Yields the settings of a grid, as options by part of the forget set.

    A grid of plain options holds for all parts alike; one of options by part is searched jointly.

    Args:
      grid: values to try by option, or by part and option; see `rumjax.lab.sections.Tuning`.
      order: the method's parts.
      draw: how many to draw at random, without repetition, the same ones each time; None for all.
      allows: says which settings may be tried; the others are neither yielded nor counted.

    Raises:
      InvalidInputError: the grid holds a range, which has no end of values, and `draw` is None.
    """
    # An axis is a part ("*" for all parts), an option, and its values.
    by_part = grid if is_by_part(grid) else {"*": grid}
    axes = [(part, key, values) for part in by_part for key, values in by_part[part].items()]

    def setting(combination: Sequence[Any]) -> Setting:
        options: Setting = {}
        for (part, key, _), value in zip(axes, combination, strict=True):
            for name in order if part == "*" else (part,):
                options.setdefault(name, {})[key] = value
        return options

    # The whole grid is the product of its axes.
    ranges = [key for _, key, values in axes if is_range(values)]
    if draw is None:
        if ranges:
            raise InvalidInputError(
                f"tuning: {ranges[0]} is a range; say with tuning.settings how many to draw"
            )
        whole = map(setting, itertools.product(*(values for _, _, values in axes)))
        yield from filter(allows, whole)
        return

    # Draws come from a seed of the grid's own; a narrow range may have too few different values.
    count = draw if ranges else min(draw, int(np.prod([len(values) for *_, values in axes])))
    random = np.random.default_rng(int(fingerprint(grid), 16))
    seen: set[str] = set()
    for _ in range(PATIENCE * count):
        drawn = setting([draw_from(values, random) for _, _, values in axes])
        if fingerprint(drawn) not in seen and allows(drawn):
            seen.add(fingerprint(drawn))
            yield drawn
        if len(seen) == count:
            return


def check_grid(where: str, grid: Any, parts: Sequence[str]) -> None:
    """Checks that a grid holds values to try, for parts that there are.

    Args:
      where: the name used in messages.
      grid: see `settings`.
      parts: the method's.

    Raises:
      InvalidInputError: it does not.

    Examples:
      >>> check_grid("grid", {"epochs": 3}, ("all",))
      Traceback (most recent call last):
      rumjax.errors.InvalidInputError: grid.epochs: wanted values to try, like (1, 2), got 3
    """
    # Options by part, or options for all parts, and no mixture.
    if not isinstance(grid, Mapping):
        raise InvalidInputError(f"{where}: wanted values by option, got {grid!r}")
    if is_by_part(grid):
        for part, options in grid.items():
            check_choice(f"part in {where}", part, parts)
            check_grid(f"{where}.{part}", options, parts)
        return

    # Some values for every option, or a range.
    for key, values in grid.items():
        if not isinstance(values, tuple | list) or not values:
            raise InvalidInputError(
                f"{where}.{key}: wanted values to try, like (1, 2), got {values!r}"
            )
        if values[0] in ("log", "uniform"):
            check_range(f"{where}.{key}", values)
        else:
            check_distinct(f"{where}.{key}", values)


def check_range(where: str, values: Sequence[Any]) -> None:
    """Checks that values are ("log", low, high) or ("uniform", low, high).

    Raises:
      InvalidInputError: they are not.
    """
    kind, *bounds = values
    ascend = len(bounds) == 2 and all(map(is_number, bounds)) and bounds[0] < bounds[1]
    if not ascend or (kind == "log" and bounds[0] <= 0):
        raise InvalidInputError(
            f'{where}: wanted ("{kind}", low, high) with low below high, both above 0 for "log", '
            f"got {values!r}"
        )


def is_by_part(grid: Mapping[str, Any]) -> bool:
    """Says whether a grid gives options by part of the forget set."""
    return any(isinstance(values, Mapping) for values in grid.values())


def is_range(values: Any) -> bool:
    """Says whether an axis of a grid is ("log", low, high) or ("uniform", low, high)."""
    return len(values) == 3 and values[0] in ("log", "uniform")


def draw_from(values: Any, random: np.random.Generator) -> Any:
    """Draws a value of an axis at random; one of a range is rounded to three digits."""
    if not is_range(values):
        return values[random.integers(len(values))]
    kind, low, high = values
    if kind == "uniform":
        return float(f"{random.uniform(low, high):.3g}")
    return float(f"{np.exp(random.uniform(np.log(low), np.log(high))):.3g}")


def fingerprint(value: Any) -> str:
    """Returns a short name for a JSON-like value, of 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[
        :12
    ]
