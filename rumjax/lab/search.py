"""Searches over choices of a value for every coordinate."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab.sections import Selection

Choice: TypeAlias = tuple[Any, ...]
"""A value for every coordinate."""
Evaluate: TypeAlias = Callable[[list[Choice]], list[float]]
"""Scores some choices; it should remember which it has scored."""


def ascend(
    start: Choice, values: Sequence[Sequence[Any]], evaluate: Evaluate, budget: int
) -> tuple[Choice, float]:
    """Sets one coordinate after another to its best value, until none gets better.

    Args:
      start: the choice to begin with.
      values: the values that each coordinate may take.
      evaluate: scores choices.
      budget: how many choices are scored, at most.

    Returns:
      The best choice, and its score.
    """
    scores = {start: evaluate([start])[0]}
    best, coordinate, idle = start, 0, 0
    while idle < len(values):
        # Score what has not been scored yet, as far as the budget goes.
        others = [
            (*best[:coordinate], value, *best[coordinate + 1 :]) for value in values[coordinate]
        ]
        new = [choice for choice in others if choice not in scores][: budget - len(scores)]
        if new:
            scores |= dict(zip(new, evaluate(new), strict=True))

        # Move to the best of them; a coordinate that does not get better is idle.
        candidates = [choice for choice in (best, *others) if choice in scores]
        winner = max(candidates, key=lambda choice: scores[choice])
        if scores[winner] > scores[best]:
            best, idle = winner, 0
        else:
            idle += 1
        coordinate = (coordinate + 1) % len(values)
    return best, scores[best]


def check_budget(where: str, selection: Selection, parts: Sequence[str]) -> None:
    """Checks that an exhaustive search stays in its budget, doing nothing being a candidate too.

    Raises:
      InvalidInputError: it does not.
    """
    orders = math.factorial(len(parts)) if selection.orders == "all" else 1
    count = (len(set(selection.candidates)) + 1) ** len(parts) * orders
    if selection.search == "exhaustive" and count > selection.budget:
        raise InvalidInputError(
            f"{where}: {count} selections exceed the budget of {selection.budget}; raise it, name "
            'fewer candidates, or search by "ascent"'
        )


def exhaust(
    start: Choice, values: Sequence[Sequence[Any]], evaluate: Evaluate, budget: int
) -> tuple[Choice, float]:
    """Scores every choice there is; see `ascend` for arguments and result.

    Raises:
      InvalidInputError: there are more than the budget allows.
    """
    del start
    choices = list(itertools.product(*values))
    if len(choices) > budget:
        raise InvalidInputError(
            f"tuning: {len(choices)} selections exceed the budget of {budget}; raise it, name "
            'fewer candidates, or search by "ascent"'
        )
    scores = evaluate(choices)
    best = int(np.argmax(scores))
    return choices[best], scores[best]


SEARCHES = {"ascent": ascend, "exhaustive": exhaust}
"""The searches that a section `tuning.select` may name."""
