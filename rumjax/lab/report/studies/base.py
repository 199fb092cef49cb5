"""What the pages of all studies are made of."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.lab.report.columns import say_interval
from rumjax.lab.report.exports import Table
from rumjax.lab.report.figures import Picture
from rumjax.lab.report.tables import Interval, Results, Summary, paired
from rumjax.types import Scores

MEASURES = {
    "tow": "ToW",
    "tow_mia": "ToW-MIA",
    "mia_gap": "MIA gap",
    "forget_accuracy": "Acc. S",
    "retain_accuracy": "Acc. R",
    "test_accuracy": "Acc. T",
    "disagreement": "Disagreement %",
}


class Case(NamedTuple):
    """One forget set of a study, and what came of it."""

    name: str
    results: Results
    parts: Mapping[str, np.ndarray]
    """S as named parts, indices into D"""
    hardness: Mapping[str, Mapping[str, float]]
    """of S ("all") and each part, what `forget_sets.json` holds"""
    settings: Mapping[str, Mapping[str, Any]] = {}
    """options of each method, as tuning left them"""


class About(NamedTuple):
    """What stands around a page, whatever it says."""

    kind: str
    """of page, and the name of its files: "study" or "audit" """
    name: str
    """of the run"""
    facts: Mapping[str, str]
    """data, model, training and so on, in words"""
    command: str | None = None
    """that makes the same run again"""


class Study(NamedTuple):
    """All that a study's page is made from."""

    kind: str
    name: str
    options: Mapping[str, Any]
    """the configuration's section `study`"""
    cases: Mapping[str, Case]
    scores: Mapping[str, Scores]
    score_seconds: Mapping[str, float]
    labels: np.ndarray
    """int32[N]"""
    facts: Mapping[str, str]
    """data, model, training and so on, in words"""

    @property
    def about(self) -> About:
        """What stands around its page."""
        return About("study", self.name, self.facts, self.options.get("command"))


class Page(NamedTuple):
    """What a study or an audit says."""

    title: str
    question: str
    answers: Sequence[str]
    """sentences computed from the numbers, the most important first"""
    tables: Sequence[Table]
    pictures: Sequence[Picture]


def summary_of(case: Case, name: str) -> Summary | None:
    """The line of a method by its name in the configuration, if it has results."""
    found = [each for each in case.results.summaries if each.line.name == name]
    return found[0] if found else None


def mean_of(case: Case, name: str, measure: str) -> Interval | None:
    """A method's mean of a measure over the seeds; None if there is none that is finite."""
    found = summary_of(case, name)
    return None if found is None else _finite(found.measures.get(measure))


def difference(case: Case, name: str, other: str, measure: str) -> Interval | None:
    """How far a method is above another, over the seeds that both have; None as for `mean_of`."""
    first, second = summary_of(case, name), summary_of(case, other)
    return None if first is None or second is None else _finite(paired(first, second, measure))


def _finite(found: Interval | None) -> Interval | None:
    return found if found is not None and math.isfinite(found.mean) else None


def by_seed(case: Case, name: str, measure: str) -> np.ndarray:
    """A method's measure on each seed; empty if a run lacks it, as one that diverged may."""
    found = summary_of(case, name)
    values = [] if found is None else [row.get(measure, math.nan) for row in found.rows]
    return np.array(values if np.isfinite(values).all() else [])


def caveats(cases: Mapping[str, Case]) -> list[str]:
    """What to know before the answers are believed: runs that diverged, and runs not made yet."""
    diverged, absent = [], []
    for case in cases.values():
        place = f" on {plain(case.name)}" if len(cases) > 1 else ""
        for each in case.results.summaries:
            count = sum(row.get("diverged", 0) > 0 for row in each.rows)
            if count:
                diverged.append(f"{plain(each.line.name)}{place} ({count} of {len(each.rows)})")
        lines = dict.fromkeys(line.name for line, _ in case.results.missing)
        absent += [f"{plain(name)}{place}" for name in lines]
    found = []
    if diverged:
        found.append(
            f"Some runs diverged. Each counts as a ToW and a ToW-MIA of 0, and other means are "
            f"over the seeds that are left: {listed(diverged)}."
        )
    if absent:
        found.append(f"This page is partial. Not all seeds have been run of {listed(absent)}.")
    return found


def verdict(found: Interval) -> str:
    """Whether a difference is more than chance explains: "higher", "lower", or "level"."""
    if math.isnan(found.half_width):
        return "undecided (one seed)"
    if abs(found.mean) <= found.half_width:
        return "level"
    return "higher" if found.mean > 0 else "lower"


def said(found: Interval | None, *, sign: str = "") -> str:
    """An interval in running text; `sign` "+" is that of a difference."""
    if found is None or not math.isfinite(found.mean):
        return "–"
    return say_interval(found, sign=sign)


def chance(p_value: float) -> str:
    """A p-value in running text."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def listed(words: Iterable[str]) -> str:
    """Words in running text, "none" if there are none."""
    *most, last = [*words] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def plain(name: str) -> str:
    """What people call what a configuration names."""
    if name == "retrain_second":
        return "oracle again"
    return name.replace("rum_f", "RUM^F").replace("_", " ")


def in_figure(name: str) -> str:
    """The same in a figure."""
    return plain(name).replace("RUM^F", "RUM$^F$")


def spread_of(values: Sequence[float]) -> float:
    """Highest less lowest."""
    return float(np.ptp(values)) if len(values) else math.nan


def methods_table(case: Case, names: Mapping[str, str], name: str, title: str) -> Table:
    """Measures of some methods and of the calibration, one a row.

    Args:
      case: where they were run.
      names: of methods in the configuration, by what the table calls them.
      name: of the table's files.
      title: of the table.
    """
    calibration = {
        "original": "original",
        "oracle": "retrain_reference",
        "oracle again": "retrain_second",
    }
    shown = {**MEASURES, "rte": "RTE", "rte_with_scores": "RTE with scores"}
    rows = []
    for label, method in {**calibration, **names}.items():
        found = summary_of(case, method)
        if found is not None:
            rows.append((label, *(found.measures.get(measure) for measure in shown)))
    note = "RTE is the time of unlearning over that of retraining, without and with the scores'."
    return Table(name, title, ("Method", *shown.values()), rows, note)


def settings_table(study: Study) -> Table:
    """The hyper-parameters of every method, by case and part."""
    rows = []
    for case in study.cases.values():
        for name, options in case.settings.items():
            for part in options["order"] if name != "original" else ():
                given = options["select"][part]
                numbers = (f"{key} {value}" for key, value in given.items() if key not in PLAIN)
                rows.append((case.name, name, part, given["algorithm"], ", ".join(numbers)))
    return Table(
        "settings",
        "What was run",
        ("Case", "Method", "Part", "Algorithm", "Hyper-parameters"),
        rows,
        "Parts in the order in which they are unlearned.",
    )


PLAIN = ("algorithm", "augmentation", "batch_size")
"""Options that are the same throughout."""
