"""Columns of tables: names, formats, and which value is best."""

import io
import math

import pytest
from rich.console import Console

from rumjax.lab.report import answer, columns, tables
from rumjax.lab.report.tables import Interval, Line, Results, Summary

REFERENCE = Line("retrain_reference", "retrain", "reference")


def results(measure, **means):
    """Results of methods by name, over two seeds, and of an oracle that has 0.6."""
    measured = {Line(name, name, "vanilla"): mean for name, mean in means.items()}
    summaries = []
    for line, mean in {REFERENCE: 0.6, **measured}.items():
        rows = tuple(
            {"seed": seed, measure: mean + seed / 100, "name": line.name} for seed in (0, 1)
        )
        summaries.append(Summary(line, rows, {measure: Interval(mean, 0.01)}))
    return Results([], summaries, (measure,), [])


@pytest.mark.parametrize(
    ("measure", "best"), [("tow", "a"), ("mia_gap", "c"), ("forget_accuracy", "b")]
)
def test_best_is_highest_lowest_or_nearest_to_the_oracle(measure, best):
    (column,) = (each for each in columns.COLUMNS if each.measure == measure)
    assert columns.best_lines(results(measure, a=0.9, b=0.65, c=0.3), column) == {best}


def test_equals_are_all_best():
    assert columns.best_lines(results("tow", a=0.9, b=0.9, c=0.3), columns.COLUMNS[0]) == {"a", "b"}


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (Interval(0.12345, 0.0111), "0.123 ± 0.011"),
        (Interval(0.5, math.nan), "0.500 ± –"),
        (None, "–"),
    ],
)
def test_intervals_are_shown_with_a_dash_for_what_is_not_known(found, shown):
    assert columns.show_interval(found) == shown


def test_names_of_mixed_methods_and_of_strategies_are_readable():
    assert columns.show_line(Line("x", "original>scrub", "rum")) == "original → scrub (RUM)"
    assert columns.show_line(Line("x", "scrub", "rum_f", "x")) == "scrub (RUM^F, x)"


def test_the_terminal_table_has_every_line_and_fits_80_characters(work, experiment):
    found, _ = tables.collect(work, experiment)
    console = Console(file=io.StringIO(), width=80)
    console.print(columns.terminal_table(found, "[bold]name"))
    text = console.file.getvalue()
    assert "[bold]name" in text
    assert "…" not in text
    assert text.count(" ± ") == len(experiment.methods) + 2
    assert max(map(len, text.splitlines())) <= 80


def test_the_answer_names_the_best_method_and_what_rum_gains(work, experiment):
    found, _ = tables.collect(work, experiment)
    first, second, refined, mixed = answer.answer(found)
    tow = {each.line.name: each.measures["tow"] for each in found.summaries}
    best = f"{tow['mixed'].mean:.3f} ± {tow['mixed'].half_width:.3f}"
    assert first.startswith("original → finetune → salun (RUM) comes closest")
    assert best in first
    assert second.startswith("The next, finetune (RUM^F)")
    assert "for 1 of 2 algorithms" in refined
    assert f"finetune {tow['tuned_parts'].mean - tow['tuned'].mean:+.3f}" in refined
    assert "the best vanilla method, salun" in mixed


def test_a_single_seed_is_said_to_prove_nothing(work, experiment):
    one = experiment.__class__(**{**vars(experiment), "seeds": experiment.seeds[:1]})
    sentences = answer.answer(tables.collect(work, one)[0])
    assert all("±" not in each for each in sentences)
    assert sum("single seed cannot tell from chance" in each for each in sentences) == 3


@pytest.mark.parametrize(
    ("half_width", "verdict"), [(0.05, "leaves out zero"), (0.2, "holds zero")]
)
def test_a_lead_is_only_called_more_than_chance_beyond_its_interval(
    monkeypatch, half_width, verdict
):
    monkeypatch.setattr(answer, "paired", lambda *_: Interval(0.1, half_width))
    assert verdict in answer.answer(results("tow", a=0.9, b=0.8))[1]


def test_without_methods_the_answer_says_so():
    assert answer.answer(results("tow")) == ["There are no results of unlearning methods yet."]
