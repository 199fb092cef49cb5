"""How results are shown: which columns, how many digits, which value is best, in what words."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rumjax.lab.report.tables import REFERENCE, Interval, Line, Results, Summary

STRATEGIES = {"vanilla": "vanilla", "shuffle": "shuffle", "rum_f": "RUM^F", "rum": "RUM"}


class Column(NamedTuple):
    """One measure of the summary table."""

    measure: str
    title: str
    best: str
    """which value is best: "highest", "lowest", or "oracle" for the one nearest to the oracle's"""
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
        "rte",
        "RTE",
        "lowest",
        "time of unlearning divided by that of retraining, compilation and scores apart",
    ),
)
LABELS = (
    ("vanilla", "the algorithm once, on all of S"),
    ("shuffle", "the algorithm on random parts of S in sequence: the control for RUM^F"),
    ("RUM^F", "the algorithm on parts of S in sequence, refined by score, lowest first"),
    ("RUM", "the same, with an algorithm of its own for each part"),
    ("original", "the model before unlearning, which forgets nothing: the floor"),
    ("retrain, reference", "the oracle, trained without S: what all others are compared with"),
    ("retrain, second", "another oracle, of another random key: the ceiling that chance leaves"),
)


def show_method(line: Line) -> str:
    """A method's name; a mixed RUM's with arrows."""
    return line.method.replace(">", " → ")


def show_strategy(line: Line) -> str:
    """A strategy's name, with a note where it is used more than once for a method."""
    shown = STRATEGIES.get(line.strategy, line.strategy)
    return f"{shown} ({line.note})" if line.note else shown


def show_line(line: Line) -> str:
    """A line's name in running text."""
    shown = STRATEGIES.get(line.strategy, line.strategy)
    return f"{show_method(line)} ({shown}{', ' * bool(line.note)}{line.note})"


def show_number(value: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def show_both(found: Interval | None, digits: int = 3) -> tuple[str, str]:
    """A mean and its half-width; the latter is empty where there is no mean."""
    if found is None or not math.isfinite(found.mean):
        return "–", ""
    return show_number(found.mean, digits), show_number(found.half_width, digits)


def show_interval(found: Interval | None, digits: int = 3) -> str:
    """A mean and its half-width in running text."""
    mean, half_width = show_both(found, digits)
    return f"{mean} ± {half_width}" if half_width else mean


def say_interval(found: Interval, *, sign: str = "") -> str:
    """A mean and its half-width in a sentence; `sign` "+" is that of a difference."""
    mean = f"{found.mean:{sign}.3f}".replace("-", "−")
    return mean if math.isnan(found.half_width) else f"{mean} ± {found.half_width:.3f}"


def best_lines(results: Results, column: Column) -> set[str]:
    """The names of the methods that are best in a column, calibration apart."""
    means = {
        each.line.name: each.measures[column.measure].mean
        for each in results.methods
        if column.measure in each.measures
    }
    target = 0.0
    if column.best == "oracle":
        reference = results.calibration(REFERENCE)
        if reference is None or column.measure not in reference.measures:
            return set()
        target = reference.measures[column.measure].mean
    distance = {
        name: -mean if column.best == "highest" else abs(mean - target)
        for name, mean in means.items()
    }
    least = min(distance.values(), default=math.nan)
    return {name for name, each in distance.items() if each == least}


def shown_columns(results: Results) -> list[Column]:
    """The columns that the results have numbers for."""
    return [column for column in COLUMNS if column.measure in results.measures]


def terminal_table(results: Results, title: str) -> Table:
    """The summary for a terminal of 80 characters, where only ToW has room for its interval."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=0)
    columns = [each for each in shown_columns(results) if each.measure != "disagreement"]
    table.add_column("Method", min_width=12)
    table.add_column("Strategy", min_width=9)
    for column in columns:
        table.add_column(column.title.removeprefix("Acc. "), justify="right", no_wrap=True)
    best = [best_lines(results, column) for column in columns]
    summaries = results.summaries
    last = len(summaries) - len(results.methods) - 1
    for position, summary in enumerate(summaries):
        table.add_row(
            Text(show_method(summary.line)),
            Text(show_strategy(summary.line)),
            *_terminal_cells(summary, columns, best),
            end_section=position == last,
        )
    return table


def _terminal_cells(
    summary: Summary, columns: Sequence[Column], best: Sequence[set[str]]
) -> list[Text]:
    cells = []
    for column, names in zip(columns, best, strict=True):
        found = summary.measures.get(column.measure)
        if column.measure == "tow":
            shown = show_interval(found, column.digits)
        else:
            shown, _ = show_both(found, column.digits)
        cells.append(Text(shown, style="bold" if summary.line.name in names else ""))
    return cells
