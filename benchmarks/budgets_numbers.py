"""What `budgets.py` has measured: forms of unlearning compared seed by seed, in every cell.

A cell is a regime, a forget set and a budget. In a cell, a form (vanilla, shuffle, RUM^F, RUM) is
either the algorithm that tuning found best in it, on a seed that is not reported; or, where the
question is what a form does for an algorithm, the mean over the algorithms.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from budgets_cells import budget_of

from rumjax.lab.report.studies import Case, Study
from rumjax.lab.report.studies.base import summary_of
from rumjax.lab.report.tables import Calibration, has_diverged
from rumjax.metrics import Interval, holm, mean_interval, paired_p_value

FORMS = {"vanilla": "vanilla", "shuffle": "shuffle", "rum_f": "RUM^F", "rum": "RUM"}
RULE = "rule"
"""RUM by a rule, which is no form that is tuned."""
CONTRASTS = {
    "RUM^F − vanilla": ("rum_f", "vanilla"),
    "RUM^F − shuffle": ("rum_f", "shuffle"),
    "shuffle − vanilla": ("shuffle", "vanilla"),
    "RUM − vanilla": ("rum", "vanilla"),
    "RUM − RUM^F": ("rum", "rum_f"),
}
"""The forms that are held against each other."""
FINDINGS = {
    "RUM^F − vanilla": ("RUM^F is ahead of vanilla in ToW", 1),
    "RUM^F − shuffle": ("RUM^F is ahead of shuffle in ToW", 1),
    "shuffle − vanilla": ("Shuffle is behind vanilla in ToW", -1),
    "RUM − vanilla": ("RUM is ahead of vanilla in ToW", 1),
    "RUM − RUM^F": ("RUM is ahead of RUM^F in ToW", 1),
}
"""What the paper finds, and the sign that the difference then has."""
SIGNIFICANCE = 0.05


class Cell(NamedTuple):
    """Where forms are compared."""

    regime: str
    set: str
    """the name of a case, like "mixed_5" """
    budget: int
    """percent of the gradients of retraining"""


class Contrast(NamedTuple):
    """How far one form is above another, over the seeds."""

    effect: Interval
    p_value: float
    """of a paired t-test, corrected by Holm for all comparisons that it is shown among"""

    @property
    def is_shown(self) -> bool:
        """Whether chance explains it badly."""
        return self.p_value < SIGNIFICANCE


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The results of all regimes."""

    studies: Mapping[str, Study]
    """by regime"""
    tuned: Mapping[tuple[str, str], Mapping[str, float]]
    """the score of each method's best setting, by regime and set"""

    @functools.cached_property
    def cells(self) -> list[Cell]:
        """All cells that have results, by regime, set and budget."""
        return [
            Cell(regime, name, budget)
            for regime, study in self.studies.items()
            for name in ordered_sets(study)
            for budget in self.budgets
            if self.methods(Cell(regime, name, budget), "vanilla")
        ]

    @functools.cached_property
    def budgets(self) -> list[int]:
        """In percent, ascending."""
        return sorted({budget_of(name) for scores in self.tuned.values() for name in scores})

    def case(self, cell: Cell) -> Case:
        """Returns the case of a cell."""
        return self.studies[cell.regime].cases[cell.set]

    def methods(self, cell: Cell, form: str) -> dict[str, str]:
        """Returns the methods of a form that have results, by algorithm; RUM is by itself."""
        names = [summary.line.name for summary in self.case(cell).results.methods]
        names = [name for name in names if budget_of(name) == cell.budget]
        if form in ("rum", RULE):
            own = [name for name in names if name.startswith(f"{form}_")]
            return {form: own[0]} if own else {}
        ending = f"_{form}_{cell.budget}"
        return {name.removesuffix(ending): name for name in names if name.endswith(ending)}

    def best(self, cell: Cell, form: str) -> str | None:
        """Returns the method of a form that tuning scored highest; None before there are any."""
        scores, methods = self.tuned[cell.regime, cell.set], self.methods(cell, form)
        if form == RULE:
            return methods.get(RULE)
        return max(
            (name for name in methods.values() if name in scores),
            key=lambda name: scores[name],
            default=None,
        )

    def of_best(self, cell: Cell, form: str, measure: str = "tow") -> np.ndarray:
        """Returns a measure of a form's best method, by seed; empty where there is none."""
        method = self.best(cell, form)
        return np.empty(0) if method is None else of_seeds(self.case(cell), method, measure)

    def mean_of_best(self, cell: Cell, form: str, measure: str = "tow") -> Interval | None:
        """Returns the mean of a measure of a form's best method; None where there is none."""
        values = self.of_best(cell, form, measure)
        return mean_interval(values) if values.size else None

    def of_all(self, cell: Cell, form: str, measure: str = "tow") -> np.ndarray:
        """Returns a measure by seed, its mean over the algorithms."""
        return averaged(
            of_seeds(self.case(cell), method, measure)
            for method in self.methods(cell, form).values()
        )

    def of_algorithm(self, cell: Cell, form: str, algorithm: str, measure: str = "tow"):
        """Returns a measure of one algorithm in a form, by seed; empty where there is none."""
        method = self.methods(cell, form).get(algorithm)
        return np.empty(0) if method is None else of_seeds(self.case(cell), method, measure)

    def accuracy(self, regime: str, line: Calibration, measure: str, name: str = "high_5"):
        """Returns a mean accuracy of original models or oracles."""
        summary = self.studies[regime].cases[name].results.calibration(line)
        return None if summary is None else summary.measures[measure]


Values = Callable[[Cell, str], np.ndarray]
"""A measure of a form in a cell, by seed."""


def contrasts(
    differences: Mapping[tuple, np.ndarray],
) -> dict[tuple, Contrast]:
    """Judges differences by seed together; those without values are left out."""
    whole = {key: values for key, values in differences.items() if values.size > 1}
    corrected = holm(np.array([paired_p_value(values) for values in whole.values()]))
    return {
        key: Contrast(mean_interval(values), float(p_value))
        for (key, values), p_value in zip(whole.items(), corrected, strict=True)
    }


def by_cell(numbers: Numbers, values: Values) -> dict[tuple[str, Cell], Contrast]:
    """Holds forms against each other in every cell; corrected for the cells of a contrast."""
    found: dict[tuple[str, Cell], Contrast] = {}
    for name, (one, other) in CONTRASTS.items():
        found |= contrasts(
            {(name, cell): apart(values(cell, one), values(cell, other)) for cell in numbers.cells}
        )
    return found


def over_cells(
    numbers: Numbers, values: Values, group: Callable[[Cell], object]
) -> dict[tuple[str, object], Contrast]:
    """Holds forms against each other on average over groups of cells, which seeds repeat.

    The mean over the cells of a group is taken seed by seed, so that what seeds share counts once.
    """
    differences = {}
    for name, (one, other) in CONTRASTS.items():
        for key in dict.fromkeys(map(group, numbers.cells)):
            cells = [cell for cell in numbers.cells if group(cell) == key]
            differences[name, key] = averaged(
                apart(values(cell, one), values(cell, other)) for cell in cells
            )
    return contrasts(differences)


def by_algorithm(numbers: Numbers, measure: str = "tow") -> dict[tuple[str, str, str], Contrast]:
    """Holds forms of each algorithm against each other, on average over the cells of a regime."""
    differences = {}
    for name, (one, other) in list(CONTRASTS.items())[:3]:
        for regime in numbers.studies:
            cells = [cell for cell in numbers.cells if cell.regime == regime]
            # Some algorithms fit the larger budgets alone.
            algorithms = {each: None for cell in cells for each in numbers.methods(cell, "vanilla")}
            for algorithm in algorithms:
                differences[name, regime, algorithm] = averaged(
                    apart(
                        numbers.of_algorithm(cell, one, algorithm, measure),
                        numbers.of_algorithm(cell, other, algorithm, measure),
                    )
                    for cell in cells
                )
    return contrasts(differences)


def of_seeds(case: Case, method: str, measure: str) -> np.ndarray:
    """Returns a measure by seed; a model that diverged counts 0, as it does in tuning."""
    summary = summary_of(case, method)
    rows = () if summary is None else sorted(summary.rows, key=lambda row: row["seed"])
    return np.array([0.0 if has_diverged(row) else row[measure] for row in rows])


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns differences by seed; empty where either has none."""
    return one - other if one.shape == other.shape else np.empty(0)


def averaged(differences: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the mean of differences by seed, over the cells that have any."""
    whole = [values for values in differences if values.size]
    return np.mean(whole, axis=0) if whole else np.empty(0)


def ordered_sets(study):
    """Returns the sets of a study, mixed ones first, by size."""
    return sorted(study.cases, key=lambda name: (name.startswith("high"), int(name.split("_")[1])))


def set_name(name):
    """Returns what a set is called in words."""
    kind, size = name.split("_")
    return f"{size} % of all levels" if kind == "mixed" else f"the {size} % most memorized"


def verdict(found, sign):
    """Says whether a difference is of the sign that a finding says."""
    if not found.is_shown:
        return "cannot be told"
    return "holds" if np.sign(found.effect.value) == sign else "does not hold"


def tally(cells, contrast, regime):
    """Counts the cells of a regime where a difference is positive, negative, and all."""
    found = [
        one for (name, cell), one in cells.items() if (name, cell.regime) == (contrast, regime)
    ]
    ahead = sum(one.is_shown and one.effect.value > 0 for one in found)
    behind = sum(one.is_shown and one.effect.value < 0 for one in found)
    return ahead, behind, len(found)
