"""The columns of a run's summary, which value is best in each, and the table for a terminal."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rumjax.lab.report import wording
from rumjax.lab.report.tables import Calibration, Results, Summary
from rumjax.metrics import Interval


class Column(NamedTuple):
    """One measure of the summary table."""

    measure: str
    title: str
    best: Literal["highest", "lowest", "oracle"]
    """which value is best; "oracle" is the one nearest to the oracle's"""
    meaning: str
    digits: int = 3


COLUMNS = (
    Column(
        "tow",
        "ToW",
        "highest",
        "tug of war: (1 − |ΔS|)·(1 − |ΔR|)·(1 − |ΔT|), with Δ the difference in accuracy from the "
        "model retrained without S, on each set; 1 is indistinguishable by accuracy",
    ),
    Column(
        "tow_mia",
        "ToW-MIA",
        "highest",
        "the same, with the MIA gap in place of the difference in accuracy on S",
    ),
    Column(
        "mia_gap",
        "MIA gap",
        "lowest",
        "the membership inference attack calls a fraction of S “never trained on”; the gap is how "
        "far that fraction is from the retrained model’s",
    ),
    Column("forget_accuracy", "Acc. S", "oracle", "accuracy on the forget set S"),
    Column("retain_accuracy", "Acc. R", "oracle", "accuracy on the retain set R"),
    Column("test_accuracy", "Acc. T", "oracle", "accuracy on the test set T"),
    Column(
        "disagreement",
        "Disagreement",
        "lowest",
        "percentage of S whose predicted class is not the retrained model’s",
        digits=2,
    ),
    Column(
        "rge",
        "RGE",
        "lowest",
        "gradients of single examples that unlearning takes, divided by those of retraining; the "
        "same on every machine",
    ),
    Column(
        "rte",
        "RTE",
        "lowest",
        "time of unlearning divided by that of retraining, on this machine, compilation and scores "
        "apart",
    ),
)


def shown_columns(results: Results) -> list[Column]:
    """Returns the columns that the results have numbers for."""
    return [column for column in COLUMNS if column.measure in results.measures]


def best_lines(results: Results, column: Column) -> set[str]:
    """Returns the names of the methods that are best in a column, calibration apart.

    None is while the original models are no better than guessing.
    """
    if not results.has_learned:
        return set()
    means = {
        summary.line.name: summary.measures[column.measure].value
        for summary in results.methods
        if column.measure in summary.measures
    }

    # What is best is nearest to a target, but for measures that cannot be too high.
    target = 0.0
    if column.best == "oracle":
        reference = results.calibration(Calibration.REFERENCE)
        if reference is None or column.measure not in reference.measures:
            return set()
        target = reference.measures[column.measure].value

    # Ties are all best.
    distances = {
        name: -mean if column.best == "highest" else abs(mean - target)
        for name, mean in means.items()
    }
    least = min(distances.values(), default=math.nan)
    return {name for name, distance in distances.items() if distance == least}


def number_pair(interval: Interval | None, digits: int = 3) -> tuple[str, str]:
    """Writes a mean and its half-width; the latter is empty where there is none."""
    if interval is None or not math.isfinite(interval.value):
        return wording.NOTHING, ""
    if not math.isfinite(interval.half_width):
        return wording.number(interval.value, digits), ""
    return wording.number(interval.value, digits), wording.number(interval.half_width, digits)


def terminal_table(results: Results, title: str) -> Table:
    """Lays the summary out for a terminal of 80 characters.

    Only ToW has room for its interval. Lines have their own names, whole, by which they differ.
    """
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=0)
    columns = [each for each in shown_columns(results) if each.measure != "disagreement"]
    table.add_column("Method", min_width=12, overflow="fold")
    for column in columns:
        table.add_column(column.title.removeprefix("Acc. "), justify="right", no_wrap=True)

    # The calibration is on top, with a line below it.
    best = [best_lines(results, column) for column in columns]
    last_mark = len(results.summaries) - len(results.methods) - 1
    for position, summary in enumerate(results.summaries):
        table.add_row(
            Text(summary.line.name),
            *_terminal_cells(summary, columns, best),
            end_section=position == last_mark,
        )
    return table


def _terminal_cells(
    summary: Summary, columns: Sequence[Column], best: Sequence[set[str]]
) -> list[Text]:
    cells = []
    for column, names in zip(columns, best, strict=True):
        words, half_width = number_pair(summary.measures.get(column.measure), column.digits)
        # Half-widths of all columns would not fit.
        if column.measure == "tow" and half_width:
            words = f"{words} ± {half_width}"
        cells.append(Text(words, style="bold" if summary.line.name in names else ""))
    return cells
