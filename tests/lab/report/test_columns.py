"""Which values are best, and the summary for a terminal."""

import io

import pytest
from rich.console import Console

from rumjax.lab.report import columns, tables
from rumjax.lab.report.tables import Line, Results, Summary
from rumjax.metrics import Interval

REFERENCE = Line("retrain_reference", "retrain", "reference")


def results(measure, **means):
    """Results of methods by name, over two seeds, and of an oracle that has 0.6."""
    measured = {Line(name, name, "vanilla"): mean for name, mean in means.items()}
    summaries = []
    for line, mean in {REFERENCE: 0.6, **measured}.items():
        rows = tuple(
            {"seed": seed, measure: mean + seed / 100, "name": line.name} for seed in (0, 1)
        )
        summaries.append(Summary(line, rows, {measure: Interval(mean, mean - 0.01, mean + 0.01)}))
    return Results([], summaries, (measure,), [])


@pytest.mark.parametrize(
    ("measure", "best"), [("tow", "a"), ("mia_gap", "c"), ("forget_accuracy", "b")]
)
def test_best_is_highest_lowest_or_nearest_to_the_oracle(measure, best):
    (column,) = (each for each in columns.COLUMNS if each.measure == measure)
    assert columns.best_lines(results(measure, a=0.9, b=0.65, c=0.3), column) == {best}


def test_equals_are_all_best():
    assert columns.best_lines(results("tow", a=0.9, b=0.9, c=0.3), columns.COLUMNS[0]) == {"a", "b"}


def test_the_terminal_table_has_every_line_and_fits_80_characters(work, experiment):
    results, _ = tables.collect(work, experiment)
    console = Console(file=io.StringIO(), width=80)
    console.print(columns.terminal_table(results, "[bold]name"))
    text = console.file.getvalue()
    assert "[bold]name" in text
    assert "…" not in text
    assert text.count(" ± ") == len(experiment.methods) + 2
    assert max(map(len, text.splitlines())) <= 80
