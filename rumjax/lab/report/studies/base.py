"""What the pages of all studies are made of."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rumjax.lab.report.exports import Table
from rumjax.lab.report.pages import About
from rumjax.lab.report.tables import Calibration, Results, Summary, paired_difference
from rumjax.metrics import Interval
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
CALIBRATION = {
    "original": Calibration.ORIGINAL,
    "oracle": Calibration.REFERENCE,
    "oracle again": Calibration.SECOND,
}
"""the calibration lines by what studies call them"""
FLOOR_AND_CEILING = {
    name: mark for name, mark in CALIBRATION.items() if mark is not Calibration.REFERENCE
}
"""without the oracles that all are measured against, and which are perfect by definition"""
SAME_THROUGHOUT = ("algorithm", "augmentation", "batch_size")
"""Options that settings need not be listed with."""


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
        """The frame of its page."""
        return About("study", self.name, self.facts, self.options.get("command"))

    @property
    def only_case(self) -> Case:
        """The case of a study that has one."""
        (case,) = self.cases.values()
        return case


def summary_of(case: Case, line: str | Calibration) -> Summary | None:
    """Returns a calibration line, or a method by its name; None if it has no results."""
    if isinstance(line, Calibration):
        return case.results.calibration(line)
    return case.results.summary(line)


def mean_of(case: Case, line: str | Calibration, measure: str) -> Interval | None:
    """Returns the mean of a measure over the seeds; None if there is none that is finite."""
    summary = summary_of(case, line)
    return None if summary is None else _finite(summary.measures.get(measure))


def means_of(case: Case, names: Mapping[str, str], measure: str) -> dict[str, Interval]:
    """Returns the means of methods, by their labels, that have finite ones."""
    means = {label: mean_of(case, name, measure) for label, name in names.items()}
    return {label: mean for label, mean in means.items() if mean is not None}


def difference(
    case: Case, one: str | Calibration, other: str | Calibration, measure: str
) -> Interval | None:
    """Computes how far one line is above another, over the seeds that both have.

    Returns:
      The mean difference and its interval; None if there is none that is finite.
    """
    first, second = summary_of(case, one), summary_of(case, other)
    if first is None or second is None:
        return None
    return _finite(paired_difference(first, second, measure))


def _finite(interval: Interval | None) -> Interval | None:
    return interval if interval is not None and math.isfinite(interval.value) else None


def by_seed(case: Case, line: str | Calibration, measure: str) -> np.ndarray:
    """Returns a measure on each seed; empty if a run lacks it, as one that diverged may."""
    summary = summary_of(case, line)
    values = [] if summary is None else [row.get(measure, math.nan) for row in summary.rows]
    return np.array(values if np.isfinite(values).all() else [])


def methods_table(case: Case, names: Mapping[str, str], name: str, title: str) -> Table:
    """Makes a table of some methods and the calibration, one a row.

    Args:
      case: where they were run.
      names: of methods in the configuration, by what the table calls them.
      name: of the table's files.
      title: of the table.
    """
    measures = {**MEASURES, "rte": "RTE", "rte_with_scores": "RTE with scores"}

    # The calibration is on top.
    lines: dict[str, str | Calibration] = {**CALIBRATION, **names}
    rows = []
    for label, line in lines.items():
        summary = summary_of(case, line)
        if summary is not None:
            rows.append((label, *(summary.measures.get(measure) for measure in measures)))
    note = "RTE is the time of unlearning over that of retraining, without and with the scores'."
    return Table(name, title, ("Method", *measures.values()), rows, note)


def settings_table(study: Study) -> Table:
    """Makes a table of the hyper-parameters of every method, by case and part."""
    rows = []
    for case in study.cases.values():
        for name, options in case.settings.items():
            # The original models are not unlearned.
            if name == "original":
                continue
            for part in options["order"]:
                setting = options["select"][part]
                numbers = ", ".join(
                    f"{key} {value}" for key, value in setting.items() if key not in SAME_THROUGHOUT
                )
                rows.append((case.name, name, part, setting["algorithm"], numbers))
    return Table(
        "settings",
        "What was run",
        ("Case", "Method", "Part", "Algorithm", "Hyper-parameters"),
        rows,
        "Parts in the order in which they are unlearned.",
    )
