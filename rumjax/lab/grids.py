"""Grids of hyper-parameters: which settings they hold, whole or drawn at random."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rumjax.errors import InvalidInputError

Setting: TypeAlias = dict[str, dict[str, Any]]
"""Options that differ from the configured ones, by part of the forget set."""

PATIENCE = 100
"""Draws for each setting that is wanted, after which there are no more."""


def settings(
    grid: Mapping[str, Any], order: Sequence[str], *, draw: int | None = None
) -> Iterator[Setting]:
    """Yields the settings of a grid, as options by part of the forget set.

    A grid of plain options holds for all parts alike; one of options by part is searched jointly.

    Args:
      grid: values to try by option, or by part and option; see `rumjax.lab.sections.Tuning`.
      order: the method's parts.
      draw: how many to draw at random, without repetition, the same ones each time; None for all.

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
        yield from map(setting, itertools.product(*(values for _, _, values in axes)))
        return

    # Draws come from a seed of the grid's own; a narrow range may have too few different values.
    count = draw if ranges else min(draw, int(np.prod([len(values) for *_, values in axes])))
    random = np.random.default_rng(int(fingerprint(grid), 16))
    seen: set[str] = set()
    for _ in range(PATIENCE * count):
        drawn = setting([draw_from(values, random) for _, _, values in axes])
        if fingerprint(drawn) not in seen and len(seen) < count:
            seen.add(fingerprint(drawn))
            yield drawn


def is_by_part(grid: Mapping[str, Any]) -> bool:
    """Says whether a grid gives options by part of the forget set."""
    return bool(grid) and all(isinstance(values, Mapping) for values in grid.values())


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
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
