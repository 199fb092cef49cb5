"""A rule for RUM, read off what a search has chosen: which algorithm for which memorization.

The rule has three bands of memorization, like "nothing below m, fine-tune below m′, relabel above",
and is read off the choices in one regime; what it is worth is found out in the others.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from budgets_cells import budget_of

from rumjax.lab.grids import fingerprint
from rumjax.lab.stages import forget_sets, scores
from rumjax.lab.stages.tuning import NO_CHANGE, candidate_of, options_of, rebuilt, sizes_of
from rumjax.lab.suiting import keeps_to_budget
from rumjax.refine import LEVELS, by_score

BOUNDS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())
"""The memorization values that may divide bands."""
NOTHING = "original"
"""The algorithm that leaves a part as it is."""
LOW_BUDGET = 10
"""Percent; up to here, and above, budgets have rules of their own."""


class Choice(NamedTuple):
    """What a search has chosen for a part of a forget set."""

    set: str
    budget: int
    level: str
    memorization: float
    """the mean of the part"""
    algorithm: str


class Rule(NamedTuple):
    """An algorithm for each of three bands of memorization."""

    bounds: tuple[float, float]
    algorithms: tuple[str, str, str]
    agreement: float
    """the share of choices that it is read off and agrees with"""

    def algorithm(self, memorization: float) -> str:
        """Returns the algorithm for a part, by the mean of its memorization."""
        return self.algorithms[sum(memorization >= bound for bound in self.bounds)]


def read_off(choices: Sequence[Choice]) -> Rule:
    """Finds the rule that agrees with the most choices, the first of equals."""
    best = None
    for bounds in itertools.combinations(BOUNDS, 2):
        bands = [Counter() for _ in range(3)]
        for choice in choices:
            bands[sum(choice.memorization >= bound for bound in bounds)][choice.algorithm] += 1
        agreeing = sum(max(band.values(), default=0) for band in bands)
        if best is None or agreeing > best[0]:
            likeliest = [band.most_common(1)[0][0] if band else NOTHING for band in bands]
            best = agreeing, Rule(bounds, tuple(likeliest), agreeing / len(choices))
    return best[1]


def is_low(budget: int) -> bool:
    return budget <= LOW_BUDGET


def rules_of(choices: Sequence[Choice]) -> dict[bool, Rule]:
    """Returns the rule of low budgets (True), and that of higher ones, if there are choices."""
    bands = {low: [one for one in choices if is_low(one.budget) is low] for low in (True, False)}
    return {low: read_off(chosen) for low, chosen in bands.items() if chosen}


def choices_of(case) -> list[Choice]:
    """Lists what the search has chosen in a case with what was found, for every budget and part."""
    means = part_means(case)
    return [
        Choice(
            case.case.folder.split("/")[-1],
            budget_of(method.name),
            level,
            means[level],
            method.options["select"][level]["algorithm"],
        )
        for method in case.case.methods
        if method.strategy == "rum"
        for level in LEVELS
    ]


def part_means(case) -> dict[str, float]:
    """Returns the mean memorization of each part of S, as RUM refines it."""
    memorization = scores.read(case)["memorization"]
    parts = by_score(memorization)(forget_sets.read(case).forget)
    return {level: float(memorization.values[part].mean()) for level, part in parts.items()}


def methods_by_rule(case, rules) -> list:
    """Makes RUM by the rule for every budget, of what RUM^F of each algorithm is tuned to.

    The case has what was found already. Budgets that an algorithm of the rule, or all of them
    together, do not fit are left out.
    """
    means, sizes = part_means(case), sizes_of(case)
    methods = {method.name: method for method in case.case.methods}
    made = []
    for method in methods.values():
        if method.strategy != "rum":
            continue
        budget = budget_of(method.name)
        rule = rules.get(is_low(budget))
        if rule is None:
            continue
        algorithms = {level: rule.algorithm(means[level]) for level in LEVELS}
        tuned = {level: methods.get(f"{each}_rum_f_{budget}") for level, each in algorithms.items()}
        if any(tuned[level] is None and each != NOTHING for level, each in algorithms.items()):
            continue
        chosen = {
            level: NO_CHANGE if one is None else candidate_of(one, level)
            for level, one in tuned.items()
        }
        # Results of another rule are not those of this one.
        named = dataclasses.replace(method, name=f"rule_{fingerprint(chosen)}_{budget}")
        ruled = rebuilt(case.run, named, options_of(named, chosen, LEVELS))
        if keeps_to_budget(ruled.name, ruled, sizes.steps_of(ruled), sizes.retain, case.run):
            made.append(ruled)
    return made


def name_of(algorithm: str) -> str:
    """Returns what an algorithm is called in words."""
    return "nothing" if algorithm == NOTHING else algorithm
