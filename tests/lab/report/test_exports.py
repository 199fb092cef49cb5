"""Tables as CSV, Markdown and LaTeX."""

import csv
import io
import math
import re

import pytest

from rumjax.lab.report import exports, tables
from rumjax.lab.report.exports import Bounds, Table
from rumjax.lab.report.tables import Interval
from rumjax.lab.workdir import WorkDirectory

TABLE = Table(
    "made_up",
    "Made up",
    ("Method", "ToW", "p", "Size"),
    [
        ("RUM^F & co_1", Interval(0.91234567, 0.05), 0.000123, 3000),
        ("one | seed", Interval(0.5, math.nan), None, 1),
        ("gone", None, 0.0, 12.5),
    ],
)


def test_csv_has_every_digit_and_two_columns_for_an_interval():
    rows = list(csv.DictReader(io.StringIO(exports.csv(TABLE))))
    assert list(rows[0]) == ["Method", "ToW", "ToW half-width", "p", "Size"]
    assert float(rows[0]["ToW"]) == 0.91234567
    assert float(rows[0]["ToW half-width"]) == 0.05
    assert math.isnan(float(rows[1]["ToW half-width"]))
    assert (rows[1]["p"], rows[2]["ToW"], rows[2]["ToW half-width"]) == ("", "", "")


def test_bounds_are_three_columns_in_csv_and_brackets_elsewhere():
    rows = [("a", Bounds(0.61, 0.58, 0.7)), ("b", Interval(0.5, 0.25)), ("c", None)]
    table = Table("bounds", "Bounds", ("Method", "AUC"), rows)
    first, second, third = csv.DictReader(io.StringIO(exports.csv(table)))
    assert list(first) == ["Method", "AUC", "AUC low", "AUC high", "AUC half-width"]
    assert list(first.values()) == ["a", "0.61", "0.58", "0.7", ""]
    assert list(second.values()) == ["b", "0.5", "", "", "0.25"]
    assert list(third.values()) == ["c", "", "", "", ""]
    assert "| a | 0.610 [0.580, 0.700] |" in exports.markdown(table)
    assert r"a & 0.610 [0.580, 0.700] \\" in exports.latex(table)


def test_markdown_has_a_line_for_every_row_with_as_many_cells():
    lines = exports.markdown(TABLE).splitlines()
    assert len(lines) == 2 + len(TABLE.rows)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(TABLE.columns) + 1}
    assert "0.912 ± 0.050" in lines[2]
    assert r"one \| seed" in lines[3]


def test_the_best_cells_are_bold():
    marked = TABLE._replace(best=frozenset({(0, 1), (2, 0)}))
    assert exports.markdown(marked).count("**") == 4
    assert "| **0.912 ± 0.050** |" in exports.markdown(marked)
    assert r"\textbf{0.912 $\pm$ 0.050} & 0.000123" in exports.latex(marked)
    assert r"\textbf{gone} & " in exports.latex(marked)
    assert "*" not in exports.markdown(TABLE)
    assert "textbf" not in exports.latex(TABLE)
    assert exports.csv(marked) == exports.csv(TABLE)


def test_latex_escapes_what_would_not_compile():
    found = exports.latex(TABLE)
    lines = found.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}"
    assert lines[-1] == r"\end{tabular}"
    assert r"RUM\textasciicircum{}F \& co\_1" in found
    assert r"0.912 $\pm$ 0.050" in found
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 1 + len(TABLE.rows)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(TABLE.columns) - 1}
    assert found.isascii() or "–" not in found


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (0.25, "0.250"),
        (0.000123, "0.000123"),
        (12345.6, "1.23e+04"),
        (math.nan, "–"),
        (7, "7"),
        (Interval(0.5, math.nan), "0.500"),
        (Interval(math.nan, math.nan), "–"),
        (Bounds(0.612, 0.58, 0.7), "0.612 [0.580, 0.700]"),
        (Bounds(0.612, math.nan, math.nan), "0.612"),
        (Bounds(math.nan, 0.1, 0.2), "–"),
    ],
)
def test_cells_are_read_as_they_should_be(cell, shown):
    assert exports.text(cell) == shown


def test_the_summary_of_a_run_is_written_in_every_form(work, experiment):
    results, _ = tables.collect(work, experiment)
    found = exports.summary(results)
    exports.write(work, found)
    for ending in ("csv", "md", "tex"):
        assert work.has(f"tables/summary.{ending}")
    rows = list(csv.DictReader(io.StringIO((work.path / "tables/summary.csv").read_text())))
    assert [float(row["ToW"]) for row in rows] == [
        each.measures["tow"].mean for each in results.summaries
    ]
    assert isinstance(work, WorkDirectory)


def test_in_the_summary_of_a_run_the_highest_tow_of_a_method_is_bold(work, experiment):
    results, _ = tables.collect(work, experiment)
    found = exports.summary(results)
    (row,) = (row for row, position in found.best if found.columns[position] == "ToW")
    best = max(results.methods, key=lambda each: each.measures["tow"].mean)
    assert results.summaries[row] is best
