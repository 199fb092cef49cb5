"""Tables in every form in which people want them: CSV, Markdown, LaTeX."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from rumjax.lab.report import columns
from rumjax.lab.report.tables import Interval, Results, to_csv
from rumjax.lab.workdir import WorkDirectory


class Bounds(NamedTuple):
    """A number and the ends of its interval, which need not lie around it alike; NaN for none."""

    value: float
    low: float
    high: float


Cell: TypeAlias = str | int | float | Interval | Bounds | None
"""None where there is nothing."""

LATEX = {
    **{each: rf"\{each}" for each in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "→": r"$\to$",
    "–": "--",
    "²": r"$^2$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "ε": r"$\varepsilon$",
    "×": r"$\times$",
}


class Table(NamedTuple):
    """A table to be read, and the numbers to be computed with."""

    name: str
    """of its files, without the ending"""
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    best: frozenset[tuple[int, int]] = frozenset()
    """row and column of cells in bold"""


def summary(results: Results) -> Table:
    """The summary of a run: what its report shows."""
    shown = columns.shown_columns(results)
    best = [columns.best_lines(results, column) for column in shown]
    return Table(
        "summary",
        "Results",
        ("Method", "Strategy", *(column.title for column in shown)),
        [
            (
                columns.show_method(each.line),
                columns.show_strategy(each.line),
                *(each.measures.get(column.measure) for column in shown),
            )
            for each in results.summaries
        ],
        best=frozenset(
            (row, position)
            for row, each in enumerate(results.summaries)
            for position, names in enumerate(best, start=2)
            if each.line.name in names
        ),
    )


def text(cell: Cell) -> str:
    """A cell as it is read: three digits after the point, "mean ± half-width", "[low, high]"."""
    if cell is None:
        return "–"
    if isinstance(cell, Bounds):
        value, low, high = (columns.show_number(each, 3) for each in cell)
        return value if "–" in (value, low, high) else f"{value} [{low}, {high}]"
    if isinstance(cell, Interval):
        mean, half_width = columns.show_both(cell)
        return f"{mean} ± {half_width}" if half_width not in ("", "–") else mean
    if isinstance(cell, float):
        if not math.isfinite(cell):
            return "–"
        plain = cell == 0 or 0.001 <= abs(cell) < 1000
        return f"{cell + 0.0:.3f}" if plain else f"{cell:.3g}"
    return str(cell)


def csv(table: Table) -> str:
    """Every number in full; an interval is columns of its own for its half-width or its ends."""
    names: list[dict[str, str]] = []
    for position, column in enumerate(table.columns):
        found = {each: column + each for row in table.rows for each in _numbers(row[position])}
        names.append({"": column} | found)
    rows = [
        {
            own[each]: number
            for own, cell in zip(names, row, strict=True)
            for each, number in _numbers(cell).items()
        }
        for row in table.rows
    ]
    return to_csv([name for own in names for name in own.values()], rows)


def _numbers(cell: Cell) -> dict[str, str | int | float]:
    """What a cell holds, by what is added to its column's name."""
    if isinstance(cell, Interval):
        return {"": cell.mean, " half-width": cell.half_width}
    if isinstance(cell, Bounds):
        return {"": cell.value, " low": cell.low, " high": cell.high}
    return {"": "" if cell is None else cell}


def markdown(table: Table) -> str:
    """A pipe table."""
    lines = [table.columns, ["---"] * len(table.columns)]
    for at, row in enumerate(table.rows):
        cells = [text(cell).replace("|", r"\|") for cell in row]
        lines.append(
            [f"**{cell}**" if (at, n) in table.best else cell for n, cell in enumerate(cells)]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Table) -> str:
    """A tabular with the rules of booktabs; it needs no other package."""

    def escaped(cells: Sequence[str]) -> list[str]:
        return [re.sub(".", lambda m: LATEX.get(m[0], m[0]), each) for each in cells]

    def line(at: int, row: Sequence[Cell]) -> str:
        cells = enumerate(escaped([text(cell) for cell in row]))
        marked = (rf"\textbf{{{cell}}}" if (at, n) in table.best else cell for n, cell in cells)
        return " & ".join(marked)

    body = [line(at, row) for at, row in enumerate(table.rows)]
    form = "l" + "r" * (len(table.columns) - 1)
    lines = [
        rf"\begin{{tabular}}{{{form}}}",
        r"\toprule",
        " & ".join(escaped(table.columns)) + r" \\",
        r"\midrule",
    ]
    lines += [rf"{each} \\" for each in body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write(work: WorkDirectory, table: Table) -> None:
    """Writes `tables/NAME.csv`, `.md` and `.tex`."""
    for ending, form in {"csv": csv, "md": markdown, "tex": latex}.items():
        work.write_text(f"tables/{table.name}.{ending}", form(table))
