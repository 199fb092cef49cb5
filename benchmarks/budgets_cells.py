"""Which cells of `configs/budgets.py` are run: a regime, a forget set and a budget each."""

from collections.abc import Mapping, Sequence
from typing import Any

SMALL = (2, 5, 10, 20)
"""Percent of the gradients of retraining."""
LARGER = (*SMALL, 33)
SETS_OF_5 = ("mixed_5", "high_5")
OTHER_SETS = ("mixed_1", "high_1", "mixed_10", "high_10")
PLAN = {
    "interpolating": dict.fromkeys(SETS_OF_5, LARGER) | dict.fromkeys(OTHER_SETS, SMALL),
    "underfit": dict.fromkeys(SETS_OF_5, LARGER),
    "noisy": dict.fromkeys(SETS_OF_5, LARGER),
}
"""The budgets of each forget set, by regime; a rule is read off the first.

All cells of the configuration would take about four times as many gradients.
"""


def of_cells(written: Mapping[str, Any], cells: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Returns a configuration with some of its forget sets alone, and their budgets.

    Other cells of a directory that is there already are left alone.
    """
    cases = {}
    for name, budgets in cells.items():
        case = written["cases"][name]
        methods = {each: one for each, one in case["methods"].items() if budget_of(each) in budgets}
        cases[name] = {**case, "methods": methods}
    kept = {each for case in cases.values() for each in case["methods"]}
    tuned = dict(written["tuning"])
    for key in ("grids", "select"):
        tuned[key] = {each: one for each, one in tuned[key].items() if each in kept}
    return {**written, "cases": cases, "tuning": tuned}


def budget_of(name: str) -> int:
    """Returns the budget in a method's name, in percent."""
    return int(name.rsplit("_", 1)[1])
